"""Is it noticed, and healed, when somebody else changes our tables?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from endpoints.addresses import pack
from endpoints.names import Family, ObjectName
from modes.base import Delta, Drift
from modes.nftables.elements import Value, Verdict, key_prefix, pack_port
from modes.nftables.expressions import native32
from modes.nftables.kernel import Kernel
from modes.nftables.mode import NftablesMode
from modes.nftables.sets import S
from tests.kernel.rulesets import add, delete, nft, services
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


def _deleted_table(_: Kernel) -> None:
    nft("delete", "table", "ip", "headgate")


def _flushed_ruleset(_: Kernel) -> None:
    nft("flush", "ruleset")


def _flushed_chain(_: Kernel) -> None:
    nft("delete", "element", "ip", "headgate", "services", "{ 10.96.0.3 . tcp . 80 }")
    nft("flush", "chain", "ip", "headgate", "pick-2")


@pytest.mark.parametrize(
    "meddle",
    [_nothing, _deleted_element, _added_element, _deleted_table, _flushed_ruleset],
    ids=lambda it: it.__name__.strip("_"),
)
def test_apply_heals_what_it_stumbles_over(
    running: NftablesMode, kernel: Kernel, meddle: Callable[[Kernel], None]
) -> None:
    meddle(kernel)
    report = running.apply(Delta(services(9), frozenset({ObjectName("shop", "s1")})))
    assert report.failed == {}
    assert not running.verify()
    names = {told.name for told in running.dump()}
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
