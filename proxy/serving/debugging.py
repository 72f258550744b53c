"""What does a running headgate tell the debug commands, and whom?

Over HTTP on a socket with an abstract name (unix(7)), which belongs to the network namespace and
goes with the process, read-only file systems or not. It answers root and its own user: `/plans`,
`/plans/NAMESPACE/NAME` and `/objects`, as JSON.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

import msgspec

from modes.base import ModeSettings
from proxy import log
from proxy.desired.desired import Desired, LastForeign, Running
from proxy.desired.live import NAME, PATIENCE_SECONDS
from proxy.desired.recorded import plans, recorded
from proxy.observer import Observer, Repair
from proxy.peer import peer
from proxy.serving.http_messages import Answer, Request, refusal
from proxy.serving.web import Web
from proxy.sources.base import Between, Sink
from proxy.sync import Known
from proxy.version import version

_JSON = "application/json"


class Debugging(Observer):
    """Answers debug commands until `stop`. Remembers who changed our rules last."""

    def __init__(
        self,
        mode: str,
        of_modes: ModeSettings,
        clock: Callable[[], float] = time.monotonic,
        configuration: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        """Nobody is answered yet. `configuration`: what is in force, of JSON's types."""
        self._mode = mode
        self._of_modes = of_modes
        self._clock = clock
        self._configuration = configuration
        self._lock = threading.Lock()
        self._last: tuple[Repair, float] | None = None
        self._web: Web | None = None

    def repaired(self, repair: Repair) -> None:
        """As of an Observer."""
        with self._lock:
            self._last = repair, self._clock()

    def start(self, sink: Sink, known: Callable[[], Known]) -> None:
        """Listen, in the network namespace of the calling thread; the main loop calls `known`.

        Services matter more: if somebody else has the name, that is told, and nobody is answered.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.bind(NAME)
            listener.listen()
        except OSError as fault:
            listener.close()
            log.error("Debug commands are not answered", name=NAME[1:], reason=fault.strerror)
            return
        self._sink, self._known = sink, known
        web = self._web = Web("debug")
        web.call(lambda: web.open(listener, self.answer, _is_admitted))

    def stop(self) -> None:
        """End the thread and wait for it."""
        if self._web is not None:
            self._web.stop()

    def answer(self, asked: Request) -> Answer:
        """What is at a path; 503 if the main loop does not turn."""
        head, _, name = asked.path.removeprefix("/").partition("/")
        if head not in ("plans", "objects") or (name and (head, name.count("/")) != ("plans", 1)):
            return refusal(HTTPStatus.NOT_FOUND)
        known = self._ask()
        if known is None:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE)
        if head == "objects":
            in_force = self._configuration()
            told: object = recorded(known.state, self._mode, self._of_modes, in_force)
        else:
            running = self._running(known)
            told = Desired(
                self._mode,
                self._of_modes,
                known.state.node,
                plans(known.state, name),
                f"the headgate that runs here, pid {running.pid}",
                running=running,
            )
        return Answer(msgspec.json.encode(told), _JSON)

    def _ask(self) -> Known | None:
        """What the main loop knows, as of `Between`; None: it does not turn."""
        answers: queue.SimpleQueue[Known] = queue.SimpleQueue()
        self._sink.put(Between(lambda: answers.put(self._known())))
        try:
            return answers.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            return None

    def _running(self, known: Known) -> Running:
        with self._lock:
            last = self._last
        refused = {str(service): reason for service, reason in known.refused.items()}
        foreign = LastForeign(last[0].cause, self._clock() - last[1]) if last else None
        return Running(version(), os.getpid(), known.is_synced, refused, foreign)


def _is_admitted(client: socket.socket) -> bool:
    """Whether root or our own user asks: Services are nobody else's business."""
    return peer(client).is_trusted
