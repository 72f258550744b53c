"""Is shown who was asked for, and whom affinity keeps where?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from endpoints.names import Family, Protocol, ServicePortName
from modes.held import DumpedClient, Only
from modes.ipvs.dump import services_in
from modes.ipvs.persistence import Kept
from modes.ipvs.servers import FoundReal, RealServer, ServerKey
from tests.unit.modes.ipvs.test_dump import BOTH, LAYOUT, SHOWN, held
from tests.unit.modes.nftables.build import PAY, cluster_ip, external_ip, node_port, plan_of


def test_whom_affinity_keeps() -> None:
    """By any of its virtual servers; but nobody on an endpoint that drains, or that is gone."""
    made = plan_of(
        cluster_ip("10.96.7.7"), external_ip("198.51.100.9"), cluster=BOTH, affinity_seconds=90
    )
    found = held(made)
    here, there, gone = (RealServer(f"10.244.{a}", 8080) for a in ("1.2", "2.2", "2.9"))
    key, outside = (
        ServerKey(Family.IPV4, Protocol.TCP, address, 80)
        for address in ("10.96.7.7", "198.51.100.9")
    )
    reals = {**found.servers[outside].reals, there: FoundReal(0)}
    found.servers = {
        **found.servers,
        outside: msgspec.structs.replace(found.servers[outside], reals=reals),
    }
    kept = [
        Kept(key, "203.0.113.9", there, 80),
        Kept(key, "203.0.113.7", here, 17),
        Kept(outside, "203.0.113.7", here, 44),
        Kept(outside, "203.0.113.8", there, 50),
        Kept(outside, "203.0.113.8", gone, 50),
        Kept(ServerKey(Family.IPV4, Protocol.UDP, "10.96.7.7", 80), "203.0.113.1", here, 9),
    ]
    (told,) = services_in(found, LAYOUT, kept=kept)
    assert told.clients == (
        DumpedClient("203.0.113.7", SHOWN[0], 44),
        DumpedClient("203.0.113.9", SHOWN[1], 80),
    )


def test_who_is_meant() -> None:
    """By name, with or without its port; or who is reached at a place, with all that it has."""
    dns = [ServicePortName("kube-system", "dns", port, Protocol.UDP) for port in ("dns", "more")]
    found = held(
        plan_of(cluster_ip("10.96.0.10", 53), cluster=BOTH, name=dns[0]),
        plan_of(cluster_ip("10.96.0.10", 54), node_port(30053), cluster=BOTH, name=dns[1]),
        plan_of(cluster_ip("10.96.7.7"), node_port(30080), cluster=BOTH),
    )
    every = services_in(found, LAYOUT)
    assert len(every) == 3
    udp = Protocol.UDP
    wanted: Mapping[Only, Sequence[ServicePortName]] = {
        Only("kube-system/dns"): dns,
        Only("kube-system/dns:more"): dns[1:],
        Only("kube-system"): [],
        Only(address="10.96.0.10", port=54, protocol=udp): dns[1:],
        Only(address="10.96.0.10", port=54): [],
        Only(address="10.96.0.11", port=54, protocol=udp): [],
        Only(address="192.0.2.77", port=30053, protocol=udp): dns[1:],
        Only(address="192.0.2.77", port=30080): [PAY],
    }
    for only, names in wanted.items():
        told = services_in(found, LAYOUT, only)
        assert [of.name for of in told] == [str(name) for name in names], only
        assert all(of in every for of in told)
