"""What does the program ask of a mode, and what does a mode answer? Pure.

Modes do not know each other; they share these values and the plans of `endpoints`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, Protocol, TypeVar

import msgspec

from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from endpoints.plan import ServicePlan

K = TypeVar("K")
V = TypeVar("V")

Plans = tuple[ServicePlan, ...]
"""All plans of one Service: one per port and family; empty when it needs nothing in the kernel."""


class EnvironmentFault(Exception):
    """The machine cannot do what is asked: no privilege, no kernel feature. One clear line."""


class NotPermitted(EnvironmentFault):
    """The process lacks CAP_NET_ADMIN, or CAP_SYS_ADMIN where a namespace is asked for."""


class Missing(EnvironmentFault):
    """The kernel lacks what a mode is made of: then it holds nothing of that mode either."""


class KernelFault(Exception):
    """The kernel refused something and no single Service is to blame.

    What it holds now is not known; `start` and `replace` find out.
    """


class Feature(msgspec.Struct, frozen=True):
    """Something that the kernel can or cannot do."""

    name: str
    state: str
    """`yes`, `no`, or `unknown` where we may not ask."""
    needed_for: str
    """`iptables mode`, or what of it: `iptables mode: names in rules`."""
    hint: str = ""
    """What would bring it, if it is missing."""
    optional: bool = False
    """The mode works without it, only with less."""


class IpvsSettings(msgspec.Struct, frozen=True):
    """What the operator configured about the IPVS mode (REFERENCE B and D)."""

    scheduler: str = "rr"
    scheduler_flags: tuple[str, ...] = ()
    """`sh-port`, `sh-fallback`, `mh-port`, `mh-fallback`; without any, mh has mh-port."""
    exclude_cidrs: tuple[str, ...] = ()
    """Virtual servers with addresses in these are not taken over from kube-proxy."""
    strict_arp: bool = False
    tcp_timeout_seconds: int = 0
    """0 leaves the kernel's own; so do the next two."""
    tcpfin_timeout_seconds: int = 0
    udp_timeout_seconds: int = 0
    drain_seconds: int = 900
    """For how long an endpoint that is gone keeps the connections that it has."""


class ModeSettings(msgspec.Struct, frozen=True):
    """What the operator configured about modes, and not about the node."""

    masquerade_bit: int = 14
    """iptables: the bit of the packet mark that asks for masquerade, 0 to 31."""
    iptables_variant: str = "auto"
    """`legacy`, `nft`, or `auto`: the one that this host uses."""
    ipvs: IpvsSettings = IpvsSettings()


class Tell(Protocol):
    """How a mode says something while it works, to whoever keeps the log."""

    def __call__(self, message: str, /, *, routine: bool = False, **fields: object) -> None:
        """Say it; returns at once. `routine`: nobody need do anything about it."""


def silence(_: str, /, *, routine: bool = False, **__: object) -> None:
    """Tell nobody."""


def nothing() -> None:
    """Do nothing."""


class Delta(msgspec.Struct, Generic[K, V], frozen=True):
    """A change: what is there now under these keys, and which keys are gone."""

    upserts: Mapping[K, V]
    deletes: frozenset[K] = frozenset()


class Adopted(msgspec.Struct, frozen=True):
    """What `start` found: whether a table of ours was kept, and how many elements it held."""

    kept: bool
    elements: int
    reason: str
    """Why it was kept, replaced or made, for the log."""
    warnings: tuple[str, ...] = ()
    """Features that this machine does not let us give, a sentence each."""


class TableRules(msgspec.Struct, frozen=True):
    """Our rules in one table of iptables."""

    family: Family
    table: str
    total: int
    """How many the kernel holds now."""
    written: int
    """How many of them were written to get there."""


class ApplyReport(msgspec.Struct, frozen=True):
    """What one transaction did."""

    added: int = 0
    deleted: int = 0
    messages: int = 0
    bytes_sent: int = 0
    waited_seconds: float = 0.0
    """How long others kept us waiting: the holder of the xtables lock."""
    failed: Mapping[ObjectName, str] = {}
    """Services that the kernel refused, each with the kernel's reason; all others are in."""
    tables: tuple[TableRules, ...] = ()
    """iptables: what was looked at."""


