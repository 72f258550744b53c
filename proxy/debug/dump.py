"""What does this node's kernel hold, Service by Service?"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from endpoints.addresses import bracketed
from modes.base import DumpedFrontend, DumpedReal, DumpedServer, DumpedService, DumpedTraffic
from modes.registry import AUTO, MODES, create
from proxy.debug.table import aligned, as_json, percent, wants_json
from proxy.every import aside, of_every
from proxy.settings.checks import mode
from proxy.settings.refusal import ConfigError

_BY_WEIGHT = ("rr", "wrr")
"""Schedulers that give a share to each; others look at the client, or at who is busy."""
_COUNTED = ("CONNECTIONS", "PACKETS IN", "OUT", "BYTES IN", "OUT")
_NAME = re.compile(r"[^/:\s]+/[^/:\s]+(:[^/:\s]+)?")


class Dumped(msgspec.Struct, frozen=True):
    """What one mode's rules hold; the answer of `headgate dump -o json` is a list of these."""

    mode: str
    services: tuple[DumpedService, ...]


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate dump`; 1 if the Service that was asked for is not there.

    Raises EnvironmentFault and ConfigError.
    """
    json = wants_json(flags.output)
    wanted = mode(flags.mode)
    if flags.service and not _NAME.fullmatch(flags.service):
        raise ConfigError("SERVICE", flags.service, "must be namespace/name or namespace/name:port")
    names = MODES if wanted == AUTO else (wanted,)
    dumped = of_every(names, lambda name: _dump(name, flags.service))
    found = any(of.services for of in dumped)
    if flags.service and not found:
        print(f"headgate: Service {flags.service} is not in the kernel", file=sys.stderr)
        return 1
    if json:
        print(as_json(dumped))
    elif found:
        blocks = [text(of.mode, service) for of in dumped for service in of.services]
        print("\n\n".join("\n".join(block) for block in blocks))
    else:
        print("no Service is in the kernel")
    return 0


def _dump(name: str, service: str) -> Dumped:
    used = create(name, tell=aside)
    try:
        services = used.dump()
    finally:
        used.close()
    return Dumped(name, tuple(of for of in services if not service or _is(of.name, service)))


def _is(name: str, wanted: str) -> bool:
    """Whether `namespace/name:port` is the wanted Service, or port of it."""
    return name == wanted or name.partition(":")[0] == wanted


def text(mode_name: str, service: DumpedService) -> list[str]:
    """One Service port in one family."""
    words = [service.name, service.protocol, mode_name, service.family]
    if service.affinity_seconds is not None:
        words.append(f"affinity {service.affinity_seconds} s")
    rows = [("FRONTEND", "POLICY", "RULE"), *map(_frontend, service.frontends)]
    lines = ["  ".join(words), *aligned(rows, "  "), *_servers(service.frontends)]
    for title, frontends in _groups(service.frontends):
        lines += _endpoints(title, frontends)
    return lines


def _frontend(frontend: DumpedFrontend) -> tuple[str, str, str]:
    policy = ", ".join((frontend.policy, *frontend.source_ranges))
    return _place(frontend), policy, frontend.rule


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


def _servers(frontends: Iterable[DumpedFrontend]) -> list[str]:
    """The virtual servers of IPVS, each once."""
    servers = {server.name: server for frontend in frontends for server in frontend.servers}
    if not servers:
        return []
    rows: list[tuple[str, ...]] = [("VIRTUAL SERVER", "SCHEDULER", *_COUNTED)]
    rows += [(name, of.scheduler, *_counted([of.traffic])) for name, of in servers.items()]
    return aligned(rows, "  ", frozenset(range(2, len(rows[0]))))


def _counted(of: Iterable[DumpedTraffic]) -> tuple[str, ...]:
    """The cells of _COUNTED: sums."""
    sums = (sum(numbers) for numbers in zip(*map(msgspec.structs.astuple, of), strict=True))
    return tuple(f"{number:,}" for number in sums)


def _endpoints(title: str, frontends: Sequence[DumpedFrontend]) -> list[str]:
    cluster: dict[str, str] = {}
    local: dict[str, str] = {}
    for frontend in frontends:
        cluster |= _shares(frontend, frontend.endpoints)
        local |= _shares(frontend, frontend.local_endpoints)
    reals = _reals(frontends)
    if not cluster and not local and not reals:
        return ["  no endpoints"]
    columns = {"SHARE": cluster, "LOCAL SHARE": local} if local else {"SHARE": cluster}
    of_reals = ("WEIGHT", "ACTIVE", "INACTIVE", *_COUNTED, "STATE") if reals else ()
    rows = [[title, *columns, *of_reals]]
    rows += [
        [
            endpoint,
            *(shares.get(endpoint, "-") for shares in columns.values()),
            *(_real(reals[endpoint]) if endpoint in reals else ()),
        ]
        for endpoint in dict.fromkeys((*cluster, *local, *reals))
    ]
    numbers = range(1, 1 + len(columns) + len(of_reals[:-1]))
    return aligned(rows, "  ", frozenset(numbers))


def _shares(frontend: DumpedFrontend, endpoints: Sequence[str]) -> dict[str, str]:
    """What each gets of new connections, or who decides that."""
    schedulers = {server.scheduler.partition(" ")[0] for server in frontend.servers}
    others = sorted(schedulers.difference(_BY_WEIGHT))
    share = f"by {' or '.join(others)}" if others else percent(len(endpoints) or 1)
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
    weights = sorted({real.weight for real in of})
    left = [real.seconds_left for real in of if real.seconds_left is not None]
    state = f"drains, {max(left)} s left" if left else "drains"
    return (
        "/".join(map(str, weights)),
        f"{sum(real.active for real in of):,}",
        f"{sum(real.inactive for real in of):,}",
        *_counted(real.traffic for real in of),
        "" if weights[0] else state,
    )
