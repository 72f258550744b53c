"""Are rules that fit kept without a word, and others told and mended?"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from endpoints.names import Family, ObjectName
from modes.base import Delta, Plans
from modes.iptables import service_chains
from modes.iptables.looking import look
from modes.iptables.mode import IptablesMode
from modes.xtables import names
from modes.xtables.names import Table
from modes.xtables.rules import ChainName
from modes.xtables.variant import Variant
from tests.kernel.iptables import others, tables
from tests.kernel.rulesets import services
from tests.unit.endpoints.build import NODE_A

V4 = Family.IPV4
KNOWN = services(1, 2, 3, endpoints=3)
(PLAN, _) = KNOWN[ObjectName("shop", "s1")]
SVC = service_chains.cluster_chain(PLAN.name)
SEP = service_chains.endpoint_chain(PLAN.name, PLAN.cluster[0])


def restarted(mode: IptablesMode, known: Mapping[ObjectName, Plans], v: Variant) -> IptablesMode:
    """A new process after a crash of the old one."""
    mode.start(NODE_A)
    mode.replace(known)
    mode.close()
    return tables.mode_of(v)


def test_a_restart_writes_nothing(
    mode: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = restarted(mode, KNOWN, variant)
    before = tables.everything(variant)
    adopted = after.start(NODE_A)
    assert (adopted.kept, adopted.elements > 60, adopted.warnings) == (True, True, ())
    texts = tables.Texts(monkeypatch)
    report = after.replace(KNOWN)
    assert (report.added, report.deleted, report.messages, report.bytes_sent) == (0, 0, 0, 0)
    assert texts.all == []
    assert tables.everything(variant) == before
    assert not after.verify()


def test_a_restart_writes_only_what_changed_meanwhile(
    mode: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = restarted(mode, KNOWN, variant)
    after.start(NODE_A)
    texts = tables.Texts(monkeypatch)
    after.replace({**services(1, 2, endpoints=3), **services(4, endpoints=1)})
    for family in Family:
        (text,) = texts.of(family)
        assert not any(f"shop/s{n}:" in text for n in (1, 2))
        assert ("shop/s3:" in text, "shop/s4:" in text) == (True, True)
    assert not after.verify()
    assert {told.name for told in look().services} == {f"shop/s{n}:http" for n in (1, 2, 4)}


def test_the_first_start_writes_nothing_that_stays(mode: IptablesMode, variant: Variant) -> None:
    assert not mode.start(NODE_A).kept
    for found in tables.everything(variant).values():
        assert not any(chain.name.startswith("KUBE-") for chain in found)
        assert not any(found.values())


JUMP = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
STALE = "KUBE-SEP-AAAAAAAAAAAAAAAA"
MEDDLED = {
    "a rule deleted": (f"-t nat -D {SVC} 3", "missing", f"nat -A {SVC} -m comment"),
    "a rule changed": (
        f"-t nat -R {SEP} 1 -p tcp -j DNAT --to-destination 10.9.9.9:1",
        "missing extra",
        f"nat -A {SEP} -p tcp -j DNAT --to-destination 10.9.9.9:1",
    ),
    "a stranger in a chain of a Service": (
        f"-t nat -A {SVC} -j RETURN",
        "extra",
        f"nat -A {SVC} -j RETURN",
    ),
    "a stranger in a shared chain": (
        "-I KUBE-SERVICES 2 -p udp -j ACCEPT",
        "extra",
        "filter -A KUBE-SERVICES -p udp -j ACCEPT",
    ),
    "a stranger before what must be first": (
        "-I KUBE-SERVICES 1 -p udp -j ACCEPT",
        "extra",
        "filter -A KUBE-SERVICES -p udp -j ACCEPT",
    ),
    "a stranger behind what must be last": (
        "-t nat -A KUBE-SERVICES -p udp -j ACCEPT",
        "extra",
        "nat -A KUBE-SERVICES -p udp -j ACCEPT",
    ),
    "a stranger in a chain of the node": (
        "-t nat -I KUBE-POSTROUTING -j RETURN",
        "extra",
        "nat -A KUBE-POSTROUTING -j RETURN",
    ),
    "a rule twice": (
        "-t nat -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
        "extra",
        "nat -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
    ),
    "another order": (
        (
            "-t nat -D KUBE-POSTROUTING 1\n"
            "-t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN"
        ),
        "different",
        "nat KUBE-POSTROUTING: its rules stand in another order",
    ),
    "a shared chain flushed": (
        "-t nat -F KUBE-SERVICES",
        "missing",
        (
            "nat -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "
            f'"shop/s1:http cluster IP" -m tcp --dport 80 -j {SVC}'
        ),
    ),
    "a jump deleted": ("-t nat -D PREROUTING 1", "missing", f"nat -A PREROUTING {JUMP}"),
    "a jump twice": (
        "-t nat -A OUTPUT -j KUBE-SERVICES",
        "extra",
        "nat -A OUTPUT -j KUBE-SERVICES",
    ),
    "a stale chain": (
        f"-t nat -N {STALE}\n-t nat -A {STALE} -j RETURN",
        "extra",
        f"nat -A {STALE} -j RETURN",
    ),
    "nat flushed": ("-t nat -F", "missing", f"nat -A PREROUTING {JUMP}"),
    "nat deleted": ("-t nat -F\n-t nat -X", "missing", f"nat -A {SEP} -p tcp -m comment"),
    "filter deleted": ("-F\n-X", "missing", "filter -A KUBE-REFUSE -p tcp -j REJECT"),
}


@pytest.mark.parametrize(("commands", "kinds", "told"), MEDDLED.values(), ids=MEDDLED)
def test_what_others_change_is_told_and_mended(
    mode: IptablesMode,
    variant: Variant,
    monkeypatch: pytest.MonkeyPatch,
    commands: str,
    kinds: str,
    told: str,
) -> None:
    mode.start(NODE_A)
    mode.replace(KNOWN)
    healthy = tables.state(variant)
    for restarts in (False, True):
        for words in commands.splitlines():
            tables.iptables(variant, *words.split())
        drift = mode.verify()
        assert {kind for kind in drift.__struct_fields__ if getattr(drift, kind)} == {
            *kinds.split()
        }
        listed = (*drift.missing, *drift.extra, *drift.different)
        assert any(line.startswith(f"IPv4 {told}") for line in listed)
        if restarts:
            mode.start(NODE_A)
        with monkeypatch.context() as patch:
            texts = tables.Texts(patch)
            assert not mode.replace(KNOWN).failed
            assert (len(texts.of(V4)), texts.of(Family.IPV6)) == (1, [])
        assert not mode.verify()
        assert tables.state(variant) == healthy


STUMBLED_OVER = {
    "a rule deleted": "-t nat -D KUBE-SERVICES 1",
    "a shared chain flushed": "-t nat -F KUBE-SERVICES",
    "nat flushed": "-t nat -F",
    "nat deleted": "-t nat -F\n-t nat -X",
    "everything deleted": "-F\n-X\n-t nat -F\n-t nat -X",
}


@pytest.mark.parametrize("commands", STUMBLED_OVER.values(), ids=STUMBLED_OVER)
def test_apply_heals_what_it_stumbles_over(
    mode: IptablesMode, variant: Variant, commands: str
) -> None:
    """s1 goes: its rules cannot be deleted where they are gone already."""
    mode.start(NODE_A)
    after = {**services(2, 3, endpoints=3), **services(9)}
    mode.replace(after)
    healthy = tables.state(variant)
    mode.replace(KNOWN)
    rules = tables.held(variant)[ChainName(Table.NAT, names.SERVICES)]
    at = 1 + next(i for i, rule in enumerate(rules) if SVC in rule)
    for words in commands.replace("KUBE-SERVICES 1", f"KUBE-SERVICES {at}").splitlines():
        tables.iptables(variant, *words.split())
    report = mode.apply(Delta(services(9), frozenset({ObjectName("shop", "s1")})))
    assert not report.failed
    assert not mode.verify()
    assert tables.state(variant) == healthy


def test_what_happens_between_start_and_replace_is_nobody_s_fault(
    mode: IptablesMode, variant: Variant
) -> None:
    mode.start(NODE_A)
    mode.replace(KNOWN)
    after = {**KNOWN, **services(9)}
    mode.start(NODE_A)
    for flag in ("-F", "-X"):
        tables.iptables(variant, "-t", "nat", flag)
    assert not mode.replace(after).failed
    assert not mode.verify()
    assert {told.name for told in look().services} == {f"shop/s{n}:http" for n in (1, 2, 3, 9)}


FOREIGN_JUMP = ("-t", "nat", "-A", "PREROUTING", "-p", "udp", "-j", SVC)


def test_a_stale_chain_that_somebody_needs_is_emptied_and_kept(
    mode: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode.start(NODE_A)
    mode.replace(KNOWN)
    tables.iptables(variant, *FOREIGN_JUMP)
    chain = ChainName(Table.NAT, SVC)
    report = mode.apply(Delta({}, frozenset({ObjectName("shop", "s1")})))
    assert not report.failed
    held = tables.held(variant)
    assert held[chain] == []
    assert f"-p udp -j {SVC}" in held[ChainName(Table.NAT, "PREROUTING")]
    assert ChainName(Table.NAT, SEP) not in held
    assert not mode.verify()

    after = tables.mode_of(variant)
    after.start(NODE_A)
    with monkeypatch.context() as patch:
        texts = tables.Texts(patch)
        after.replace(services(2, 3, endpoints=3))
        assert texts.all == []
    tables.iptables(variant, "-t", "nat", "-A", SVC, "-j", "RETURN")
    assert after.verify().extra == (f"IPv4 nat -A {SVC} -j RETURN",)
    after.replace(services(2, 3, endpoints=3))
    assert tables.held(variant)[chain] == []

    after.replace(KNOWN)
    assert tables.held(variant)[chain] != []
    tables.iptables(variant, *("-D" if word == "-A" else word for word in FOREIGN_JUMP))
    after.replace(services(2, 3, endpoints=3))
    assert chain not in tables.held(variant)
    after.close()


HOST_PORT = """\
*nat
:KUBE-MARK-MASQ - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A CNI-HOSTPORT-SETMARK -s 10.244.1.0/24 -j KUBE-MARK-MASQ
-A PREROUTING -p tcp -m tcp --dport 8443 -j CNI-HOSTPORT-SETMARK
COMMIT
"""
MARK_MASQ = ChainName(Table.NAT, names.MARK_MASQ)


def test_what_others_masquerade_stays_masqueraded(
    mode: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plugins for hostPort of older days jump to a chain that is ours."""
    others.write(variant, HOST_PORT)
    others.write(variant, "*filter\nCOMMIT\n")
    before = tables.held(variant)
    texts = tables.Texts(monkeypatch)
    mode.start(NODE_A)
    mode.replace(KNOWN)
    mode.apply(Delta({}, frozenset(KNOWN)))
    assert not any(":KUBE-MARK-MASQ " in text for text in texts.of(V4))
    held = tables.held(variant)
    assert held[MARK_MASQ] == ["-j MARK --set-xmark 0x4000/0x4000"]
    for chain in ("PREROUTING", "CNI-HOSTPORT-SETMARK"):
        name = ChainName(Table.NAT, chain)
        assert {*before[name]} <= {*held[name]}

    assert mode.cleanup()
    assert tables.held(variant) == before | {MARK_MASQ: []}
    assert not mode.cleanup()
