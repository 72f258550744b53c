"""What do the kernel's settings, links, routes and conntrack say right now?

Everything is read in the network namespace of the calling thread, and nothing is changed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

from conntrack.flows import Filter
from conntrack.kernel import Kernel
from endpoints.addresses import family, pack
from endpoints.explain import Packet
from endpoints.names import Family
from proxy.facts import rtnetlink
from proxy.facts.facts import Facts, Link, Route, Tracked, exception
from proxy.facts.routing import Rtnetlink
from proxy.facts.tracked import tracked

MOST_ROUTES = 2000
"""A router that speaks BGP has a million; the first ones tell how pods are reached."""
MOST_FLOWS = 5000
"""To a busy address without a client there may be a hundred thousand."""
_SYSCTLS = (
    *("net.ipv4.ip_forward", "net.ipv4.ip_nonlocal_bind", "net.ipv4.ip_local_port_range"),
    *("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter"),
    *("net.ipv4.conf.all.route_localnet", "net.ipv4.conf.all.src_valid_mark"),
    *("net.ipv4.conf.all.accept_local", "net.ipv4.conf.all.arp_ignore"),
    *("net.ipv4.conf.all.arp_announce", "net.ipv4.fib_multipath_hash_policy"),
    *("net.ipv6.conf.all.forwarding", "net.ipv6.conf.all.disable_ipv6"),
    *("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"),
    *("net.ipv4.vs.conntrack", "net.ipv4.vs.conn_reuse_mode", "net.ipv4.vs.expire_nodest_conn"),
    *("net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"),
    *("net.netfilter.nf_conntrack_buckets", "net.netfilter.nf_conntrack_acct"),
    *("net.netfilter.nf_conntrack_tcp_be_liberal", "net.netfilter.nf_conntrack_tcp_loose"),
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    *("net.netfilter.nf_conntrack_udp_timeout", "net.netfilter.nf_conntrack_udp_timeout_stream"),
    *("net.netfilter.nf_conntrack_events", "net.netfilter.nf_conntrack_checksum"),
)
_FORWARDING = "net.ipv6.conf.all.forwarding"
_SYSCTL_ROOT = Path("/proc/sys")
_COUNTERS = Path("/proc/thread-self/net/netstat")
_REVERSE_PATH = "IPReversePathFilter"
_SERVICES_LINK = "kube-ipvs0"
_TOOLS = {
    "conntrack": "--version",
    "ip": "-V",
    "iptables": "--version",
    "nft": "--version",
}
"""Others would load a module of the kernel to say which version they are."""
_TOOL_SECONDS = 5


def facts(*, tools: bool = False) -> Facts:
    """Look at this machine. `tools`: and ask programs for their versions, some 10 ms each.

    Raises OSError if rtnetlink refuses, which it does to nobody.
    """
    links = tuple(_links())
    names = {link.index: link.name for link in links}
    routes = [route for of in Family for route in _routes(of, names)]
    return Facts(
        release=os.uname().release,
        sysctls=dict(_sysctls(links)),
        links=links,
        routes=tuple(routes[:MOST_ROUTES]),
        has_more_routes=len(routes) > MOST_ROUTES,
        reverse_path_drops=_counter(_REVERSE_PATH),
        tools=_tools() if tools else {},
    )


def flows(packet: Packet, *, of_client: bool = True) -> tuple[Tracked, ...]:
    """The entries of conntrack for packets to this packet's destination, port and protocol.

    `of_client`: only those from the packet's source; otherwise the first MOST_FLOWS of all. The
    kernel leaves the others out (since Linux 5.8), of IPv6 all but those to other ports.

    Raises KernelFault, and EnvironmentFault without conntrack or privilege.
    """
    of = family(packet.destination)
    ipv4 = of is Family.IPV4
    asked = Filter(
        of,
        packet.protocol,
        packet.destination if ipv4 else None,
        packet.port,
        packet.source if ipv4 and of_client else None,
    )
    with closing(Kernel()) as kernel:
        found = _wanted(kernel.dump(asked), packet, of_client=of_client)
        return tuple(itertools.islice(found, MOST_FLOWS))


def _wanted(dump: Iterator[bytes], packet: Packet, *, of_client: bool) -> Iterator[Tracked]:
    """Those that are of the packet: the kernel may list more."""
    of = family(packet.destination)
    needles = [pack(packet.destination), *([pack(packet.source)] if of_client else [])]
    for payload in dump:
        if not all(needle in payload for needle in needles):  # reading one in full takes 20 us
            continue
        entry = tracked(of, payload)
        if entry is None or entry.flow.protocol is not packet.protocol:
            continue
        source, destination = entry.flow.original
        is_there = (destination.address, destination.port) == (packet.destination, packet.port)
        if is_there and (not of_client or source.address == packet.source):
            yield entry


def _links() -> Iterator[Link]:
    with closing(Rtnetlink()) as route:
        raw = list(rtnetlink.raw_links(route.dump(rtnetlink.GET_LINK, rtnetlink.all_links())))
        names = {link.number: link.name for link in raw}
        services = next((link.number for link in raw if link.name == _SERVICES_LINK), 0)
        addresses: defaultdict[int, list[str]] = defaultdict(list)
        bodies = route.dump(rtnetlink.GET_ADDRESS, rtnetlink.all_addresses())
        for held in rtnetlink.held_addresses(bodies, without=services):
            addresses[held.link].append(held.address)
    return (rtnetlink.link(one, names, addresses[one.number]) for one in raw)


def _routes(of: Family, names: Mapping[int, str]) -> list[Route]:
    """One more than wanted at the most."""
    with closing(Rtnetlink()) as route:
        found = (
            one
            for _, body in route.dump(rtnetlink.GET_ROUTE, rtnetlink.all_routes(of))
            for one in rtnetlink.routes(body, names)
        )
        return list(itertools.islice(found, MOST_ROUTES + 1))


def _sysctls(links: Iterable[Link]) -> Iterator[tuple[str, str]]:
    """What this kernel has of them, and shows to us.

    An exception from IPv6 forwarding being off has a file for each link (Linux 6.17), which are
    read only where it is off.
    """
    found = {name: _SYSCTL_ROOT / name.replace(".", "/") for name in _SYSCTLS}
    yield from _read(found)
    if dict(_read({_FORWARDING: found[_FORWARDING]})).get(_FORWARDING) == "0":
        ipv6 = _SYSCTL_ROOT / "net/ipv6/conf"
        yield from _read(
            {exception(link.name): ipv6 / link.name / "force_forwarding" for link in links}
        )


def _read(files: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    for name, path in files.items():
        with suppress(OSError):
            yield name, path.read_text().strip()


def _counter(name: str) -> int | None:
    """A counter of the network namespace: names stand in one line, and the values in the next."""
    lines = [line.split() for line in _COUNTERS.read_text().splitlines()]
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        if name in names:
            return int(values[names.index(name)])
    return None


def _tools() -> dict[str, str]:
    """What programs say of themselves, by their names; one that is absent or silent is left out."""
    said = {}
    for name, option in _TOOLS.items():
        if program := shutil.which(name):
            with suppress(OSError, subprocess.TimeoutExpired):
                done = subprocess.run(
                    [program, option],
                    capture_output=True,
                    text=True,
                    timeout=_TOOL_SECONDS,
                    check=False,
                )
                said[name] = done.stdout.strip().partition("\n")[0]
    return said
