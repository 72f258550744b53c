"""What would kube-proxy have to write for the same cluster? Pure.

A stand-in for it where there is none: its layout of chains (REFERENCE A.2) as input for
`iptables-restore`, one block for each table. Comments are left out, as kube-proxy does above 1,000
endpoints. What kube-proxy itself costs, computing and reading back, is not in it: it can only be
slower.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from endpoints.plan import Endpoint
from modes.iptables import service_chains
from modes.xtables import names
from modes.xtables.rules import CERTAIN, share
from tests.bench import cluster
from tests.bench.cluster import POD_NETWORK, PORT, TARGET_PORT, Size

JUMPS = f"""\
*filter
:{names.SERVICES} - [0:0]
:{names.EXTERNAL_SERVICES} - [0:0]
:{names.NODEPORTS} - [0:0]
:{names.FORWARD} - [0:0]
:{names.PROXY_FIREWALL} - [0:0]
-A INPUT -m conntrack --ctstate NEW -j {names.PROXY_FIREWALL}
-A INPUT -j {names.NODEPORTS}
-A INPUT -m conntrack --ctstate NEW -j {names.EXTERNAL_SERVICES}
-A FORWARD -m conntrack --ctstate NEW -j {names.PROXY_FIREWALL}
-A FORWARD -j {names.FORWARD}
-A FORWARD -m conntrack --ctstate NEW -j {names.SERVICES}
-A FORWARD -m conntrack --ctstate NEW -j {names.EXTERNAL_SERVICES}
-A OUTPUT -m conntrack --ctstate NEW -j {names.PROXY_FIREWALL}
-A OUTPUT -m conntrack --ctstate NEW -j {names.SERVICES}
COMMIT
*nat
:{names.SERVICES} - [0:0]
:{names.POSTROUTING} - [0:0]
-A PREROUTING -j {names.SERVICES}
-A OUTPUT -j {names.SERVICES}
-A POSTROUTING -j {names.POSTROUTING}
COMMIT
"""
"""What leads into its chains; it makes this once, before the first sync."""


def first(of: Size) -> bytes:
    """A full sync: everything."""
    return _sync(of, (_Service(of, number) for number in range(of.services)))


def changes(of: Size, count: int) -> Iterator[bytes]:
    """Partial syncs: an endpoint of a Service goes and, with the next, comes back.

    The chains that Services share are written whole, and those of the Service that changed.
    """
    for pair in range((count + 1) // 2):
        number = pair * of.services * 2 // (count + 1)
        yield _sync(of, [_Service(of, number, lacking=1)])
        yield _sync(of, [_Service(of, number)])


class _Service:
    """The chains of one Service with a cluster IP."""

    def __init__(self, of: Size, number: int, lacking: int = 0) -> None:
        name = cluster.service_port(number)
        self.chain = service_chains.cluster_chain(name)
        self.destination = _destination(number)
        self.endpoints = [
            (address, service_chains.endpoint_chain(name, Endpoint(address, TARGET_PORT)))
            for address in cluster.pods(of, number)[lacking:]
        ]

    def chains(self) -> Iterator[str]:
        yield self.chain
        for _, chain in self.endpoints:
            yield chain

    def rules(self) -> Iterator[str]:
        yield f"{self.chain} ! -s {POD_NETWORK} {self.destination} -j {names.MARK_MASQ}"
        for number, (_, chain) in enumerate(self.endpoints):
            part = share(len(self.endpoints), number) / CERTAIN
            chance = f"-m statistic --mode random --probability {part:.10f} " if part else ""
            yield f"{self.chain} {chance}-j {chain}"
        for address, chain in self.endpoints:
            yield f"{chain} -s {address}/32 -j {names.MARK_MASQ}"
            yield f"{chain} -p tcp -m tcp -j DNAT --to-destination {address}:{TARGET_PORT}"


def _destination(number: int) -> str:
    return f"-d {cluster.cluster_ip(number)}/32 -p tcp -m tcp --dport {PORT}"


def _sync(of: Size, services: Iterable[_Service]) -> bytes:
    changed = list(services)
    lines = list(_filter())
    lines += ["*nat"]
    shared = (names.SERVICES, names.NODEPORTS, names.POSTROUTING, names.MARK_MASQ)
    lines += [f":{chain} - [0:0]" for chain in shared]
    lines += [f":{chain} - [0:0]" for service in changed for chain in service.chains()]
    lines += [f"-A {rule}" for service in changed for rule in service.rules()]
    lines += [f"-A {rule}" for rule in _shared_rules(of)]
    return "\n".join([*lines, "COMMIT", ""]).encode()


def _filter() -> Iterator[str]:
    yield "*filter"
    for chain in (
        names.SERVICES,
        names.EXTERNAL_SERVICES,
        names.NODEPORTS,
        names.FORWARD,
        names.PROXY_FIREWALL,
    ):
        yield f":{chain} - [0:0]"
    yield f"-A {names.FORWARD} -m conntrack --ctstate INVALID -j DROP"
    yield f"-A {names.FORWARD} -m mark --mark 0x4000/0x4000 -j ACCEPT"
    yield f"-A {names.FORWARD} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    yield "COMMIT"


def _shared_rules(of: Size) -> Iterator[str]:
    yield f"{names.POSTROUTING} -m mark ! --mark 0x4000/0x4000 -j RETURN"
    yield f"{names.POSTROUTING} -j MARK --set-xmark 0x4000/0x0"
    yield f"{names.POSTROUTING} -j MASQUERADE --random-fully"
    yield f"{names.MARK_MASQ} -j MARK --set-xmark 0x4000/0x4000"
    for number in range(of.services):
        chain = service_chains.cluster_chain(cluster.service_port(number))
        yield f"{names.SERVICES} {_destination(number)} -j {chain}"
    yield f"{names.SERVICES} -m addrtype --dst-type LOCAL -j {names.NODEPORTS}"