def total(reports: Iterable[ApplyReport]) -> ApplyReport:
    """What several transactions did together."""
    reports = list(reports)
    failed: dict[ObjectName, str] = {}
    tables: dict[tuple[Family, str], TableRules] = {}
    for report in reports:
        failed.update(report.failed)
        for of in report.tables:
            before = tables.get((of.family, of.table))
            written = of.written + (before.written if before else 0)
            tables[of.family, of.table] = TableRules(of.family, of.table, of.total, written)
    return ApplyReport(
        added=sum(report.added for report in reports),
        deleted=sum(report.deleted for report in reports),
        messages=sum(report.messages for report in reports),
        bytes_sent=sum(report.bytes_sent for report in reports),
        waited_seconds=sum(report.waited_seconds for report in reports),
        failed=failed,
        tables=tuple(tables.values()),
    )


class Drift(msgspec.Struct, frozen=True):
    """Kernel against applied. All empty: no drift."""

    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    different: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.missing or self.extra or self.different)


class Foreign(msgspec.Struct, frozen=True):
    """Somebody else changed what is ours in the kernel, or may have."""

    what: str
    """What, in an operator's words: `table ip headgate deleted`."""
    author: str = ""
    """The name of the process, as the kernel keeps it; empty where it does not tell."""
    pid: int = 0
    """Its process ID in the first PID namespace; 0 where the kernel does not tell."""


class Glance(msgspec.Struct, frozen=True):
    """What a short look at the kernel found."""

    foreign: tuple[Foreign, ...] = ()
    again_in_seconds: float | None = None
    """When to look again; None: not at all, for a ForeignWatch hears everything."""


class ForeignWatch(Protocol):
    """Hears what others do to our rules, when they do it; our own changes are no news.

    One thread waits, another one may close.
    """

    def wait(self) -> tuple[Foreign, ...]:
        """Sleep until there is news; empty only after `close`. Raises OSError."""

    def close(self) -> None:
        """Wake who waits, for good."""


class Rendered(msgspec.Struct, frozen=True):
    """The program that a node would get, without a kernel."""

    program: object
    """For machines: structs of the mode, encodable as JSON."""
    lines: tuple[str, ...]
    """For people, in the notation of the kernel's own tool."""


class Mode(Protocol):
    """A back end that programs the kernel. Not thread-safe: one thread calls it."""

    name: str

    def read_ahead(self, done: Callable[[], None] = nothing) -> None:
        """Begin to read what the kernel holds, beside whatever else is done, where that can be.

        A `start` that follows takes less time then, or a `verify` that may use it. Returns at once.
        `done` is called once, when that is so, by any thread.
        """

    def start(self, node: NodeView) -> Adopted:
        """Adopt or create our tables for this node. Called again when the NodeView changed.

        Raises EnvironmentFault.
        """

    def replace(self, services: Mapping[ObjectName, Plans]) -> ApplyReport:
        """Make the kernel hold exactly these Services, writing only what differs.

        Raises KernelFault.
        """

    def apply(self, delta: Delta[ObjectName, Plans]) -> ApplyReport:
        """Apply a change in one transaction; the cost is that of the change.

        Raises KernelFault.
        """

    def tend(self) -> float | None:
        """Do what only the passing of time asks for: end what drains.

        Returns the seconds until it wants to be called again; None: not before the next `apply` or
        `replace`. Never raises for a fault of the kernel: it tells, and comes back to it.
        """

    def verify(self, *, from_ahead: bool = False) -> Drift:
        """Hold the kernel against what was applied.

        `from_ahead`: what was read ahead will do. What others changed since is not told then, and
        what we changed is no drift.
        """

    def watch(self) -> ForeignWatch | None:
        """What hears of foreign changes from now on; None where the kernel tells nobody.

        Called before the first `start`, in the network namespace that is meant. Raises OSError.
        """

    def glance(self) -> Glance:
        """Look for foreign changes of which the kernel tells nobody; the cost does not grow.

        Never raises for a fault of the kernel: it tells, and asks to be called again.
        """

    def retire(self, successor: str) -> float | None:
        """Give way to another mode, which serves everything now, and remove what is ours.

        And what is kube-proxy's of the same kind. What established connections need goes when they
        have ended. Works without `start`. Returns the seconds until it wants to be called again;
        None: nothing is left. `successor` is the mode whose rules stay, even where both share
        names. Raises KernelFault and EnvironmentFault.
        """

    def cleanup(self) -> bool:
        """Remove what is ours and only that; True if there was anything."""

    def close(self) -> None:
        """Give back sockets; rules stay."""
