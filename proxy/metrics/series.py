"""How do rows of the table become figures that count?

Of metrics that a mode lacks, nothing is kept: what is counted into them is nothing. A name that is
no metric at all is a KeyError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from proxy.metrics.table import TABLE, Kind, Row


class Series:
    """The metrics of a mode. Any thread may read them while others count."""

    def __init__(self, mode: str, packets: Callable[[], Mapping[str, int]]) -> None:
        """`packets` asks the kernel for its counters, by metric without `_total`."""
        disable_created_metrics()  # a second series for each, which kube-proxy does not have
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Packets(packets))
        ProcessCollector(registry=self._registry)
        rows = [row for row in TABLE if not row.is_collected]
        counts = {row.name: mode in row.modes for row in rows}
        self._missing = {name for name, has in counts.items() if not has}
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for row in rows:
            if counts[row.name]:
                self._make(row)

    def _make(self, row: Row) -> None:
        made: Counter | Gauge | Histogram
        match row.kind:
            case Kind.COUNTER:
                made = Counter(row.name, row.meaning, row.labels, registry=self._registry)
                self._counters[row.name] = made
            case Kind.GAUGE:
                made = Gauge(row.name, row.meaning, row.labels, registry=self._registry)
                self._gauges[row.name] = made
            case Kind.HISTOGRAM:
                made = Histogram(
                    row.name,
                    row.meaning,
                    row.labels,
                    registry=self._registry,
                    buckets=row.buckets,
                )
                self._histograms[row.name] = made
        for values in row.known:
            made.labels(*values)

    def text(self) -> bytes:
        """All of them, in the text format of Prometheus."""
        return generate_latest(self._registry)

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        if name not in self._missing:
            of = self._counters[name]
            (of.labels(*labels) if labels else of).inc(by)

    def add(self, name: str, value: float) -> None:
        """Add to a gauge."""
        if name not in self._missing:
            self._gauges[name].inc(value)

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        if name not in self._missing:
            of = self._gauges[name]
            (of.labels(*labels) if labels else of).set(value)

    def ask(self, name: str, value: Callable[[], float]) -> None:
        """Ask for the value of a gauge each time it is read."""
        self._gauges[name].set_function(value)

    def observe(self, name: str, seconds: float, *labels: str) -> None:
        """Put a duration into a histogram."""
        if name not in self._missing:
            of = self._histograms[name]
            (of.labels(*labels) if labels else of).observe(seconds)


class _Packets(Collector):
    """What the kernel counts by itself."""

    def __init__(self, counted: Callable[[], Mapping[str, int]]) -> None:
        self._counted = counted

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Called by the registry."""
        for name, packets in self._counted().items():
            meaning = next(row.meaning for row in TABLE if row.name == f"{name}_total")
            yield CounterMetricFamily(name, meaning, value=packets)
