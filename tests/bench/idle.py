"""What does headgate cost while nothing happens?

The real program follows an API server, serves its health and its figures and is asked for both, as
often as a kubelet and a scraper would. It runs in the network namespace of the caller.
"""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from tests.apiserver.fake import FakeApiServer
from tests.bench import cluster
from tests.bench.cluster import SETTINGS, Size
from tests.bench.processes import child_seconds, megabytes, megabytes_of, processor_seconds
from tests.lab import modes, namespaces
from tests.lab.daemons import PATIENCE_SECONDS, Daemon

IDLE_SECONDS = 60.0
"""Two sync periods: what is compared every 30 s is in it twice."""
BOOKMARK_SECONDS = 60.0
"""As a real API server's."""
PROBE_SECONDS = 10.0
"""Of a kubelet, by default."""
SCRAPE_SECONDS = 30.0
HEALTH_PORT, METRICS_PORT = 10256, 10249
_GLANCE_SECONDS = 0.05
REST_SECONDS = 2.0
"""Whoever starts no program for so long has started."""


class Idle(msgspec.Struct):
    """What the process cost while nothing changed."""

    back_end: str
    services: int
    endpoints: int
    seconds: float
    processor_seconds: float
    """Of the process and of the children that it waited for, while it was probed and scraped."""
    resident_megabytes: float
    proportional_megabytes: float | None
    """Pages that others use too count by their share; None: this kernel does not tell."""
    peak_megabytes: float
    """The most it ever had resident."""

    @property
    def size(self) -> Size:
        """The size that was measured."""
        return Size(self.services, self.endpoints)

    @property
    def percent(self) -> float:
        """The share of one processor."""
        return 100 * self.processor_seconds / self.seconds


def idle(back_end: str, of: Size, seconds: float = IDLE_SECONDS) -> Idle:
    """Let headgate take in a cluster, and then look at it for so long.

    Raises TimeoutError if it does not come to rest.
    """
    with _served(of) as server, _running(back_end, server.url) as daemon:
        used, began = processor_seconds(daemon.pid), time.monotonic()
        _attend(seconds)
        used, lasted = processor_seconds(daemon.pid) - used, time.monotonic() - began
        return Idle(
            back_end,
            *of,
            lasted,
            used,
            megabytes(daemon.pid, "VmRSS"),
            _proportional(daemon.pid),
            megabytes(daemon.pid, "VmHWM"),
        )


@contextmanager
def _served(of: Size) -> Iterator[FakeApiServer]:
    """An API server that holds such a cluster."""
    server = FakeApiServer(bookmark_seconds=BOOKMARK_SECONDS)
    try:
        server.store.put(_NODE)
        for _, data in cluster.documents(of):
            server.store.put_all(msgspec.json.decode(data)["items"])
        yield server
    finally:
        server.stop()


_NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": SETTINGS.name},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.11"}]},
}


@contextmanager
def _running(back_end: str, url: str) -> Iterator[Daemon]:
    """A headgate that has programmed what is there."""
    arguments = [*modes.arguments(back_end), f"--master={url}", "-v=2"]
    arguments += [f"--hostname-override={SETTINGS.name}"]
    arguments += [f"--cluster-cidr={','.join(SETTINGS.cluster_cidrs)}"]
    here = os.open(namespaces.THREAD_NETWORK, os.O_RDONLY)
    try:
        daemon = Daemon(SETTINGS.name, here, arguments)
    finally:
        os.close(here)
    try:
        daemon.wait_for(lambda line: line.is_synced)
        _wait_until_healthy(daemon)
        _wait_until_at_rest(daemon)
        yield daemon
    finally:
        daemon.stop()


def _wait_until_healthy(daemon: Daemon) -> None:
    """Return when it has done all that a first sync asks for. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _ask(HEALTH_PORT, "/healthz") != http.HTTPStatus.OK:
        if time.monotonic() > deadline:
            raise TimeoutError(daemon.complaint("is not healthy"))
        daemon.wait_for_news(len(daemon.lines), _GLANCE_SECONDS)


def _wait_until_at_rest(daemon: Daemon) -> None:
    """Return when it has removed what other proxies left, or has seen that there is nothing.

    It starts programs for that, and needs no other for a while. Raises TimeoutError.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    used, since = child_seconds(daemon.pid), time.monotonic()
    while (now := time.monotonic()) - since < REST_SECONDS:
        if now > deadline:
            raise TimeoutError(daemon.complaint("does not come to rest"))
        daemon.wait_for_news(len(daemon.lines), _GLANCE_SECONDS)
        if (more := child_seconds(daemon.pid)) != used:
            used, since = more, time.monotonic()


def _attend(seconds: float) -> None:
    """Probe and scrape for so long, as kubelet and scraper do. Raises AssertionError."""
    pause = threading.Event()  # nobody sets it
    began = time.monotonic()
    ends, scrape_at = began + seconds, began
    while (now := time.monotonic()) < ends:
        pages = [(HEALTH_PORT, "/livez"), (HEALTH_PORT, "/healthz")]
        if now >= scrape_at:
            pages.append((METRICS_PORT, "/metrics"))
            scrape_at += SCRAPE_SECONDS
        for port, path in pages:
            status = _ask(port, path)
            assert status == http.HTTPStatus.OK, f"{path}: {status}"
        pause.wait(min(PROBE_SECONDS, max(0.0, ends - time.monotonic())))


def _ask(port: int, path: str) -> int:
    """The status of a page that was read to its end."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as asked:
        asked.request("GET", path)
        response = asked.getresponse()
        response.read()
        return response.status


def _proportional(pid: int) -> float | None:
    try:
        return megabytes_of(Path(f"/proc/{pid}/smaps_rollup").read_text(), "Pss")
    except FileNotFoundError:
        return None
