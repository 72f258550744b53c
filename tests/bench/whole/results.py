"""What is found of a whole proxy? Pure."""

from __future__ import annotations

import msgspec

from tests.bench.cluster import Size


class Latency(msgspec.Struct):
    """From the API server's answer to a write until the kernel's ruleset holds it; milliseconds."""

    count: int
    p50: float
    p90: float
    p99: float
    cpu: float
    """Of the processors for one of them: the proxy and the programs that it starts."""


class Calls(msgspec.Struct):
    """What one endpoint change makes the proxy and its programs ask of the kernel, on average."""

    sends: float
    """System calls that send to netlink."""
    messages: float
    """Netlink messages in them."""
    bytes_sent: float
    child_processes: float


class Memory(msgspec.Struct):
    """The most that was resident, in megabytes (2**20 bytes)."""

    own: float
    """Of the proxy itself."""
    children: float
    """Of the programs that it started: the most of those that ran at one time, together."""

    @property
    def whole(self) -> float:
        """Of all processes."""
        return self.own + self.children


class Whole(msgspec.Struct):
    """One proxy in one back end, at one size."""

    program: str
    """`headgate` or `kube-proxy`."""
    version: str
    server: str
    """What API server it followed."""
    back_end: str
    services: int
    endpoints: int
    start: float
    """Seconds from the start of its process until the kernel holds all rules."""
    start_cpu: float
    """Seconds of the processors for it."""
    changed: Latency
    """One endpoint goes or comes back."""
    added: Latency
    """One Service comes, with its endpoints."""
    hundred: Latency
    """Many Services change at once; from the last answer."""
    zone: Latency | None
    """The node's zone changes, and with it a tenth of the Services. None: none has hints."""
    restart: float
    """Seconds from the start of the process, with everything but one endpoint in place."""
    restart_cpu: float
    restart_commits: int | None
    """How often it changed the ruleset meanwhile. None: that is not counted in this back end."""
    memory: Memory
    calls: Calls | None = None
    """None: nobody counted (there is no strace)."""

    @property
    def size(self) -> Size:
        """The size that was measured."""
        return Size(self.services, self.endpoints)


class Sustained(msgspec.Struct):
    """EndpointSlices change at a constant rate."""

    program: str
    back_end: str
    services: int
    endpoints: int
    rate: float
    """Changes a second: all that the API server made, by the time until the last probe was held."""
    seconds: float
    lags: list[float]
    """Milliseconds that a change took in the middle of it, one after the other."""
    megabytes: list[float]
    """Resident at each of these."""
    cpu_percent: float
    """Of one processor."""

    @property
    def size(self) -> Size:
        """The size that was measured."""
        return Size(self.services, self.endpoints)
