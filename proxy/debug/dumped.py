"""How does an operator read what a kernel holds of a Service? Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from endpoints.addresses import bracketed
from endpoints.plan import Endpoint, ServicePlan
from modes.held import (
    DumpedFrontend,
    DumpedReal,
    DumpedServer,
    DumpedService,
    DumpedTraffic,
)
from proxy.debug.screen import Screen
from proxy.debug.table import percent
from proxy.desired.desired import Desired

_BY_WEIGHT = ("rr", "wrr")
"""Schedulers that give a share to each; others look at the client, or at who is busy."""
_COUNTED = ("CONNECTIONS", "PACKETS IN", "PACKETS OUT", "BYTES IN", "BYTES OUT")
_CLIENTS = 10


class Member(msgspec.Struct, frozen=True):
    """An endpoint of a Service port, as the cluster knows it."""

    endpoint: str
    """`10.244.1.2:8080`."""
    node: str | None
    zone: str | None
    state: str
    """`ready`, or why it gets nothing here: `ready, but hinted for zone eu-1b; …`."""
    is_used: bool


class Joined(DumpedService, frozen=True):
    """What the kernel holds of a Service port in one family, with what the cluster says of it."""

    members: tuple[Member, ...] | None = None
    """None: nobody was asked, or knows no such Service."""


class Dumped(msgspec.Struct, frozen=True):
    """What one mode's rules hold; the answer of `headgate dump -o json` is a list of these."""

    mode: str
    services: tuple[Joined, ...]


def joined(services: Iterable[DumpedService], known: Desired | None) -> tuple[Joined, ...]:
    """With what is known of the endpoints of each."""
    plans = {} if known is None else {_key(plan): plan for plan in known.plans}
    return tuple(
        Joined(
            **{name: getattr(of, name) for name in DumpedService.__struct_fields__},
            members=_members(plans.get((of.name, of.protocol, of.family))),
        )
        for of in services
    )


def _key(plan: ServicePlan) -> tuple[str, str, str]:
    return str(plan.name), plan.name.protocol, plan.family


def _members(plan: ServicePlan | None) -> tuple[Member, ...] | None:
    if plan is None:
        return None
    used = [_member(of, of.state, is_used=True) for of in {*plan.cluster, *plan.local}]
    unused = [_member(of.endpoint, of.reason, is_used=False) for of in plan.unused]
    return tuple(sorted([*used, *unused], key=lambda of: (not of.is_used, of.endpoint)))


def _member(of: Endpoint, state: str, *, is_used: bool) -> Member:
    return Member(str(of), of.node, of.zone, state, is_used)


def text(mode: str, service: Joined, shown: Screen) -> list[str]:
    """One Service port in one family."""
    words = [service.name, service.protocol, mode, service.family]
    if service.affinity_seconds is not None:
        words.append(f"affinity {service.affinity_seconds} s")
    if service.members is not None:
        used = sum(of.is_used for of in service.members)
        words.append(f"{used} of {len(service.members)} endpoints in use")
    lines = [
        *shown.prose("  ".join(words), hang="  "),
        *_frontends(service.frontends, shown),
        *_servers(service.frontends, shown),
    ]
    for title, frontends in _groups(service.frontends):
        lines += _endpoints(title, service, frontends, shown)
    return lines + _clients(service, shown)


def _frontends(frontends: Sequence[DumpedFrontend], shown: Screen) -> list[str]:
    counted = any(of.new_flows is not None for of in frontends)
    rows = [("FRONTEND", *(["NEW FLOWS"] if counted else []), "POLICY", "RULE")]
    for of in frontends:
        flows = "-" if of.new_flows is None else f"{of.new_flows:,}"
        policy = ", ".join((of.policy, *of.source_ranges))
        rows.append((_place(of), *([flows] if counted else []), policy, of.rule))
    return shown.table(rows, "  ", frozenset({1} if counted else ()))


def _place(frontend: DumpedFrontend) -> str:
    return f"{bracketed(frontend.address)}:{frontend.port}"


def _groups(
    frontends: Sequence[DumpedFrontend],
) -> Iterator[tuple[str, Sequence[DumpedFrontend]]]:
    """Frontends that lead to the same endpoints; as a rule these are all of a Service."""
    lists = {frozenset(f.endpoints) for f in frontends if f.endpoints}
    local_lists = {frozenset(f.local_endpoints) for f in frontends if f.local_endpoints}
    if len(lists) <= 1 and len(local_lists) <= 1:
        yield "ENDPOINT", frontends
        return
    for frontend in frontends:
        yield f"ENDPOINT OF {_place(frontend)}", (frontend,)


def _servers(frontends: Iterable[DumpedFrontend], shown: Screen) -> list[str]:
    """The virtual servers of IPVS, each once."""
    servers = {server.name: server for frontend in frontends for server in frontend.servers}
    if not servers:
        return []
    rows: list[tuple[str, ...]] = [("VIRTUAL SERVER", "SCHEDULER", *_COUNTED)]
    rows += [(name, of.scheduler, *_counted([of.traffic])) for name, of in servers.items()]
    return shown.table(rows, "  ", frozenset(range(2, len(rows[0]))), give=0)


