"""What does this node's kernel hold, Service by Service?"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from endpoints.addresses import bracketed
from modes.base import DumpedFrontend, DumpedService
from modes.registry import AUTO, BUILT, create
from proxy.config import ConfigError, mode
from proxy.debug.table import aligned, as_json, percent, wants_json
from proxy.every import aside, of_every

_NAME = re.compile(r"[^/:\s]+/[^/:\s]+(:[^/:\s]+)?")


class Dumped(msgspec.Struct, frozen=True):
    """What one mode's rules hold; the answer of `headgate dump -o json` is a list of these."""

    mode: str
    services: tuple[DumpedService, ...]


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate dump`; 1 if the Service that was asked for is not there.

    Raises EnvironmentFault, NotBuilt and ConfigError.
    """
    json = wants_json(flags.output)
    wanted = mode(flags.mode)
    if flags.service and not _NAME.fullmatch(flags.service):
        raise ConfigError("SERVICE", flags.service, "must be namespace/name or namespace/name:port")
    names = BUILT if wanted == AUTO else (wanted,)
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
    lines = ["  ".join(words), *aligned(rows, "  ")]
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


def _endpoints(title: str, frontends: Iterable[DumpedFrontend]) -> list[str]:
    cluster: dict[str, str] = {}
    local: dict[str, str] = {}
    for frontend in frontends:
        cluster |= dict.fromkeys(frontend.endpoints, percent(len(frontend.endpoints) or 1))
        count = len(frontend.local_endpoints) or 1
        local |= dict.fromkeys(frontend.local_endpoints, percent(count))
    if not cluster and not local:
        return ["  no endpoints"]
    columns = {"SHARE": cluster, "LOCAL SHARE": local} if local else {"SHARE": cluster}
    rows = [[title, *columns]]
    rows += [
        [endpoint, *(shares.get(endpoint, "-") for shares in columns.values())]
        for endpoint in dict.fromkeys((*cluster, *local))
    ]
    return aligned(rows, "  ", frozenset({1, 2}))
