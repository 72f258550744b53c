"""Who is told what the kernel should hold, and is it all that was known?"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import pytest

from modes.base import ApplyReport, EnvironmentFault, Foreign
from proxy.desired import live as asking
from proxy.desired.live import NAME, live, objects
from proxy.observer import Repair
from proxy.serving import debugging
from tests.unit.proxy.build import PAY, endpoints, node, service, together
from tests.unit.proxy.running import Running, running

SHOP = together(service(), endpoints("10.244.1.2"), node())
CART = together(service("cart", "10.96.7.8"), endpoints("10.244.1.3", of="cart"))
PID = os.getpid()
AS_NOBODY = ("setpriv", "--reuid=65534", "--clear-groups")


@pytest.fixture
def here() -> Iterator[Running]:
    with running(SHOP, CART) as found:
        yield found


def names(service: str = "") -> list[str]:
    found = live(service)
    assert found is not None
    return [str(plan.name) for plan in found.plans]


def asked(request: bytes) -> bytes:
    """The bytes of an answer."""
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(NAME)
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


@contextmanager
def listening(*, answer: bytes | None = None) -> Iterator[None]:
    """Somebody who has the name; answers once, or never."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(NAME)
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1 << 16)
                client.sendall(answer or b"")

        thread = threading.Thread(target=serve, daemon=True)
        if answer is not None:
            thread.start()
        yield
        if answer is not None:
            thread.join()


def test_where_none_runs_nobody_answers() -> None:
    assert live() is None
    assert objects() is None


def test_all_that_it_wants_is_told(here: Running) -> None:
    found = live()
    assert found is not None
    assert (found.mode, found.node.name) == ("nftables", "node-a")
    assert found.plans == tuple(
        plan for name in sorted(here.mode.table) for plan in here.mode.table[name]
    )
    assert found.origin == f"the headgate that runs here, pid {PID}"
    assert found.running is not None
    assert (found.running.pid, found.running.is_synced) == (PID, True)


@pytest.mark.usefixtures("here")
def test_one_service_may_be_asked_for() -> None:
    assert names("shop/pay") == ["shop/pay:http"]
    assert names("shop/none") == []


@pytest.mark.usefixtures("here")
def test_what_plans_are_made_of_makes_the_same_plans() -> None:
    found, told = objects(), live()
    assert found is not None
    assert told is not None
    state = found.state()
    assert tuple(p for name in sorted(state.services()) for p in state.plans(name)) == told.plans
    assert state.node == told.node


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "path", ["/", "/plan", "/plans/shop", "/plans/shop/pay/http", "/objects/shop/pay", "/objects/x"]
)
def test_other_paths_are_not_found(path: str) -> None:
    assert asked(f"GET {path} HTTP/1.1\r\n\r\n".encode()).startswith(b"HTTP/1.1 404 ")


@pytest.mark.usefixtures("here")
def test_what_is_no_request_is_refused() -> None:
    assert asked(b"plans, please\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert names("shop/pay") == ["shop/pay:http"]


def test_what_others_did_is_told(here: Running) -> None:
    cause = Foreign("table ip headgate deleted", "nft", 4711)
    here.debugging.repaired(Repair(cause, 0.1, ApplyReport()))
    found = live()
    assert found is not None
    assert found.running is not None
    assert found.running.last_foreign is not None
    assert found.running.last_foreign.change == cause
    assert 0 <= found.running.last_foreign.seconds_ago < 60


def test_what_the_kernel_refuses_is_told(here: Running) -> None:
    here.mode.refuses = {PAY: "No space left"}
    here.say(together(service(port=81), endpoints("10.244.1.2"), node()), CART)
    found = live()
    assert found is not None
    assert found.running is not None
    assert found.running.refused == {"shop/pay": "No space left"}
    assert found.running.is_synced


def test_all_news_that_came_before_is_in_the_answer(here: Running) -> None:
    for number in range(1, 50):
        here.say(together(service(), endpoints(f"10.244.1.{number}"), node()))
        (plan,) = live("shop/pay").plans  # type: ignore[union-attr]
        assert [of.address for of in plan.cluster] == [f"10.244.1.{number}"]


def test_asking_causes_no_sync(here: Running) -> None:
    calls = list(here.mode.calls)
    for _ in range(20):
        names()
    assert here.mode.calls == calls


def test_what_waits_for_the_distance_between_syncs_is_not_wanted_yet() -> None:
    with running(SHOP, CART, min_sync_seconds=3600.0) as here:
        here.say(together(service(port=81), endpoints("10.244.1.2"), node()), CART)
        assert live("shop/pay").plans[0].frontends[0].port == 81  # type: ignore[union-attr]
        calls = list(here.mode.calls)
        here.say(together(service(port=82), endpoints("10.244.1.2"), node()), CART)
        for _ in range(5):
            # As its kernel: a comparison finds no drift that is none.
            assert live().plans == tuple(  # type: ignore[union-attr]
                plan for name in sorted(here.mode.table) for plan in here.mode.table[name]
            )
        assert here.mode.calls == calls


def test_asking_takes_no_sync_s_turn() -> None:
    with running(SHOP, min_sync_seconds=3600.0) as here:
        for _ in range(5):
            names()
        here.say(together(service(port=81), endpoints("10.244.1.2"), node()))
        assert live("shop/pay").plans[0].frontends[0].port == 81  # type: ignore[union-attr]


def test_many_ask_at_once(here: Running) -> None:
    here.say(
        *(
            together(service(f"s{n}", f"10.96.8.{n}"), endpoints("10.244.1.9", of=f"s{n}"))
            for n in range(3)
        )
    )
    wanted = live()
    assert wanted is not None
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: live(), range(64)))
    assert {of.plans for of in found if of is not None} == {wanted.plans}


