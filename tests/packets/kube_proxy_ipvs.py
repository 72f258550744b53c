"""What does kube-proxy's IPVS mode leave in a kernel? Pure.

A stand-in from the facts of REFERENCE D (kube-proxy 1.30): its sets by their names, types and limits,
its link, its virtual servers and its chains, for Services with a cluster IP, a NodePort and endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from endpoints.addresses import bracketed


class Served(NamedTuple):
    """One port of a Service in one family, TCP."""

    address: str
    port: int
    node_port: int
    reals: tuple[str, ...]
    """Endpoints, with port."""


_HASH = "hashsize 1024 maxelem 65536"
_SETS = {
    "KUBE-LOOP-BACK": "hash:ip,port,ip",
    "KUBE-CLUSTER-IP": "hash:ip,port",
    "KUBE-EXTERNAL-IP": "hash:ip,port",
    "KUBE-EXTERNAL-IP-LOCAL": "hash:ip,port",
    "KUBE-LOAD-BALANCER": "hash:ip,port",
    "KUBE-LOAD-BALANCER-LOCAL": "hash:ip,port",
    "KUBE-LOAD-BALANCER-FW": "hash:ip,port",
    "KUBE-LOAD-BALANCER-SOURCE-CIDR": "hash:ip,port,net",
    "KUBE-LOAD-BALANCER-SOURCE-IP": "hash:ip,port,ip",
    "KUBE-NODE-PORT-TCP": "bitmap:port",
    "KUBE-NODE-PORT-LOCAL-TCP": "bitmap:port",
    "KUBE-NODE-PORT-UDP": "bitmap:port",
    "KUBE-NODE-PORT-LOCAL-UDP": "bitmap:port",
    "KUBE-NODE-PORT-SCTP-HASH": "hash:ip,port",
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH": "hash:ip,port",
    "KUBE-HEALTH-CHECK-NODE-PORT": "bitmap:port",
    "KUBE-IPVS-IPS": "hash:ip",
}


def set_name(name: str, *, is_ipv6: bool) -> str:
    """As kube-proxy spells it, cut to what the kernel takes."""
    return f"KUBE-6-{name.removeprefix('KUBE-')}"[:31] if is_ipv6 else name


def sets(services: Iterable[Served], local: Iterable[str], *, is_ipv6: bool) -> Iterator[str]:
    """For `ipset restore`; `local`: endpoints on this node, with port."""
    family = "inet6" if is_ipv6 else "inet"

    def named(name: str) -> str:
        return set_name(name, is_ipv6=is_ipv6)

    for name, kind in _SETS.items():
        how = "range 0-65535" if kind == "bitmap:port" else f"family {family} {_HASH}"
        yield f"create {named(name)} {kind} {how}"
    for one in services:
        yield f"add {named('KUBE-CLUSTER-IP')} {one.address},tcp:{one.port}"
        yield f"add {named('KUBE-IPVS-IPS')} {one.address}"
        if one.node_port:
            yield f"add {named('KUBE-NODE-PORT-TCP')} {one.node_port}"
    for real in local:
        address, _, port = real.rpartition(":")
        plain = address.strip("[]")
        yield f"add {named('KUBE-LOOP-BACK')} {plain},tcp:{port},{plain}"


def virtual_servers(services: Iterable[Served], node_addresses: Iterable[str]) -> Iterator[str]:
    """For `ipvsadm -R`."""
    for one in services:
        places = [f"{bracketed(one.address)}:{one.port}"]
        if one.node_port:
            places += [f"{bracketed(address)}:{one.node_port}" for address in node_addresses]
        for place in places:
            yield f"-A -t {place} -s rr"
            yield from (f"-a -t {place} -r {real} -m -w 1" for real in one.reals)


def link(services: Iterable[Served]) -> Iterator[str]:
    """For `ip -batch`, when the link is there."""
    for one in services:
        length, more = (128, " nodad") if ":" in one.address else (32, "")
        yield f"address add {one.address}/{length} dev kube-ipvs0{more}"


def rules(pods: str, *, is_ipv6: bool) -> str:
    """For `iptables-restore --noflush`; `pods`: the cluster CIDR."""

    def named(name: str) -> str:
        return set_name(name, is_ipv6=is_ipv6)

    home = "::1/128" if is_ipv6 else "127.0.0.0/8"
    port_unreachable = "icmp6-port-unreachable" if is_ipv6 else "icmp-port-unreachable"
    return f"""*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-SERVICES -s {home} -j RETURN
-A KUBE-SERVICES ! -s {pods} -m set --match-set {named("KUBE-CLUSTER-IP")} dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set {named("KUBE-CLUSTER-IP")} dst,dst -j ACCEPT
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-NODE-PORT -p tcp -m set --match-set {named("KUBE-NODE-PORT-TCP")} dst -j KUBE-MARK-MASQ
-A KUBE-POSTROUTING -m set --match-set {named("KUBE-LOOP-BACK")} dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
-A INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER
-A INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT
-A FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-NODE-PORT -m set --match-set {named("KUBE-HEALTH-CHECK-NODE-PORT")} dst -j ACCEPT
-A KUBE-SOURCE-RANGES-FIREWALL -j DROP
-A KUBE-IPVS-FILTER -m set --match-set {named("KUBE-LOAD-BALANCER")} dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set {named("KUBE-CLUSTER-IP")} dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set {named("KUBE-IPVS-IPS")} dst -j REJECT --reject-with {port_unreachable}
COMMIT
"""
