"""Does the kernel forget a client in the moment in which its endpoint is no longer its own?"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from endpoints.addresses import pack
from endpoints.names import Family, ObjectName
from modes.base import Delta
from modes.nftables.codec import Found
from modes.nftables.elements import key_prefix, pack_port
from modes.nftables.kernel import Kernel
from modes.nftables.mode import NftablesMode
from modes.nftables.sets import S
from tests.kernel.rulesets import Clustered, counted, remember, services
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import CLUSTER, LOCAL, external_ip, node_port, plan_of, pods

PAY = ObjectName("shop", "pay")
KEYS = {
    S.AFFINITY: pack("192.0.2.1") + b"\x06\0\0\0" + pack_port(80),
    S.AFFINITY_NODEPORTS: b"\x06\0\0\0" + pack_port(30080),
}
FIRST, SECOND, THIRD = ("10.244.1.2", "10.244.1.3", "10.244.2.2")


def sticky(*addresses: str, local: bool = False) -> Clustered:
    policy = LOCAL if local else CLUSTER
    frontends = (external_ip("192.0.2.1", policy=policy), node_port(30080, policy))
    return {PAY: (plan_of(*frontends, cluster=pods(*addresses), affinity_seconds=3600),)}


def clients(*endpoints: str, seconds: float = 3600) -> list[Found]:
    """A client for each endpoint at each frontend."""
    return [
        Found(
            key_prefix(Family.IPV4, set_id) + pack(f"203.0.113.{number}") + key,
            pack(endpoint) + pack_port(8080),
            3_600_000,
            int(seconds * 1000),
        )
        for set_id, key in KEYS.items()
        for number, endpoint in enumerate(endpoints, 1)
    ]


def remembered(kernel: Kernel) -> set[bytes]:
    return {entry.key for set_id in KEYS for entry in kernel.elements(Family.IPV4, set_id)}


def keys(entries: Iterable[Found]) -> set[bytes]:
    return {entry.key for entry in entries}


@pytest.fixture
def serving(mode: NftablesMode, kernel: Kernel) -> NftablesMode:
    """Three endpoints, and a client of each at each frontend."""
    mode.start(NODE_A)
    mode.replace(sticky(FIRST, SECOND, THIRD))
    remember(kernel, clients(FIRST, SECOND, THIRD))
    return mode


def test_a_client_goes_with_its_endpoint(serving: NftablesMode, kernel: Kernel) -> None:
    serving.apply(Delta(sticky(FIRST, THIRD)))
    stay = [e for e in clients(FIRST, SECOND, THIRD) if pack(SECOND) not in e.value]
    assert remembered(kernel) == keys(stay)
    assert len(stay) == 4


def test_all_clients_go_with_their_service(serving: NftablesMode, kernel: Kernel) -> None:
    serving.apply(Delta({}, frozenset({PAY})))
    assert remembered(kernel) == set()


def test_all_clients_go_when_the_policy_changes(serving: NftablesMode, kernel: Kernel) -> None:
    serving.apply(Delta(sticky(FIRST, SECOND, THIRD, local=True)))
    assert remembered(kernel) == set()


def test_nobody_goes_when_something_else_changes(serving: NftablesMode, kernel: Kernel) -> None:
    sending = counted(serving)
    serving.apply(Delta(sticky(FIRST, SECOND, THIRD, "10.244.2.3")))
    serving.apply(Delta(services(1)))
    assert remembered(kernel) == keys(clients(FIRST, SECOND, THIRD))
    # Nobody even looked: the maps of clients may be large.
    assert len(sending.sent) == 2


def test_a_client_that_ran_out_meanwhile_keeps_nobody_else(
    serving: NftablesMode, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when the mode looked, and is gone when it is to be deleted."""
    gone = clients(*["10.244.9.9"] * 5)[4:5]
    look = serving._kernel.elements

    def looked(family: Family, set_id: S) -> Iterable[Found]:
        ghost = Found(gone[0].key, pack(SECOND) + pack_port(8080))
        return [*([ghost] if set_id is S.AFFINITY else []), *look(family, set_id)]

    monkeypatch.setattr(serving._kernel, "elements", looked)
    serving.apply(Delta(sticky(FIRST, THIRD)))
    stay = [e for e in clients(FIRST, SECOND, THIRD) if pack(SECOND) not in e.value]
    assert remembered(kernel) == keys(stay)
