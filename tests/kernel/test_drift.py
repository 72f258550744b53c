"""Is it noticed, and healed, when somebody else changes our tables?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from endpoints.addresses import pack
from endpoints.names import Family, ObjectName
from modes.base import Delta, Drift, KernelFault, Plans
from modes.nftables import codec, ruleset
from modes.nftables import netlink as nl
from modes.nftables.codec import Found
from modes.nftables.elements import Value, Verdict, key_prefix, pack_port
from modes.nftables.expressions import native32
from modes.nftables.kernel import Kernel, Sent
from modes.nftables.looking import look
from modes.nftables.mode import NftablesMode
from modes.nftables.sets import S
from modes.nftables.skeleton import TABLE
from tests.kernel.rulesets import add, commit, delete, nft, remember, services
from tests.unit.endpoints.build import NODE_A

S1 = pack("10.96.0.1") + b"\x06\0\0\0" + pack_port(80)
V4 = Family.IPV4
SERVICE = key_prefix(V4, S.SERVICES) + S1
SLOT = key_prefix(V4, S.ENDPOINTS) + S1 + native32(1)
CLUSTER_IP = key_prefix(V4, S.CLUSTER_IPS) + S1[:4]
STRANGER = key_prefix(V4, S.CLUSTER_IPS) + pack("10.96.0.77")


@pytest.fixture
def running(mode: NftablesMode) -> NftablesMode:
    """Three Services, programmed."""
    mode.start(NODE_A)
    mode.replace(services(1, 2, 3))
    return mode


def changed(kernel: Kernel, key: bytes, value: Value) -> None:
    delete(kernel, [key])
    add(kernel, {key: value})


def test_no_drift_is_seen_where_there_is_none(running: NftablesMode) -> None:
    assert running.verify() == Drift()
    assert not running.verify()


def test_a_missing_element_is_told(running: NftablesMode, kernel: Kernel) -> None:
    delete(kernel, [SERVICE, SLOT])
    assert running.verify() == Drift(
        missing=("ip endpoints 10.96.0.1 . tcp . 80 . 1", "ip services 10.96.0.1 . tcp . 80")
    )


def test_an_extra_element_is_told(running: NftablesMode, kernel: Kernel) -> None:
    add(kernel, {STRANGER: b""})
    assert running.verify() == Drift(extra=("ip cluster-ips 10.96.0.77",))


@pytest.mark.parametrize("map_name", ["services", "endpoints", "cluster-ips", "affinity"])
def test_an_element_for_all_others_is_told_and_goes(running: NftablesMode, map_name: str) -> None:
    """`*`, which the kernel takes since 5.13, in any set without intervals: it has no key."""
    data = {"services": " : drop", "cluster-ips": ""}.get(map_name, " : 6.6.6.6 . 80")
    nft(f"add element ip headgate {map_name} {{ *{data} }}")
    assert running.verify() == Drift(extra=(f"ip {map_name} *",))
    assert len(look().services) == 6
    running.replace(services(1, 2, 3))
    assert not running.verify()
    assert "*" not in nft("list", "map" if data else "set", "ip", "headgate", map_name)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        (SERVICE, Verdict("drop", "shop/s1:http"), "ip services 10.96.0.1 . tcp . 80"),
        (SERVICE, Verdict("goto pick-2", "shop/other"), "ip services 10.96.0.1 . tcp . 80"),
        (SLOT, pack("10.244.2.9") + pack_port(8080), "ip endpoints 10.96.0.1 . tcp . 80 . 1"),
    ],
    ids=["verdict", "comment", "endpoint"],
)
def test_a_different_element_is_told(
    running: NftablesMode, kernel: Kernel, key: bytes, value: Value, told: str
) -> None:
    changed(kernel, key, value)
    assert running.verify() == Drift(different=(told,))


def test_the_node_s_own_elements_are_watched_too(running: NftablesMode, kernel: Kernel) -> None:
    delete(kernel, [key_prefix(V4, S.NODEPORT_IPS) + pack("192.168.0.11")])
    assert running.verify().missing == ("ip nodeport-ips 192.168.0.11",)


STRUCTURE = {
    "chain deleted": "delete chain ip headgate input",
    "chain flushed": "flush chain ip headgate prerouting",
    "rule added": "insert rule ip headgate postrouting accept",
    "chain added": "add chain ip headgate stranger",
    "numbered chain changed": "add rule ip headgate pick-2 counter",
    "policy changed": "add chain ip headgate output { policy drop; }",
    "table dormant": "add table ip headgate { flags dormant; }",
    "rule with a set of its own": "add rule ip headgate services ip saddr { 203.0.113.1 } drop",
    "rule with a chain of its own": "add rule ip headgate output jump { counter; drop; }",
    "counter added": "add counter ip headgate cc",
}


@pytest.mark.parametrize("command", STRUCTURE.values(), ids=STRUCTURE)
def test_a_changed_structure_is_told_and_made_anew(running: NftablesMode, command: str) -> None:
    healthy = nft("list", "ruleset")
    nft(*command.split())
    different = running.verify().different
    assert different[0].startswith("table IPv4 headgate: ")
    running.replace(services(1, 2, 3))
    assert not running.verify()
    assert sorted(nft("list", "ruleset").split()) == sorted(healthy.split())


CLIENT = pack("10.244.1.9") + S1
AFFINITY = key_prefix(V4, S.AFFINITY)


def entry(endpoint: str, client: bytes = CLIENT, set_id: S = S.AFFINITY) -> Found:
    to = pack(endpoint) + pack_port(8080)
    return Found(key_prefix(V4, set_id) + client, to, 3_600_000, 3_600_000)


def sticky() -> dict[ObjectName, Plans]:
    """Service 1 with affinity."""
    (name, (v4, v6)), *_ = services(1).items()
    return {name: (msgspec.structs.replace(v4, affinity_seconds=3600), v6)}


def clients(kernel: Kernel) -> set[bytes]:
    return {found.key for found in kernel.elements(V4, S.AFFINITY)}


def test_a_client_of_an_endpoint_that_nobody_has_is_told_and_forgotten(
    mode: NftablesMode, kernel: Kernel
) -> None:
    """Packets can remember endpoints of the Service only, so somebody put it there."""
    mode.start(NODE_A)
    mode.replace(sticky())
    true = entry("10.244.2.1", pack("10.244.1.8") + S1)
    remember(kernel, [true])
    assert not mode.verify()
    remember(kernel, [entry("6.6.6.6"), entry("10.244.2.1", set_id=S.AFFINITY_LOCAL)])
    assert mode.verify() == Drift(
        extra=(
            "ip affinity 10.244.1.9 . 10.96.0.1 . tcp . 80",
            "ip affinity-local 10.244.1.9 . 10.96.0.1 . tcp . 80",
        )
    )
    mode.start(NODE_A)
    mode.replace(sticky())
    assert not mode.verify()
    assert clients(kernel) == {true.key}


def test_a_flood_of_clients_goes_at_once(mode: NftablesMode, kernel: Kernel) -> None:
    mode.start(NODE_A)
    mode.replace(sticky())
    addresses = [bytes((203, 0, n >> 8, n & 255)) for n in range(1201)]
    flood = [codec.encode_timed(entry("6.6.6.6", address + S1)) for address in addresses]
    for part in (flood[:700], flood[700:]):
        body = nl.element_list(TABLE, "affinity", part)
        commit(kernel, [nl.Message(nl.NEWSETELEM, nl.NLM_F_CREATE, V4, body, [AFFINITY])])
    generation = kernel.generation()
    assert len(mode.verify().extra) == 1201
    mode.replace(sticky())
    assert not clients(kernel)
    assert kernel.generation() - generation == 3


def test_a_table_of_another_owner_is_told_and_served_once_it_is_free(
    running: NftablesMode,
) -> None:
    """The kernel refuses it to root as well, and it deletes the table when the owner ends."""
    owned = nl.text(nl.NFTA_TABLE_NAME, TABLE) + nl.be32(nl.NFTA_TABLE_FLAGS, 2)
    owner = Kernel()
    commit(owner, [ruleset.delete_table(V4), nl.Message(nl.NEWTABLE, nl.NLM_F_CREATE, V4, owned)])
    told = f"table ip headgate belongs to another program .*netlink port {owner.port},"
    assert running.verify().different[0] == "table IPv4 headgate: the table has flags: owner"
    running.start(NODE_A)
    with pytest.raises(KernelFault, match=told):
        running.replace(services(1, 2, 3))
    with pytest.raises(KernelFault, match=told):
        running.cleanup()
    owner.close()
    running.start(NODE_A)
    running.replace(services(1, 2, 3))
    assert not running.verify()


def test_a_table_that_is_gone_is_told(running: NftablesMode) -> None:
    nft("delete", "table", "ip6", "headgate")
    assert running.verify().missing[0] == "table IPv6 headgate: no table yet"


def _nothing(_: Kernel) -> None:
    """Nobody did anything."""


def _deleted_element(kernel: Kernel) -> None:
    delete(kernel, [SERVICE])


def _deleted_other_element(kernel: Kernel) -> None:
    delete(kernel, [SLOT, CLUSTER_IP])


def _added_element(kernel: Kernel) -> None:
    """What the next change would add, as somebody else would have it."""
    add(kernel, {key_prefix(V4, S.SERVICES) + pack("10.96.0.9") + S1[4:]: Verdict("drop", "x")})


def test_what_goes_between_the_look_and_the_commit_stops_nothing(
    running: NftablesMode, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is to be deleted is gone by then, which the kernel takes for a reason to refuse all."""
    healthy = nft("list", "ruleset")
    add(kernel, {STRANGER: b""})
    transact, racing = Kernel.transact, iter([STRANGER])

    def late(self: Kernel, messages: Sequence[nl.Message], *, commit: bool = True) -> Sent:
        for gone in racing:
            delete(kernel, [gone])
        return transact(self, messages, commit=commit)

    monkeypatch.setattr(Kernel, "transact", late)
    report = running.replace(services(1, 2, 3))
    assert report.failed == {}
    assert not running.verify()
    assert sorted(nft("list", "ruleset").split()) == sorted(healthy.split())


