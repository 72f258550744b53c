"""What does the API server say, now and from now on?

One thread for each kind: it does what its `Watch` asks for and puts what comes of it on the queue.
While the server cannot be reached, nothing is put there: what is programmed stays. An operator
reads one line when an outage begins and one when it is over, however long it lasts.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from endpoints.events import Replace
from endpoints.objects import HEADLESS_LABEL, PROXY_NAME_LABEL, Kind
from proxy import log
from proxy.sources.base import Died, Message, Sink
from proxy.sources.connection import Connection, Failed, Observer, Patience, Stream
from proxy.sources.kubeconfig import ApiConfig, checked, loaded
from proxy.sources.watch import (
    Broken,
    Failure,
    Lines,
    ListFrom,
    Pause,
    Watch,
    WatchAll,
    WatchFrom,
)

PAGE_LIMIT = 500
WATCH_SECONDS = 300
"""The server is asked to end a watch after this, or up to twice this: watches that began together
shall not end together."""
INITIAL_SECONDS = 120.0
"""A stream that tells what is there already, and has not come to its end by then, never will: a
server that does not know initial events goes on with what changes."""
STOP_SECONDS = 2.0
"""How long `stop` waits for a thread that is just connecting; such a thread says nothing more."""

PATHS: Mapping[Kind, str] = {
    Kind.SERVICE: "/api/v1/services",
    Kind.ENDPOINT_SLICE: "/apis/discovery.k8s.io/v1/endpointslices",
    Kind.NODE: "/api/v1/nodes",
}
"""What is listed and watched; deploy/base/rbac.yaml allows just this."""
_SERVED = f"!{PROXY_NAME_LABEL},!{HEADLESS_LABEL}"
"""Services of other proxies, and headless ones, are not even sent (REFERENCE A.2)."""


class Timing(msgspec.Struct, frozen=True):
    """Clock, chance and patience; tests have their own."""

    clock: Callable[[], float] = time.monotonic
    """Seconds since some moment."""
    random: Callable[[], float] = random.random
    """Values in [0, 1)."""
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait
    """Let so many seconds pass, or less if the event comes; whether it came."""
    patience: Patience = Patience()


class ApiSource:
    """Services, EndpointSlices and one Node from the API server; a `proxy.sources.base.Source`."""

    kinds = frozenset(Kind)

    def __init__(
        self, config: ApiConfig, timing: Timing | None = None, observer: Observer | None = None
    ) -> None:
        self._config = config
        self._observer = observer
        self._timing = timing or Timing()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, sink: Sink) -> None:
        """Begin to list and to watch.

        Raises BadKubeconfig, an EnvironmentFault, for a configuration that cannot lead to any
        server; a server that is not there (yet) is no reason to give up.
        """
        identity = checked(self._config)
        if not self._config.kubeconfig:
            loaded(self._config, identity)  # raises when this is no pod either
        self._sink = sink
        self._connection = Connection(self._config, identity, self._timing.patience, self._observer)
        self._outages = Outages(lambda: self._connection.server)
        for kind in sorted(self.kinds):
            name = f"api-{kind}"
            thread = threading.Thread(target=self._run, args=(kind,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End the threads and wait for them; nothing is put on the queue afterwards."""
        self._stopped.set()
        self._connection.close()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self, kind: Kind) -> None:
        watch = Watch(kind, self._timing.random)
        try:
            while not self._stopped.is_set():
                pause = self._ask(watch)
                if self._timing.wait(self._stopped, pause.seconds):
                    return
        except Exception as error:  # noqa: BLE001 (the main thread reports it, and ends the program)
            self._put(Died(f"api-{kind}", error))

    def _ask(self, watch: Watch) -> Pause:
        """Send the request that is due."""
        if isinstance(watch.request, ListFrom):
            pause = self._list(watch, watch.request.continue_token)
        else:
            pause = self._follow(watch, watch.request)
        if pause.outage and not self._stopped.is_set():
            self._outages.begun(watch.kind, pause.outage)
        return pause

    def _list(self, watch: Watch, token: str) -> Pause:
        query = selectors(watch.kind, self._config.node_name) | {"limit": str(PAGE_LIMIT)}
        if token:
            query["continue"] = token
        try:
            messages = watch.page(self._connection.get(PATHS[watch.kind], query))
        except (Failed, Broken) as error:
            return watch.failed(error.failure)
        self._tell(messages)
        return Pause(0.0)

    def _follow(self, watch: Watch, request: WatchAll | WatchFrom) -> Pause:
        began: float | None = None
        failure: Failure | None = None
        query = self._query(watch.kind, request)
        try:
            with self._connection.stream(PATHS[watch.kind], query) as stream:
                began = self._timing.clock()
                watch.opened()
                self._read(watch, stream, began)
        except (Failed, Broken) as error:
            if began is None:
                return watch.failed(error.failure)
            failure = error.failure
        pause = watch.ended(self._timing.clock() - began, failure)
        if not self._stopped.is_set():
            event = "Resuming" if isinstance(watch.request, WatchFrom) else "Listing again"
            log.info(event, v=2, kind=watch.kind, reason=failure or "the watch has ended")
        return pause

    def _read(self, watch: Watch, stream: Stream, began: float) -> None:
        """Tell what the stream tells, until it ends. Raises Failed and Broken."""
        lines = Lines()
        patience = self._timing.patience
        if watch.initial:
            stream.wait(patience.answer_seconds)
        self._follows(watch)
        for chunk in stream:
            was_initial = watch.initial
            for line in lines.feed(chunk):
                self._tell(watch.line(line))
            if was_initial and not watch.initial:
                stream.wait(patience.watch_seconds)
            elif was_initial and self._timing.clock() - began > INITIAL_SECONDS:
                raise Broken(Failure("what is there already takes too long", is_silence=True))
            self._follows(watch)

    def _query(self, kind: Kind, request: WatchAll | WatchFrom) -> dict[str, str]:
        seconds = WATCH_SECONDS * (1 + self._timing.random())
        query = selectors(kind, self._config.node_name) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(seconds)),
        }
        if isinstance(request, WatchFrom):
            return query | {"resourceVersion": request.resource_version}
        return query | {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}

    def _tell(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if isinstance(message, Replace):
                log.info("Listed", v=2, kind=message.kind, objects=len(message.objects))
            self._put(message)

    def _follows(self, watch: Watch) -> None:
        if watch.steady:
            self._outages.over(watch.kind)

    def _put(self, message: Message) -> None:
        if not self._stopped.is_set():
            self._sink.put(message)


def selectors(kind: Kind, node_name: str) -> dict[str, str]:
    """Which objects of a kind are asked for."""
    if kind is Kind.NODE:
        return {"fieldSelector": f"metadata.name={node_name}"}
    return {"labelSelector": _SERVED}


class Outages:
    """Tells an operator once what all threads run into again and again."""

    def __init__(self, server: Callable[[], str]) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._without: set[Kind] = set()
        self._told: set[str] = set()

    def begun(self, kind: Kind, reason: str) -> None:
        """This kind is not followed for this reason."""
        with self._lock:
            self._without.add(kind)
            if reason in self._told:
                return
            self._told.add(reason)
        log.warning("API server does not serve us; retrying", server=self._server(), reason=reason)

    def over(self, kind: Kind) -> None:
        """This kind is followed."""
        with self._lock:
            if kind not in self._without:
                return
            self._without.discard(kind)
            if self._without:
                return
            self._told.clear()
        log.info("API server serves us again", server=self._server())
