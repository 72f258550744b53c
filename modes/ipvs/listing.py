"""What would a node get? Pure: no kernel is asked.

Everything in the notation of its own tool: ipvsadm -Sn, ipset save, ip, and iptables-save.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from endpoints.addresses import bracketed
from endpoints.addresses import family as family_of
from endpoints.names import Family, ObjectName, Protocol
from endpoints.node import NodeView
from modes.base import ModeSettings, Plans
from modes.ipvs import ipsets, schedulers
from modes.ipvs.chains import skeleton
from modes.ipvs.fragment import Choice, render
from modes.ipvs.ipsets import PLAIN, Element, Entry, Extra, Kind, SetName, SetSpec
from modes.ipvs.marks import Layout, Marks
from modes.ipvs.program import bound
from modes.ipvs.servers import LINK, WEIGHT, RealServer, ServerKey, VirtualServer, Wanted
from modes.xtables.abilities import Abilities
from modes.xtables.delta import Program
from modes.xtables.listing import ListedTable, listed
from modes.xtables.listing import text as rules_text

_PROTOCOL = {Protocol.TCP: "-t", Protocol.UDP: "-u", Protocol.SCTP: "--sctp-service"}
_METHOD = {2: "-i", 3: "-g"}
"""Tunnels and routes (linux/ip_vs.h); all others are -m."""
_INET = {Family.IPV4: "inet", Family.IPV6: "inet6"}
_BOUND = {Family.IPV4: "/32 dev {} scope host", Family.IPV6: "/128 dev {} preferred_lft 0"}


class ListedServer(msgspec.Struct, frozen=True):
    """A virtual server with its real ones."""

    service: str
    """`namespace/name:port`."""
    key: ServerKey
    scheduler: str
    scheduler_flags: tuple[str, ...]
    persistence_seconds: int
    """0: no affinity."""
    reals: tuple[str, ...]
    """`10.244.1.2:8080`, in the order in which they are told."""


class ListedSet(msgspec.Struct, frozen=True):
    """A set, as it is made and filled at start."""

    name: str
    spec: str
    """`hash:ip,port family inet hashsize 1024 maxelem 4194304`."""
    elements: tuple[str, ...]
    """`10.96.7.7,tcp:80 comment "shop/pay:http"`; sorted."""


class Listed(msgspec.Struct, frozen=True):
    """All that the mode writes for a node."""

    servers: tuple[ListedServer, ...]
    sets: tuple[ListedSet, ...]
    addresses: tuple[str, ...]
    """Those that the link kube-ipvs0 gets."""
    tables: tuple[ListedTable, ...]


def tables(services: Mapping[ObjectName, Plans], node: NodeView, settings: ModeSettings) -> Listed:
    """What a kernel that holds nothing would be told, for these Services on this node.

    For kernels that have every scheduler that is asked for; marks are numbered in the order of the
    Services' names, in a running node in the order in which they came.
    """
    layout = Layout(settings.masquerade_bit)
    choice = Choice(Marks(layout, {}).of, lambda plan: schedulers.asked(plan, settings.ipvs))
    servers: dict[ServerKey, Wanted] = {}
    entries: dict[Entry, Extra] = {}
    addresses: set[str] = set()
    for name in sorted(services):
        fragment = render(services[name], node, choice)
        servers |= fragment.servers
        entries |= dict.fromkeys(fragment.shared, PLAIN)
        entries |= fragment.entries
        addresses |= fragment.addresses
    entries |= dict.fromkeys(map(bound, addresses), PLAIN)
    rules = (Program(f, skeleton(node, f, Abilities(), layout)) for f in Family)
    return Listed(
        tuple(_listed_server(key, servers[key]) for key in sorted(servers)),
        tuple(_sets(entries)),
        tuple(sorted(addresses)),
        tuple(table for program in rules for table in listed(program)),
    )


def _listed_server(key: ServerKey, wanted: Wanted) -> ListedServer:
    return ListedServer(
        str(wanted.name),
        key,
        wanted.server.scheduler,
        schedulers.named(wanted.server),
        wanted.server.persistence_seconds,
        tuple(map(str, wanted.reals)),
    )


def _sets(entries: Mapping[Entry, Extra]) -> Iterator[ListedSet]:
    members: dict[SetName, dict[Element, Extra]] = defaultdict(dict)
    for (name, element), extra in entries.items():
        members[name][element] = extra
    for name in (SetName(kind, family) for family in Family for kind in Kind):
        held = members[name]
        elements = tuple(_element(one, held[one]) for one in _sorted(held))
        yield ListedSet(str(name), spec_words(ipsets.spec(name, len(held))), elements)


def _sorted(elements: Mapping[Element, Extra]) -> list[Element]:
    return sorted(elements, key=lambda e: (e.address, e.protocol or "", e.port, e.other))


def spec_words(of: SetSpec) -> str:
    """How a set is made: `hash:ip family inet hashsize 1024 maxelem 4194304`."""
    if of.family is None:
        return f"{of.type} range 0-65535"
    words = [of.type, f"family {_INET[of.family]}"]
    words += [f"hashsize {of.hash_size}", f"maxelem {of.most_elements}"]
    words += ["timeout 0"] if of.has_timeouts else []
    words += ["comment"] if of.has_comments else []
    words += ["skbinfo"] if of.has_marks else []
    return " ".join(words)


def _element(element: Element, extra: Extra) -> str:
    words = [str(element).removesuffix("/32" if "." in element.address else "/128")]
    words += [f"timeout {extra.timeout_seconds}"] if extra.timeout_seconds else []
    words += [f'comment "{extra.comment}"'] if extra.comment else []
    words += [f"skbmark {extra.mark:#x}"] if extra.mark else []
    return " ".join(words)


def text(of: Listed) -> Iterator[str]:
    """The lines of a listing; a comment before each part names the tool that knows its words."""
    yield "# ipvsadm -Sn"
    for listed_server in of.servers:
        yield from _listed_lines(listed_server)
    yield "# ipset save"
    for one in of.sets:
        yield f"create {one.name} {one.spec}"
        yield from (f"add {one.name} {element}" for element in one.elements)
    yield "# ip"
    for address in of.addresses:
        yield address_line(address)
    yield "# iptables-save, ip6tables-save"
    yield from rules_text(of.tables)


def address_line(address: str) -> str:
    """How the link gets an address."""
    return f"ip addr add {address}{_BOUND[family_of(address)].format(LINK)}"


def element_lines(name: str, elements: Mapping[Element, Extra]) -> Iterator[str]:
    """How a set gets its elements; sorted."""
    return (f"add {name} {_element(one, elements[one])}" for one in _sorted(elements))


def _listed_lines(of: ListedServer) -> Iterator[str]:
    yield _making(of.key, of.scheduler, of.scheduler_flags, of.persistence_seconds)
    yield from (f"-a {_place(of.key)} -r {real} -m -w {WEIGHT}" for real in of.reals)


def server_lines(
    key: ServerKey, of: VirtualServer, reals: Iterable[tuple[RealServer, int, int]]
) -> Iterator[str]:
    """A virtual server with its real ones, each with its weight and the method to reach it."""
    yield _making(key, of.scheduler, schedulers.named(of), of.persistence_seconds)
    for real, weight, method in reals:
        yield f"-a {_place(key)} -r {real} {_METHOD.get(method, '-m')} -w {weight}"


def _making(key: ServerKey, scheduler: str, flags: tuple[str, ...], persistence: int) -> str:
    words = [f"-A {_place(key)} -s {scheduler}"]
    words += [f"-p {persistence}"] if persistence else []
    words += [f"-b {','.join(flags)}"] if flags else []
    return " ".join(words)


def _place(key: ServerKey) -> str:
    if key.mark:
        return f"-f {key.mark}" + (" -6" if key.family is Family.IPV6 else "")
    return f"{_PROTOCOL[key.protocol]} {bracketed(key.address)}:{key.port}"