def _deleted_table(_: Kernel) -> None:
    nft("delete", "table", "ip", "headgate")


def _flushed_ruleset(_: Kernel) -> None:
    nft("flush", "ruleset")


def _flushed_chain(_: Kernel) -> None:
    nft("delete", "element", "ip", "headgate", "services", "{ 10.96.0.3 . tcp . 80 }")
    nft("flush", "chain", "ip", "headgate", "pick-2")


def _rule_with_a_set_and_a_deleted_element(kernel: Kernel) -> None:
    nft("add rule ip headgate services ip saddr { 203.0.113.1, 203.0.113.2 } drop")
    delete(kernel, [SERVICE])


APPLY = [_nothing, _deleted_element, _added_element, _deleted_table, _flushed_ruleset]


@pytest.mark.parametrize(
    "meddle",
    [*APPLY, _rule_with_a_set_and_a_deleted_element],
    ids=lambda it: it.__name__.strip("_"),
)
def test_apply_heals_what_it_stumbles_over(
    running: NftablesMode, kernel: Kernel, meddle: Callable[[Kernel], None]
) -> None:
    meddle(kernel)
    report = running.apply(Delta(services(9), frozenset({ObjectName("shop", "s1")})))
    assert report.failed == {}
    assert not running.verify()
    names = {told.name for told in look().services}
    assert names == {"shop/s2:http", "shop/s3:http", "shop/s9:http"}


@pytest.mark.parametrize(
    "meddle",
    [_deleted_element, _deleted_other_element, _added_element, _flushed_chain, _flushed_ruleset],
    ids=lambda it: it.__name__.strip("_"),
)
def test_replace_heals_everything(
    running: NftablesMode, kernel: Kernel, meddle: Callable[[Kernel], None]
) -> None:
    healthy = nft("list", "ruleset")
    meddle(kernel)
    assert running.verify()
    report = running.replace(services(1, 2, 3))
    assert report.failed == {}
    assert not running.verify()
    assert sorted(nft("list", "ruleset").split()) == sorted(healthy.split())
