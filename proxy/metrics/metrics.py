"""What has happened so far, in figures?

A sync of ours brings both families up in one go, where kube-proxy has a loop for each: it counts
for both, so that dashboards by `ip_family` go on working.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Mapping
from itertools import product

from prometheus_client import CONTENT_TYPE_LATEST

from endpoints.events import Problem
from endpoints.names import Family, ObjectName
from modes.base import Foreign, Plans
from proxy.metrics.no_local import NoLocal
from proxy.metrics.series import Series
from proxy.metrics.table import SYNC
from proxy.observer import Observer, Repair, Synced
from proxy.version import version

MOST_AUTHORS = 20
_REST = "proxy_rules_duration_seconds"
_KINDS = ("Service", "EndpointSlice", "Node")


class Sources:
    """Who is asked when the figures are read; any thread may ask."""

    def __init__(
        self,
        packets: Callable[[], Mapping[str, int]] = dict,
        queue_depth: Callable[[], float] = float,
        busy_seconds: Callable[[], float] = float,
    ) -> None:
        """`packets` are the kernel's, by metric without `_total` (`modes.registry.counted`)."""
        self.packets = packets
        self.queue_depth = queue_depth
        self.busy_seconds = busy_seconds


class Metrics(Observer):
    """The figures of one run. Any thread may read them while others count.

    `now` is the time of the day in seconds since 1970.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(
        self,
        mode: str,
        sources: Sources | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Each metric that the mode has is there from the start."""
        sources = sources or Sources()
        self._mode = mode
        self._now = now
        self._started = now()
        self._series = Series(mode, sources.packets)
        self._series.ask("headgate_queue_depth", sources.queue_depth)
        self._series.ask("headgate_sync_busy_seconds", sources.busy_seconds)
        self._no_local = NoLocal()
        self._refused: set[ObjectName] = set()
        self._authors: set[str] = set()
        self._drifting = False
        self._is_synced = False
        self._is_full = True
        self._tell_build()
        self._series.count("headgate_sync_failures_total", mode, by=0)

    def text(self) -> bytes:
        """All of them, as `content_type` says."""
        return self._series.text()

    def probed(self, path: str, status: int) -> None:
        """`/healthz` or `/livez` was answered with this HTTP status."""
        self._series.count(f"kubeproxy_proxy_{path.strip('/')}_total", str(status))

    def answered(self, method: str, code: str, host: str, seconds: float) -> None:
        """The API server has answered; `<error>` as code: it has not. Any thread."""
        self._series.count("rest_client_requests_total", code, method, host)
        self._series.observe("rest_client_request_duration_seconds", seconds, method, host)

    def reloaded(self, result: str) -> None:
        """The configuration file changed: `applied`, `refused`, or `restart`, which ends us."""
        self._series.count("headgate_config_reloads_total", result)

    def queued(self, services: int, slices: int) -> None:
        """As of an Observer."""
        for what, changes in (("service", services), ("endpoint", slices)):
            self._series.count(f"{SYNC}_{what}_changes_total", by=changes)
            self._series.add(f"{SYNC}_{what}_changes_pending", changes)
        for family in Family:
            self._series.set(f"{SYNC}_last_queued_timestamp_seconds", self._now(), family)

    def planning_all(self) -> None:
        """As of an Observer."""
        self._is_full = True
        self._no_local.clear()
        self._refused.clear()

    def planned(self, service: ObjectName, plans: Plans) -> None:
        """As of an Observer."""
        self._no_local.put(service, plans)
        self._refused.discard(service)

    def synced(self, synced: Synced) -> None:
        """As of an Observer."""
        now = self._now()
        self._agreed(now)
        part = "full" if synced.full else "partial"
        latencies = [max(0.0, now - at) for at in synced.triggered if at >= self._started]
        for family in Family:
            for whole in (f"{SYNC}_duration_seconds", f"kubeproxy_sync_{part}_{_REST}"):
                self._series.observe(whole, synced.seconds, family)
            for seconds in latencies:
                name = "kubeproxy_network_programming_duration_seconds"
                self._series.observe(name, seconds, family)
            for policy in ("internal", "external"):
                count = self._no_local.counts[family, policy]
                self._series.set(f"{SYNC}_no_local_endpoints_total", count, family, policy)
        for what in ("service", "endpoint"):
            self._series.set(f"{SYNC}_{what}_changes_pending", 0)
        self._series.set("headgate_services", synced.services)
        self._take(synced)
        if not self._is_synced:
            self._is_synced = True
            self._series.set("headgate_first_sync_timestamp_seconds", now)
            self._series.set("headgate_first_sync_duration_seconds", now - self._started)
        self._is_full = False

    def compared(self) -> None:
        """As of an Observer: kube-proxy's periodic syncs move this figure where nothing happens."""
        self._agreed(self._now())

    def _agreed(self, now: float) -> None:
        for family in Family:
            self._series.set(f"{SYNC}_last_timestamp_seconds", now, family)

    def _take(self, synced: Synced) -> None:
        """What the mode tells of it."""
        report = synced.report
        self._series.count("headgate_xtables_lock_wait_seconds_total", by=report.waited_seconds)
        for family, table in product(Family, ("filter", "nat")):
            self._series.set(f"{SYNC}_iptables_last", 0, family, table)
        for of in report.tables:
            self._series.set(f"{SYNC}_iptables_total", of.total, of.family, of.table)
            self._series.set(f"{SYNC}_iptables_last", of.written, of.family, of.table)
        self._refused |= report.failed.keys()
        self._series.set("headgate_refused_services", len(self._refused))
        if report.failed:
            self._count_refusal()

    def _count_refusal(self) -> None:
        failures = [f"{SYNC}_iptables_restore_failures_total"]
        failures.append(f"{SYNC}_nftables_sync_failures_total")
        if not self._is_full:
            failures.append(f"{SYNC}_iptables_partial_restore_failures_total")
        for name in failures:
            for family in Family:
                self._series.count(name, family)

    def failed(self, reason: str) -> None:  # noqa: ARG002 (an Observer's)
        """As of an Observer."""
        self._series.count("headgate_sync_failures_total", self._mode)
        self._count_refusal()
        self._is_full = True  # what comes next compares everything

    def skipped(self, problem: Problem) -> None:
        """As of an Observer."""
        words = problem.subject.split()
        kind = next((kind for kind in _KINDS if kind in words), "other")
        self._series.count("headgate_skipped_objects_total", kind)

    def drifted(self, foreign: Foreign) -> None:
        """As of an Observer."""
        if self._drifting:
            return
        self._drifting = True
        author = foreign.author or "unknown"
        if author not in self._authors and len(self._authors) >= MOST_AUTHORS:
            author = "other"
        self._authors.add(author)
        self._series.count("headgate_drift_found_total", author)

    def settled(self) -> None:
        """As of an Observer."""
        self._drifting = False

    def repaired(self, repair: Repair) -> None:
        """As of an Observer."""
        self._drifting = False
        self._series.count("headgate_drift_repaired_total")
        self._series.observe("headgate_drift_repair_duration_seconds", repair.seconds)

    def fought(self, foreign: Foreign, pause_seconds: float) -> None:  # noqa: ARG002 (an Observer's)
        """As of an Observer."""
        self._series.count("headgate_drift_fights_total")

    def cleaned(self, deleted: Mapping[Family, int], seconds: Mapping[Family, float]) -> None:
        """As of an Observer."""
        reconciler = "kubeproxy_conntrack_reconciler"
        for family, count in deleted.items():
            self._series.count(f"{reconciler}_deleted_entries_total", family, by=count)
        for family, took in seconds.items():
            self._series.observe(f"{reconciler}_sync_duration_seconds", took, family)

    def _tell_build(self) -> None:
        major, minor, *_ = version().split(".")
        python = f"{platform.python_implementation()} {platform.python_version()}"
        where = f"{sys.platform}/{platform.machine()}"
        labels = (f"v{version()}", major, minor, python, where)
        self._series.set("kubernetes_build_info", 1, *labels)
