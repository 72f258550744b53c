"""Does a Service's last endpoint go, and another come, without a verdict for the kernel to check?"""

from __future__ import annotations

import re

import pytest

from endpoints.addresses import pack
from endpoints.names import Family
from modes.base import Delta, Drift
from modes.held import EVERYTHING, Only
from modes.nftables import looking
from modes.nftables import mode as nftables
from modes.nftables import netlink as nl
from modes.nftables.elements import Value, Verdict, key_prefix, pack_port
from modes.nftables.expressions import native32
from modes.nftables.kernel import Kernel
from modes.nftables.mode import NftablesMode
from modes.nftables.sets import S
from tests.kernel.rulesets import Clustered, add, counted, delete, kinds, nft, ruleset, services
from tests.unit.endpoints.build import NODE_A

S1 = pack("10.96.0.1") + b"\x06\0\0\0" + pack_port(80)
V4 = Family.IPV4
SERVICE = key_prefix(V4, S.SERVICES) + S1
SLOT = key_prefix(V4, S.ENDPOINTS) + S1 + native32(0)
NAME = "shop/s1:http"
FRAME = {nl.NFNL_MSG_BATCH_BEGIN, nl.NFNL_MSG_BATCH_END}


def as_if(monkeypatch: pytest.MonkeyPatch, *, can_miss: bool) -> None:
    """Whatever kernel this is."""
    for module in (nftables, looking):
        monkeypatch.setattr(module, "lookups_can_miss", lambda: can_miss)


@pytest.fixture
def refusing(mode: NftablesMode, monkeypatch: pytest.MonkeyPatch) -> NftablesMode:
    """Three Services of two endpoints, of which the first has then lost both."""
    as_if(monkeypatch, can_miss=False)
    mode.start(NODE_A)
    mode.replace(services(1, 2, 3))
    assert not mode.apply(Delta(services(1, endpoints=0))).failed
    return mode


def wanted() -> Clustered:
    return services(1, endpoints=0) | services(2, 3)


