"""Is each place of a Service known, and whose it is?"""

from __future__ import annotations

from endpoints.names import Protocol
from modes.held import DumpedFrontend, DumpedService
from proxy.debug.rates.reached import Place, as_tracked, reached

OWN = ("127.0.0.1", "192.168.0.11", "::1", "fd00:192:168::11")
TCP = Protocol.TCP


def held(name: str, family: str, *frontends: tuple[str, int]) -> DumpedService:
    """A Service port of TCP."""
    listed = tuple(DumpedFrontend(address, port, "Cluster", "") for address, port in frontends)
    return DumpedService(name, "TCP", family, listed)


def test_node_ports_are_at_each_address_of_the_node() -> None:
    pay = held("shop/pay:http", "IPv4", ("10.96.7.7", 80), ("node", 30080))
    pay6 = held("shop/pay:http", "IPv6", ("fd00:10:96::7", 80), ("node", 30080))
    places = reached([pay, pay6], OWN)
    assert set(places.values()) == {"shop/pay:http"}
    assert set(places) == {
        Place("10.96.7.7", 80, TCP),
        Place("fd00:10:96::7", 80, TCP),
        *(Place(address, 30080, TCP) for address in OWN),
    }
    assert len(as_tracked(places)) == len(places)


def test_who_has_the_address_comes_before_who_has_the_node_port() -> None:
    ported = held("shop/pay:http", "IPv4", ("node", 30080))
    external = held("shop/out:http", "IPv4", ("192.168.0.11", 30080))
    for services in ([ported, external], [external, ported]):
        places = reached(services, OWN)
        assert places[Place("192.168.0.11", 30080, TCP)] == "shop/out:http"
        assert places[Place("127.0.0.1", 30080, TCP)] == "shop/pay:http"
