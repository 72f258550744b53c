"""What can be read of a running headgate's work? Names and buckets are kube-proxy's (REFERENCE C).

A sync of ours brings both families up in one go, where kube-proxy has a loop for each: it counts
for both, so that dashboards by `ip_family` go on working.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from endpoints.names import Family
from modes.base import ApplyReport

CONTENT_TYPE = CONTENT_TYPE_LATEST
_FAMILY = ("ip_family",)
_SECONDS = tuple(0.001 * 2**power for power in range(15))


class Metrics:
    """The metrics of one run, an observer of its syncs. `now` is the time of the day, in seconds.

    Any thread may read them while another one counts.
    """

    def __init__(
        self,
        mode: str,
        counted: Callable[[], Mapping[str, int]] = dict,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Each metric that this mode has is there from the start, at 0.

        `counted` asks the kernel for packets by metric, each time that the metrics are read.
        """
        disable_created_metrics()  # a second series for each, which kube-proxy does not have
        self._registry = CollectorRegistry(auto_describe=False)
        self._now = now
        self._durations = Histogram(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "How long syncs took",
            _FAMILY,
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._last = Gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "When the last successful sync ended",
            _FAMILY,
            registry=self._registry,
        )
        for family in Family:
            self._durations.labels(family)
            self._last.labels(family)
        self._registry.register(_Packets(counted))
        self._iptables = _Iptables(self._registry) if mode in ("iptables", "ipvs") else None

    def synced(self, seconds: float, report: ApplyReport) -> None:
        """A sync took so long and did this."""
        for family in Family:
            self._durations.labels(family).observe(seconds)
            self._last.labels(family).set(self._now())
        if self._iptables:
            self._iptables.synced(report)

    def failed(self) -> None:
        """A sync failed as a whole."""
        if self._iptables:
            self._iptables.failed()

    def text(self) -> bytes:
        """All of them, as CONTENT_TYPE says."""
        return generate_latest(self._registry)


class _Packets(Collector):
    """What the kernel counts by itself."""

    def __init__(self, counted: Callable[[], Mapping[str, int]]) -> None:
        self._counted = counted

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Called by the registry."""
        for name, packets in self._counted().items():
            yield CounterMetricFamily(name, "Packets, counted by the kernel", value=packets)


class _Iptables:
    """What the modes have that write rules of iptables."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._failures = Counter(
            "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
            "Syncs that the kernel refused, as a whole or in some Services",
            _FAMILY,
            registry=registry,
        )
        self._waited = Counter(
            "headgate_xtables_lock_wait_seconds_total",
            "How long syncs waited for the xtables lock",
            registry=registry,
        )
        for family in Family:
            self._failures.labels(family)

    def synced(self, report: ApplyReport) -> None:
        self._waited.inc(report.waited_seconds)
        if report.failed:
            self.failed()

    def failed(self) -> None:
        for family in Family:
            self._failures.labels(family).inc()
