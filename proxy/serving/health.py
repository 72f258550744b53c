"""Does this node do what a service proxy is there for? Pure, but for the clocks it is given.

kube-proxy is unhealthy when a change has waited for the kernel for longer than two sync periods.
Here the node is so too before the first sync, while the kernel is known not to hold our rules, and
while the thread that syncs hangs. A Service that the kernel refuses harms nobody else: it is told
by log and figures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from endpoints.names import Family
from endpoints.objects import Node
from modes.base import Foreign
from proxy.observer import Observer, Repair, Synced

DRIFT_SECONDS = 5.0
"""How long rules that somebody else changed may stay so. A repair takes less than one."""
LEAVING_TAINT = "ToBeDeletedByClusterAutoscaler"
"""The cluster autoscaler's, on a node that it is about to remove (KEP-3836)."""
_SYNC_PERIODS = 2
_NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time."""


class FamilyHealth(msgspec.Struct, frozen=True, rename="camel"):
    """One family's part; both are synced together."""

    last_updated: str
    healthy: bool


class HealthBody(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """kube-proxy's JSON since 1.34, and `reason`. Times are RFC 3339."""

    last_updated: str
    """Of a healthy node the current time; else that of the last sync."""
    current_time: str
    node_eligible: bool | None = None
    """Whether balancers should choose this node; `/healthz` only."""
    healthy: bool
    status: dict[Family, FamilyHealth] = {}
    reason: str = ""
    """Ours: why the answer is 503, in words for an operator."""


class Look(msgspec.Struct, frozen=True):
    """What a probe finds."""

    ok: bool
    body: HealthBody


class Health(Observer):
    """Hears of syncs, and tells any thread that asks.

    `clock` counts seconds and never goes back, `wall` is the time of the day in seconds since 1970.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        wall: Callable[[], float],
        sync_seconds: float,
        *,
        needs_node: bool = True,
    ) -> None:
        """`needs_node`: balancers shall not choose a node that has no Node object.

        It may have none where no API server is asked.
        """
        self._clock = clock
        self._wall = wall
        self._patience_seconds = _SYNC_PERIODS * sync_seconds
        self._needs_node = needs_node
        self._lock = threading.Lock()
        self._leaving = _leaving(None, needs_node=needs_node)
        self._last_synced = ""
        self._pending_since: float | None = None
        self._failure = ""
        self._drifted_since: float | None = None
        self._drift = ""
        self._busy_since: float | None = None

    def healthz(self) -> Look:
        """Whether balancers should choose this node now."""
        with self._lock:
            wrong = self._wrong() or self._late()
            return self._look(wrong, wrong or self._leaving, eligible=not self._leaving)

    def livez(self) -> Look:
        """Whether a restart would not help.

        It would not while the first sync is still to come, as in kube-proxy: an API server that is
        not there yet, or a large cluster, takes its time. Nor does it against another program that
        fights for the rules, and it would make the node deaf for that time.
        """
        with self._lock:
            late = self._late()
            return self._look(late, late)

    def is_healthy(self) -> bool:
        """As `/healthz`, whether or not the node is about to leave."""
        with self._lock:
            return not (self._wrong() or self._late())

    def busy(self) -> None:
        """The thread that syncs begins to work on what it has got."""
        with self._lock:
            self._busy_since = self._clock()

    def idle(self) -> None:
        """It waits for more."""
        with self._lock:
            self._busy_since = None

    def busy_seconds(self) -> float:
        """For how long the thread that syncs has worked without a pause; 0: it waits."""
        with self._lock:
            return 0.0 if self._busy_since is None else self._clock() - self._busy_since

    def set_sync_seconds(self, sync_seconds: float) -> None:
        """The sync period is this from now on."""
        with self._lock:
            self._patience_seconds = _SYNC_PERIODS * sync_seconds

    def queued(self, services: int, slices: int) -> None:  # noqa: ARG002 (an Observer's)
        """As of an Observer."""
        with self._lock:
            self._wait()

    def node(self, node: Node | None) -> None:
        """As of an Observer."""
        with self._lock:
            self._leaving = _leaving(node, needs_node=self._needs_node)

    def synced(self, synced: Synced) -> None:
        """As of an Observer."""
        with self._lock:
            self._last_synced = _rfc3339(self._wall())
            self._pending_since, self._failure = None, ""
            if synced.full:
                self._drifted_since = None

    def compared(self) -> None:
        """As of an Observer."""
        with self._lock:
            self._last_synced = _rfc3339(self._wall())

    def failed(self, reason: str) -> None:
        """As of an Observer."""
        with self._lock:
            self._failure = reason
            self._wait()

    def drifted(self, foreign: Foreign) -> None:
        """As of an Observer."""
        with self._lock:
            if self._drifted_since is None:
                self._drifted_since = self._clock()
                self._drift = foreign.what

    def settled(self) -> None:
        """As of an Observer."""
        with self._lock:
            self._drifted_since = None

    def repaired(self, repair: Repair) -> None:  # noqa: ARG002 (an Observer's)
        """As of an Observer."""
        self.settled()

    def _wait(self) -> None:
        if self._pending_since is None:
            self._pending_since = self._clock()

    def _wrong(self) -> str:
        """Why the kernel may lack rules, whatever the time."""
        if not self._last_synced:
            failure = f": {self._failure}" if self._failure else ""
            return f"the first sync is not done yet{failure}"
        drifted = _seconds(self._clock(), self._drifted_since)
        if drifted >= DRIFT_SECONDS:
            return f"rules are not what they should be, for {drifted:.0f} s: {self._drift}"
        return ""

    def _late(self) -> str:
        """What has taken too long since the first sync."""
        now = self._clock()
        if not self._last_synced:
            return ""
        if (busy := _seconds(now, self._busy_since)) >= self._patience_seconds:
            return f"a sync has not ended for {busy:.0f} s"
        if (pending := _seconds(now, self._pending_since)) >= self._patience_seconds:
            failure = f": {self._failure}" if self._failure else ""
            return f"the kernel has not taken a change for {pending:.0f} s{failure}"
        return ""

    def _look(self, wrong: str, reason: str, *, eligible: bool | None = None) -> Look:
        now = _rfc3339(self._wall())
        last = self._last_synced
        body = HealthBody(
            last_updated=(last or _NEVER) if reason else now,
            current_time=now,
            node_eligible=eligible,
            healthy=not wrong,
            status={of: FamilyHealth(last, not wrong) for of in Family} if last else {},
            reason=reason,
        )
        return Look(not reason, body)


def _seconds(now: float, since: float | None) -> float:
    return 0.0 if since is None else now - since


def _leaving(node: Node | None, *, needs_node: bool) -> str:
    """Why balancers should not choose this node; empty: they may (KEP-3836)."""
    if node is None:
        return "the Node is not there" if needs_node else ""
    if node.metadata.deletion_timestamp is not None:
        return f"Node {node.metadata.name} is being deleted"
    taints = (node.spec.taints if node.spec else None) or ()
    if any(taint.key == LEAVING_TAINT for taint in taints):
        return f"Node {node.metadata.name} has the taint {LEAVING_TAINT}"
    return ""


def _rfc3339(seconds: float) -> str:
    """As Go writes it: UTC, without the zeros at the end of a fraction."""
    whole, _, fraction = f"{seconds:.6f}".partition(".")
    at = datetime.fromtimestamp(int(whole), UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{fraction}".rstrip("0").rstrip(".") + "Z"
