"""What does headgate answer over HTTP, and where?

On the health address `/healthz` and `/livez`, for kubelets and load balancers; on the metrics
address `/metrics`, `/proxyMode`, `/configz` and a plain `/healthz`: paths, codes and bodies are
kube-proxy's (REFERENCE A.2). Anything else is 404.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Protocol

import msgspec

from endpoints.addresses import bracketed
from modes.base import EnvironmentFault
from proxy import log
from proxy.config import Listener
from proxy.serving.health import Health, Look
from proxy.serving.http_messages import NOSNIFF, Answer, Request, refusal
from proxy.serving.web import Web, listening

RETRY_SECONDS = 3.0
"""An address that is taken is tried again so often: a rolling update starts the new pod while the
old one still answers."""

JSON = "application/json"
CONFIG_GROUP = "kubeproxy.config.k8s.io"

Pages = Mapping[str, Callable[[], Answer]]
"""By path; an answer is made when it is asked for, by the thread that serves."""


class Figures(Protocol):
    """What can be read of a run's figures; `proxy.metrics` has them."""

    content_type: str

    def text(self) -> bytes:
        """All of them."""


class Probed(Protocol):
    """Who counts what probes were told."""

    def __call__(self, path: str, status: int) -> None:
        """`/healthz` or `/livez` was answered with this status."""


def uncounted(path: str, status: int) -> None:
    """Nobody counts what probes are told."""


class Serving:
    """Pages that are served, or will be as soon as their address is free, until `stop`."""

    def __init__(self, listener: Listener, pages: Pages, *, hard_fail: bool = False) -> None:
        """Port 0 stands for any free one. Raises EnvironmentFault, with `hard_fail` only."""
        self._listener = listener
        self._pages = pages
        self._place = f"{bracketed(listener.address)}:{listener.port}"
        self.port = 0
        """The one that is listened on; 0: none yet."""
        free = None
        try:
            free = listening(listener.address, listener.port)
        except OSError as error:
            if hard_fail:
                raise EnvironmentFault(
                    f"cannot listen on {self._place}: {error.strerror}"
                ) from None
            log.error("Not served yet", address=self._place, reason=error.strerror)
        else:
            self.port = free.getsockname()[1]
        self._web = Web(f"http:{listener.port}")
        self._web.call(partial(self._begin, free))

    def stop(self) -> None:
        """Listen no more, and end the connections that there are."""
        self._web.stop()

    def _begin(self, free: socket.socket | None) -> None:
        if free is None:
            self._web.later(RETRY_SECONDS, self._retry)
        else:
            self._web.open(free, self._respond)

    def _retry(self) -> None:
        free = None
        with suppress(OSError):  # it is told already
            free = listening(self._listener.address, self._listener.port)
            self.port = free.getsockname()[1]
            log.info("Served now", address=self._place)
        self._begin(free)

    def _respond(self, asked: Request) -> Answer:
        page = self._pages.get(asked.path)
        if page is None:
            return refusal(HTTPStatus.NOT_FOUND)
        if asked.method not in ("GET", "HEAD"):
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", "GET, HEAD"))
        return page()


def serve(listener: Listener, pages: Pages, *, hard_fail: bool = False) -> Serving:
    """Serve pages in a thread of their own; an address that is taken is tried again and again.

    With `hard_fail` (`--bind-address-hard-fail`) it raises EnvironmentFault instead.
    """
    return Serving(listener, pages, hard_fail=hard_fail)


def health_pages(health: Health, probed: Probed = uncounted) -> Pages:
    """What kubelets and load balancers ask; `probed` is told of each answer."""

    def page(path: str, look: Callable[[], Look]) -> Answer:
        found = look()
        status = HTTPStatus.OK if found.ok else HTTPStatus.SERVICE_UNAVAILABLE
        probed(path, status)
        return Answer(msgspec.json.encode(found.body), JSON, status, (NOSNIFF,))

    return {
        "/healthz": partial(page, "/healthz", health.healthz),
        "/livez": partial(page, "/livez", health.livez),
    }


def metrics_pages(
    metrics: Figures, mode: str, configz: Callable[[], Mapping[str, object]]
) -> Pages:
    """What scrapers and operators ask.

    `configz` is the KubeProxyConfiguration in force, without apiVersion and kind or with them.
    """
    return {
        "/metrics": lambda: Answer(metrics.text(), metrics.content_type),
        "/proxyMode": lambda: Answer(mode.encode(), headers=(NOSNIFF,)),
        "/configz": lambda: Answer(msgspec.json.encode({CONFIG_GROUP: configz()}), JSON),
        "/healthz": lambda: Answer(b"ok", headers=(NOSNIFF,)),
    }
