"""Is every Service served while the API server tells anything but the truth?

What it says is taken apart in tests/apiserver; here connections are made all the time, and each must
reach the endpoints of today. In one mode only: none is told of what the source does not believe.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pytest

from tests.apiserver.fake import FakeApiServer, page, watch
from tests.apiserver.requests import PATHS, Query
from tests.apiserver.wire import Fault, Request
from tests.lab.api import ApiServer
from tests.lab.daemons import Daemon
from tests.lab.lab import Lab
from tests.packets import turmoil
from tests.packets.telling import furnish
from tests.packets.turmoil import NODE, SERVING, Turmoil, Verdicts

TODAY, YESTERDAY, TOMORROW = SERVING[:1], SERVING[1:2], SERVING[2:3]

TIMES = 2
"""Each lie is told so often. Who hears of the past for the third time in a row has to believe it:
a cluster that was restored from a backup looks just like that."""

Answers = Mapping[str, bytes]
"""What a server answers to who asks for all there is, by path."""


class Past(NamedTuple):
    """What the server would answer to one request, when something else was true."""

    of_nothing: bytes
    of_yesterday: bytes

    @property
    def half(self) -> bytes:
        return self.of_yesterday[: len(self.of_yesterday) // 2] + b"\n"


LIES: Mapping[str, Callable[[Past], Fault]] = {
    "500 Internal Server Error": lambda _: Fault(status=500),
    "a page for humans": lambda _: Fault(status=200, body=b"<html>It works!</html>\n"),
    "half an answer": lambda past: Fault(status=200, body=past.half),
    "nothing is there": lambda past: Fault(status=200, body=past.of_nothing),
    "yesterday": lambda past: Fault(status=200, body=past.of_yesterday),
}


@pytest.fixture(scope="module")
def api(lab: Lab) -> ApiServer:
    served = lab.serve_api()
    furnish(lab)
    return served


@pytest.fixture
def daemon(lab: Lab, api: ApiServer) -> Iterator[Daemon]:  # noqa: ARG001 (which it follows)
    """One for each lie: it remembers what it heard."""
    yield lab.start_headgate(NODE)
    assert lab.stop_headgate(NODE) == 0


@pytest.mark.parametrize(
    ("lie", "pages_only"),
    [*((lie, False) for lie in LIES), ("half an answer", True), ("nothing is there", True)],
)
def test_a_lie_is_not_believed(
    lab: Lab, api: ApiServer, daemon: Daemon, lie: str, pages_only: bool
) -> None:
    api.wire.pages_only = pages_only
    replacing = Turmoil(lab, seed=5)
    replacing.settle(YESTERDAY)
    nothing, yesterday = _empty(pages_only), _answers(api.server, pages_only)
    replacing.settle(TODAY)
    lab.wait_synced()
    lab.exec(NODE, ["conntrack", "-F"])  # a source port that is used again must find no old flow
    asked = len(api.wire.requests)
    with lab.load(*turmoil.flows()) as load:
        for path in PATHS:
            told = LIES[lie](Past(nothing[path], yesterday[path]))
            api.wire.interpose(told, _lists(path, pages_only), TIMES)
        api.compact()
        api.cut()  # whoever watched has to list everything again
        lab.wait_synced()
        load.wait_for(100)
    verdicts = Verdicts(load)
    assert verdicts.look(), verdicts.wrong
    assert verdicts.lost == 0  # nothing changes
    assert verdicts.reached == set(TODAY)
    for path in PATHS:
        heard = sum(map(_lists(path, pages_only), api.wire.requests[asked:]))
        assert heard >= TIMES, daemon.complaint(f"heard of {path} {heard} times")
    replacing.settle(TOMORROW)
    lab.wait_synced()
    assert turmoil.reached(lab) == set(TOMORROW)


def _lists(path: str, pages_only: bool) -> Callable[[Request], bool]:
    """Whether a request asks for all there is of a kind."""

    def asks(request: Request) -> bool:
        lists = not request.is_watch if pages_only else request.is_initial
        return request.path == path and lists

    return asks


def _empty(pages_only: bool) -> Answers:
    """Of a server that knows of nothing yet."""
    server = FakeApiServer()
    try:
        return _answers(server, pages_only)
    finally:
        server.stop()


def _answers(server: FakeApiServer, pages_only: bool) -> Answers:
    if pages_only:
        return {path: page(server.store, Query.parse(path)) for path in PATHS}
    return {path: b"".join(_initial(server, path)) for path in PATHS}


def _initial(server: FakeApiServer, path: str) -> Iterator[bytes]:
    """The lines of a stream that begins with all there is, up to the bookmark that ends that."""
    how = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    batches = watch(server, Query.parse(f"{path}?{how}"))
    for event in itertools.chain.from_iterable(batches):
        yield b'{"type":"%b","object":%b}\n' % (event.type.encode(), event.object)
        if event.type == "BOOKMARK":
            return