def test_a_large_answer_comes_whole() -> None:
    rows = range(1, 1500)
    text = together(*(service(f"s{n}", f"10.97.{n // 250}.{n % 250 + 1}") for n in rows), node())
    with running(text):
        assert len(names()) == len(rows)
        assert len(asked(b"GET /plans HTTP/1.1\r\n\r\n")) > 400_000


def test_a_client_that_says_nothing_keeps_nobody_waiting(here: Running) -> None:
    del here
    with closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.connect(NAME)
        assert names("shop/pay") == ["shop/pay:http"]


def test_a_main_loop_that_does_not_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debugging, "PATIENCE_SECONDS", 0.05)
    stuck = Running()
    stuck.debugging.start(stuck.queue, stuck.sync.known)
    try:
        assert asked(b"GET /plans HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 503 ")
        with pytest.raises(EnvironmentFault) as refused:
            live()
        assert str(refused.value) == (
            f"the headgate that runs here (pid {PID}) does not answer:"
            " its main loop has not turned for 5 s"
        )
    finally:
        stuck.end()


@pytest.mark.usefixtures("here")
def test_another_user_is_told_nothing() -> None:
    ask = "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0headgate-debug')\n"
    ask += "try:\n s.sendall(b'GET /plans HTTP/1.1\\r\\n\\r\\n')\n print(s.recv(99))\n"
    ask += "except OSError:\n print(b'')\n"
    done = subprocess.run(
        [*AS_NOBODY, "/usr/bin/env", "python3", "-c", ask],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "b''\n"
    assert names("shop/pay") == ["shop/pay:http"]


@pytest.mark.usefixtures("here")
def test_another_user_reads_why() -> None:
    done = subprocess.run(
        [*AS_NOBODY, sys.executable, "-m", "proxy", "diff"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"headgate: the headgate that runs here (pid {PID}) answers to root and to its own user only\n"
    )


def test_a_stranger_with_the_name_is_not_believed() -> None:
    bind = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0headgate-debug')\n"
    bind += "s.listen()\nprint('listens', flush=True)\nsys.stdin.read()\n"
    with subprocess.Popen(
        [*AS_NOBODY, "/usr/bin/env", "python3", "-c", bind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as stranger:
        assert stranger.stdin is not None
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "listens\n"
        with pytest.raises(EnvironmentFault) as refused:
            live()
        assert str(refused.value) == (
            f"process {stranger.pid} of user 65534 answers as if it were headgate, and is not believed"
        )
        stranger.stdin.close()


def test_services_matter_more_than_a_name_that_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    with listening():
        here = Running()
        here.debugging.start(here.queue, here.sync.known)
        here.end()
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage() == "Debug commands are not answered"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "ended the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\n", "ended the connection amid its answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n\xff", "ended the connection amid its answer"),
        (b"HTTP/1.1 xyz\r\n\r\n{}", "is of another version: it does not answer by HTTP/1.1"),
        (b"\x80", "is of another version: it does not answer by HTTP/1.1"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n400", "is of another version: status 400"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"mode": "nfta', "ended the connection amid its answer"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "is of another version: status 404"),
        (
            b'HTTP/1.1 200 OK\r\n\r\n{"mode": 1}',
            "is of another version: Expected `str`, got `int` - at `$.mode`",
        ),
    ],
)
def test_answers_that_are_none(answer: bytes, reason: str) -> None:
    with listening(answer=answer), pytest.raises(EnvironmentFault) as refused:
        live()
    assert str(refused.value) == f"the headgate that runs here (pid {PID}) {reason}"


@contextmanager
def without_an_end(pause_seconds: float) -> Iterator[None]:
    """Somebody who has the name and answers a byte, a pause, a byte, until nobody listens."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(NAME)
        listener.listen()
        heard = threading.Event()

        def serve() -> None:
            client, _ = listener.accept()
            with client, suppress(BrokenPipeError):
                while not heard.wait(pause_seconds):
                    client.sendall(b"H")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            heard.set()
            thread.join()


def test_an_answer_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_SECONDS", 0.01)
    with listening(), pytest.raises(EnvironmentFault, match=r"\(pid \d+\) has not answered within"):
        live()


def test_an_answer_that_comes_drop_by_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_SECONDS", 0.5)
    with without_an_end(0.01), pytest.raises(EnvironmentFault) as refused:
        live()
    assert str(refused.value) == (
        f"the headgate that runs here (pid {PID}) has not answered within 0.5 s"
    )


def test_an_answer_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_LARGEST", 1000)
    with without_an_end(0.0), pytest.raises(EnvironmentFault, match=r" answers with more than "):
        live()


def test_after_its_end_the_name_is_free(here: Running) -> None:
    here.debugging.stop()
    assert live() is None
    with running(CART):
        assert names() == ["shop/cart:http"]
