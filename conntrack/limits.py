"""Which settings of connection tracking must differ from what the kernel has? Pure.

kube-proxy's (REFERENCE A.2), with one rule more: what the operator did not ask for is only ever
raised. The kernel's own timeout of an established TCP connection is five days; kube-proxy's default
of one would forget connections that idle longer, of everybody on the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from conntrack.settings import ConntrackSettings

MAX = "net.netfilter.nf_conntrack_max"
_SECONDS = {
    "tcp_established_seconds": "net.netfilter.nf_conntrack_tcp_timeout_established",
    "tcp_close_wait_seconds": "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "udp_seconds": "net.netfilter.nf_conntrack_udp_timeout",
    "udp_stream_seconds": "net.netfilter.nf_conntrack_udp_timeout_stream",
}
_BE_LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
_FLOWS_PER_BUCKET = 4


class Wish(NamedTuple):
    """One setting and what it should be."""

    sysctl: str
    value: int
    exactly: bool
    """The operator asked for it: also if the kernel has more."""

    def to_write(self, found: int) -> int | None:
        """What to write where this was found; None: nothing."""
        wrong = found != self.value if self.exactly else found < self.value
        return self.value if wrong else None


def wishes(settings: ConntrackSettings, cpus: int) -> Iterator[Wish]:
    """What the kernel should have on a machine with so many processors."""
    asked = settings.asked
    if settings.max_per_core > 0:
        most = max(settings.max_per_core * cpus, settings.min)
        yield Wish(MAX, most, not asked.isdisjoint({"max_per_core", "min"}))
    if settings.tcp_be_liberal:
        yield Wish(_BE_LIBERAL, 1, exactly=True)
    for field, sysctl in _SECONDS.items():
        seconds: int = getattr(settings, field)
        if seconds > 0:
            yield Wish(sysctl, seconds, field in asked)


def buckets(most: int) -> int:
    """How many buckets a table for so many flows should have at least."""
    return most // _FLOWS_PER_BUCKET
