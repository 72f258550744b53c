"""What was read of a kernel, and how is it kept for later? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from endpoints.names import Family
from modes.held import Only
from modes.ipvs.adopt import Found
from modes.ipvs.chains import whose
from modes.ipvs.ipsets import Element, Extra, FoundSet, Kind, SetName, SetSpec
from modes.ipvs.persistence import Kept
from modes.ipvs.servers import FoundReal, FoundServer, RealServer, ServerKey, Traffic, VirtualServer
from modes.xtables.adopt import Found as FoundRules
from modes.xtables.script import read

VERSION = 1
"""Of the document. A reader knows one."""


class SeenRules(msgspec.Struct, frozen=True):
    """The host's iptables."""

    variant: str = ""
    saved: Mapping[Family, str] = {}
    """What iptables-save printed of the families that it serves."""
    fault: str = ""
    """Why it was not read, if it was not."""


class Seen(msgspec.Struct, frozen=True):
    """Everything, ours and others'; if not all Services were meant, only some virtual servers."""

    only: Only
    servers: Mapping[ServerKey, FoundServer]
    sets: Mapping[SetName, FoundSet]
    addresses: frozenset[str] | None
    """Those of the link of ours; None: there is no link."""
    rules: SeenRules
    sysctls: Mapping[str, str]
    """By path, as `sysctls.PATHS`; what the kernel lacks is not there."""
    schedulers: frozenset[str]
    """Those whose modules are loaded."""
    kernel_version: tuple[int, int]
    kept: tuple[Kept, ...] = ()

    def found(self) -> Found:
        """For the mode's own code."""
        held = self.addresses or frozenset()
        return Found(self.servers, self.sets, held, whose(self.rules_by_family().values()))

    def rules_by_family(self) -> dict[Family, FoundRules]:
        """The rules of each family that iptables serves. Raises KernelFault."""
        return {family: read(text) for family, text in self.rules.saved.items()}


class _Server(msgspec.Struct, frozen=True):
    key: ServerKey
    server: VirtualServer
    traffic: Traffic
    reals: tuple[tuple[RealServer, FoundReal], ...]


class _Set(msgspec.Struct, frozen=True):
    kind: Kind
    family: Family
    spec: SetSpec | None
    elements: tuple[tuple[Element, Extra], ...]


class _Document(msgspec.Struct, frozen=True):
    version: int
    only: Only
    servers: tuple[_Server, ...]
    sets: tuple[_Set, ...]
    addresses: tuple[str, ...] | None
    rules: SeenRules
    sysctls: Mapping[str, str]
    schedulers: tuple[str, ...]
    kernel_version: tuple[int, int]
    kept: tuple[Kept, ...]


def document(seen: Seen) -> object:
    """Values of JSON that say all of it."""
    return msgspec.to_builtins(
        _Document(
            VERSION,
            seen.only,
            tuple(_servers(seen)),
            tuple(
                _Set(*name, of.spec, tuple(of.elements.items())) for name, of in seen.sets.items()
            ),
            None if seen.addresses is None else tuple(sorted(seen.addresses)),
            seen.rules,
            seen.sysctls,
            tuple(sorted(seen.schedulers)),
            seen.kernel_version,
            seen.kept,
        )
    )


def _servers(seen: Seen) -> Iterator[_Server]:
    for key, of in seen.servers.items():
        yield _Server(key, of.server, of.traffic, tuple(of.reals.items()))


def seen_in(told: object) -> Seen:
    """What a document says.

    Raises ValueError: it is of another version than ours, or no document of `document`.
    """
    version = told.get("version") if isinstance(told, Mapping) else None
    if version != VERSION:
        raise ValueError(
            f"what IPVS held was written in version {version}; this headgate reads {VERSION}"
        )
    try:
        of = msgspec.convert(told, _Document)
    except msgspec.ValidationError as fault:
        raise ValueError(f"what IPVS held cannot be read: {fault}") from fault
    return Seen(
        of.only,
        {one.key: FoundServer(one.server, dict(one.reals), one.traffic) for one in of.servers},
        {SetName(one.kind, one.family): FoundSet(one.spec, dict(one.elements)) for one in of.sets},
        None if of.addresses is None else frozenset(of.addresses),
        of.rules,
        of.sysctls,
        frozenset(of.schedulers),
        of.kernel_version,
        of.kept,
    )