def maps(data: bytes) -> set[str]:
    """The sets and maps that a transaction names."""
    return set(re.findall(r"[a-z-]+(?=\0)", data.decode("latin-1"))) & {of.set_name for of in S}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_last_endpoint_goes_and_comes_by_slots_alone(
    mode: NftablesMode, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    as_if(monkeypatch, can_miss=False)
    mode.start(NODE_A)
    mode.replace(services(*range(1, 20), endpoints=count))
    sending = counted(mode)
    slots = 2 * count  # both families
    for _ in range(3):
        gone = mode.apply(Delta(services(7, endpoints=0)))
        assert (gone.added, gone.deleted) == (0, slots)
        come = mode.apply(Delta(services(7, endpoints=count)))
        assert (come.added, come.deleted) == (slots, 0)
    assert [set(kinds(data)) - FRAME for data in sending.sent] == [
        {nl.DELSETELEM},
        {nl.NEWSETELEM},
    ] * 3
    assert {name for data in sending.sent for name in maps(data)} == {"endpoints"}
    assert not mode.verify()


def test_where_lookups_can_miss_the_verdict_changes(
    mode: NftablesMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packet that misses its slot there would be refused, and its Service has endpoints."""
    as_if(monkeypatch, can_miss=True)
    mode.start(NODE_A)
    mode.replace(services(1, 2, 3))
    sending = counted(mode)
    mode.apply(Delta(services(1, endpoints=0)))
    assert maps(sending.sent[-1]) == {"services", "endpoints"}
    assert "goto no-endpoints" not in nft("list", "chain", "ip", "headgate", "pick-2")
    assert "goto no-endpoints" in nft("list", "map", "ip", "headgate", "services")
    assert not mode.verify()


def test_with_another_number_of_endpoints_the_verdict_changes(refusing: NftablesMode) -> None:
    report = refusing.apply(Delta(services(1, endpoints=1)))
    assert (report.added, report.deleted) == (2 * 2, 2)  # verdict and slot; verdict
    assert not refusing.verify()
    assert refusing.start(NODE_A).kept
    assert refusing.replace(services(1, 2, 3) | services(1, endpoints=1)).messages == 0


@pytest.mark.usefixtures("refusing")
def test_a_restart_keeps_it(kernel: Kernel) -> None:
    before, generation = ruleset(), kernel.generation()
    after = NftablesMode()
    assert after.start(NODE_A).kept
    assert after.replace(wanted()).messages == 0
    assert not after.verify()
    assert kernel.generation() == generation
    assert ruleset() == before
    # And as before it takes slots only when one comes again.
    come = after.apply(Delta(services(1)))
    after.close()
    assert (come.added, come.deleted) == (2 * 2, 0)


def test_who_starts_without_endpoints_has_its_own_verdict(
    mode: NftablesMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if(monkeypatch, can_miss=False)
    mode.start(NODE_A)
    mode.replace(wanted())
    assert '10.96.0.1 . tcp . 80 comment "shop/s1:http" : goto no-endpoints' in nft(
        "list", "map", "ip", "headgate", "services"
    )


def test_a_kernel_that_was_older_gets_its_own_layout(
    refusing: NftablesMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As never happens, for rules do not outlive a kernel; a wrong look at its version might."""
    as_if(monkeypatch, can_miss=True)
    refusing.start(NODE_A)
    refusing.replace(wanted())
    assert "goto no-endpoints" in nft("list", "map", "ip", "headgate", "services")
    assert not refusing.verify()


def test_it_is_told_as_it_is(refusing: NftablesMode) -> None:
    first, *_ = looking.look().services
    assert [(of.rule, of.endpoints) for of in first.frontends] == [
        ("services -> pick-2 -> no-endpoints", ())
    ]
    for only in (EVERYTHING, Only(service="shop/s1"), Only(service="shop/s2")):
        assert looking.look(only).differences(NODE_A, wanted()) == ()
    refusing.apply(Delta(services(1)))
    first, *_ = looking.look().services
    assert [of.rule for of in first.frontends] == ["services -> pick-2"]


@pytest.mark.parametrize(
    ("change", "drift", "told"),
    [
        (
            {SERVICE: Verdict("drop", NAME)},
            Drift(different=("ip services 10.96.0.1 . tcp . 80",)),
            "10.96.0.1:80/TCP in map services: drop, should be goto no-endpoints",
        ),
        (
            {SERVICE: Verdict("goto pick-2", "shop/other:http")},
            Drift(different=("ip services 10.96.0.1 . tcp . 80",)),
            "10.96.0.1:80/TCP in map services: goto pick-2, should be goto no-endpoints",
        ),
        (
            {SLOT: pack("6.6.6.6") + pack_port(80)},
            Drift(extra=("ip endpoints 10.96.0.1 . tcp . 80 . 0",)),
            "endpoint 6.6.6.6:80 in slot 0 of 10.96.0.1:80/TCP",
        ),
    ],
    ids=["verdict", "comment", "slot"],
)
def test_what_others_change_of_it_is_found_and_made_right(
    refusing: NftablesMode, kernel: Kernel, change: dict[bytes, Value], drift: Drift, told: str
) -> None:
    if SERVICE in change:
        delete(kernel, [SERVICE])
    add(kernel, change)
    assert refusing.verify() == drift
    assert [of.what for of in looking.look().differences(NODE_A, wanted())] == [told]
    refusing.start(NODE_A)
    refusing.replace(wanted())
    assert not refusing.verify()
    assert looking.look().differences(NODE_A, wanted()) == ()
    assert "6.6.6.6" not in nft("list", "ruleset")


def test_another_choice_among_none_is_found_and_good_enough(
    refusing: NftablesMode, kernel: Kernel
) -> None:
    """It refuses as well: nothing is written, and from then on it is what is applied."""
    refusing.apply(Delta(services(2, endpoints=3)))
    delete(kernel, [SERVICE])
    add(kernel, {SERVICE: Verdict("goto pick-3", NAME)})
    assert refusing.verify() == Drift(different=("ip services 10.96.0.1 . tcp . 80",))
    refusing.start(NODE_A)
    known = {**wanted(), **services(2, endpoints=3)}
    assert refusing.replace(known).messages == 0
    assert not refusing.verify()
    refusing.apply(Delta(services(1)))
    assert not refusing.verify()
    assert looking.look().differences(NODE_A, {**known, **services(1)}) == ()