def _counted(of: Iterable[DumpedTraffic]) -> tuple[str, ...]:
    """The cells of _COUNTED: sums."""
    sums = (sum(numbers) for numbers in zip(*map(msgspec.structs.astuple, of), strict=True))
    return tuple(f"{number:,}" for number in sums)


def _endpoints(
    title: str, service: Joined, frontends: Sequence[DumpedFrontend], shown: Screen
) -> list[str]:
    cluster: dict[str, str] = {}
    local: dict[str, str] = {}
    for frontend in frontends:
        cluster |= _shares(frontend, frontend.endpoints, -1)
        local |= _shares(frontend, frontend.local_endpoints, 0)
    reals = _reals(frontends)
    members = {of.endpoint: of for of in service.members or ()}
    named = dict.fromkeys((*cluster, *local, *reals, *members))
    if not named:
        return ["  no endpoints"]
    columns = _columns(cluster, local, service, reals)
    states = {name: _state(name, members, reals, {*cluster, *local}) for name in named}
    has_states = service.members is not None or any(states.values())
    rows = [[title, *(["NODE", "ZONE"] if members else []), *columns]]
    rows[0] += ["STATE"] if has_states else []
    for name in named:
        row = [name, *(_where(members.get(name)) if members else ())]
        row += [cells.get(name, "-") for cells in columns.values()]
        rows.append([*row, *([states[name]] if has_states else [])])
    first = 3 if members else 1
    return shown.table(rows, "  ", frozenset(range(first, first + len(columns))))


def _columns(
    cluster: Mapping[str, str],
    local: Mapping[str, str],
    service: Joined,
    reals: Mapping[str, Sequence[DumpedReal]],
) -> dict[str, Mapping[str, str]]:
    """Titles and cells by endpoint."""
    found: dict[str, Mapping[str, str]] = {"SHARE": cluster}
    if local:
        found["LOCAL SHARE"] = local
    if service.endpoint_flows and not reals:
        found["NEW FLOWS"] = {name: f"{n:,}" for name, n in service.endpoint_flows.items()}
    if reals:
        rows = {name: _real(of) for name, of in reals.items()}
        titles = ("WEIGHT", "ACTIVE", "INACTIVE", *_COUNTED)
        found |= {
            title: {name: row[i] for name, row in rows.items()} for i, title in enumerate(titles)
        }
    return found


def _where(member: Member | None) -> tuple[str, str]:
    return (member.node or "-", member.zone or "-") if member else ("-", "-")


def _state(
    name: str,
    members: Mapping[str, Member],
    reals: Mapping[str, Sequence[DumpedReal]],
    chosen: set[str],
) -> str:
    """What the cluster says of an endpoint, and what IPVS does with one that it gives no more."""
    drains = _drains(reals.get(name, ()))
    member = members.get(name)
    if member is None:
        return ", ".join(filter(None, (drains, "not an endpoint of the Service" * bool(members))))
    if member.is_used and name not in chosen and not drains:
        return f"{member.state}, but not in the kernel"
    return ", ".join(filter(None, (drains, member.state)))


def _shares(frontend: DumpedFrontend, endpoints: Sequence[str], index: int) -> dict[str, str]:
    """What each gets of new connections, or who decides that: the virtual server of this list."""
    scheduler = frontend.servers[index].scheduler.partition(" ")[0] if frontend.servers else ""
    by_scheduler = scheduler and scheduler not in _BY_WEIGHT
    share = f"by {scheduler}" if by_scheduler else percent(len(endpoints) or 1)
    return dict.fromkeys(endpoints, share)


def _reals(frontends: Iterable[DumpedFrontend]) -> dict[str, list[DumpedReal]]:
    """The real servers of all virtual servers, by endpoint."""
    servers: dict[str, DumpedServer] = {of.name: of for f in frontends for of in f.servers}
    found: dict[str, list[DumpedReal]] = {}
    for server in servers.values():
        for real in server.reals:
            found.setdefault(real.endpoint, []).append(real)
    return found


def _real(of: Sequence[DumpedReal]) -> tuple[str, ...]:
    """The cells of an endpoint of IPVS: what it is to all virtual servers together."""
    return (
        "/".join(map(str, sorted({real.weight for real in of}))),
        f"{sum(real.active for real in of):,}",
        f"{sum(real.inactive for real in of):,}",
        *_counted(real.traffic for real in of),
    )


def _drains(of: Sequence[DumpedReal]) -> str:
    if not of or min(real.weight for real in of):
        return ""
    left = [real.seconds_left for real in of if real.seconds_left is not None]
    return f"drains, {max(left)} s left" if left else "drains"


def _clients(service: Joined, shown: Screen) -> list[str]:
    """Whom affinity keeps where."""
    if not service.clients:
        return []
    rows = [("CLIENT", "KEPT ON", "FOR")]
    for of in service.clients[:_CLIENTS]:
        left = "-" if of.seconds_left is None else f"{of.seconds_left} s"
        rows.append((of.address, of.endpoint, left))
    lines = shown.table(rows, "  ", frozenset({2}))
    if len(service.clients) > _CLIENTS:
        lines.append(f"  and {len(service.clients) - _CLIENTS:,} more clients: -o json has all")
    return lines
