"""Does a watch tell who changed what, and when it was made right again?"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
import pytest

from modes.base import Foreign, ForeignWatch
from modes.held import Difference, DifferenceKind
from proxy.debug import watching
from proxy.debug.differing import Differing
from proxy.debug.watching import watch
from proxy.desired.desired import LastForeign
from tests.unit.proxy.build import MemoryMode

PAY = Difference("shop/pay:http", DifferenceKind.MISSING, "10.96.7.7:80/TCP in map services")
NOBODYS = Difference("", DifferenceKind.EXTRA, "rule of another in chain services")
BY_NFT = Foreign("table ip headgate changed", "nft", 3122)
SAME = Differing("nftables", "node-a", "", 2, ())


class Ear:
    """Hears what it is told."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[tuple[Foreign, ...]] = queue.SimpleQueue()
        self.is_closed = False

    def wait(self) -> tuple[Foreign, ...]:
        return self.told.get()

    def close(self) -> None:
        self.is_closed = True
        self.told.put(())


class Heard(MemoryMode):
    def __init__(self, ear: Ear | None) -> None:
        super().__init__()
        self.ear = ear

    def watch(self) -> ForeignWatch | None:
        return self.ear


Look = Iterable[Difference]


class Watched:
    """What each look finds, and what somebody else does after it; in the end, Ctrl-C."""

    def __init__(self, ear: Ear | None, *looks: tuple[Look, Sequence[Foreign]]) -> None:
        self.mode = Heard(ear)
        self.ear = ear
        self.looks = list(looks)
        self.answer = SAME
        self.noticed: dict[int, float] = {}
        """How long ago, by look, the running headgate noticed that nft changed something."""
        self.at: list[float] = []

    def __call__(self) -> Differing:
        self.at.append(time.monotonic())
        if not self.looks:
            raise KeyboardInterrupt
        found, heard = self.looks.pop(0)
        ago = self.noticed.get(len(self.at) - 1)
        last = LastForeign(BY_NFT, ago) if ago is not None else None
        if heard and self.ear is not None:
            self.ear.told.put(tuple(heard))
        return msgspec.structs.replace(self.answer, differences=tuple(found), last_foreign=last)


Tell = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tell:
    """The status of a watch and what it said, without the time of day."""

    def told(watched: Watched, *, json: bool = False) -> tuple[int, list[str]]:
        monkeypatch.setattr(watching, "_INTERVAL_SECONDS", 0.05)
        monkeypatch.setattr(
            watching, "create", lambda mode: {watched.answer.mode: watched.mode}[mode]
        )
        status = watch(watched, json=json)
        lines = capsys.readouterr().out.splitlines()
        return status, lines if json else [line[14:] for line in lines]

    return told


SAME_LINE = "same       the kernel holds what it should"
CHANGED_LINE = "changed    by nft (pid 3122): table ip headgate changed"
DRIFT_LINE = "drift      shop/pay:http  missing  10.96.7.7:80/TCP in map services"
REPAIRED_LINE = "repaired   shop/pay:http  missing  10.96.7.7:80/TCP in map services"


def test_damage_and_repair(tell: Tell) -> None:
    watched = Watched(Ear(), ([], [BY_NFT]), ([PAY], []), ([PAY], []), ([], []))
    assert tell(watched) == (0, [SAME_LINE, CHANGED_LINE, DRIFT_LINE, REPAIRED_LINE])


def test_damage_that_is_repaired_before_one_can_look(tell: Tell) -> None:
    assert tell(Watched(Ear(), ([], [BY_NFT]), ([], []))) == (
        0,
        [SAME_LINE, CHANGED_LINE, SAME_LINE],
    )


def test_drift_that_was_there_before(tell: Tell) -> None:
    line = "drift      (rules of no Service)  extra  rule of another in chain services"
    assert tell(Watched(Ear(), ([NOBODYS], []), ([NOBODYS], []))) == (1, [line])


def test_it_is_not_said_twice(tell: Tell) -> None:
    assert tell(Watched(Ear(), *[([], [])] * 5)) == (0, [SAME_LINE])


def test_our_own_writing_is_no_news(tell: Tell) -> None:
    ours = Foreign("table ip headgate changed", "headgate", 4711)
    assert tell(Watched(Ear(), ([], [ours]), ([], []))) == (0, [SAME_LINE])
    assert tell(Watched(Ear(), ([], [ours, BY_NFT]), ([], []))) == (
        0,
        [SAME_LINE, CHANGED_LINE, SAME_LINE],
    )


def test_news_is_looked_into_at_once(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(Ear(), ([], [BY_NFT]), ([], []))
    monkeypatch.setattr(watching, "_REST", 0)
    tell(watched)
    first, second, third = watched.at
    assert second - first < 0.05 <= third - second


@pytest.mark.parametrize(
    ("change", "author"),
    [
        (Foreign("chain flushed"), "somebody unknown"),
        (Foreign("chain flushed", "iptables"), "iptables"),
        (Foreign("chain flushed", "nft", 7), "nft (pid 7)"),
    ],
)
def test_authors(tell: Tell, change: Foreign, author: str) -> None:
    _, lines = tell(Watched(Ear(), ([], [change]), ([], [])))
    assert lines[1] == f"changed    by {author}: chain flushed"


def test_a_kernel_that_tells_nobody_is_looked_at(tell: Tell) -> None:
    watched = Watched(None, ([], []), ([PAY], []), ([], []))
    assert tell(watched) == (0, [SAME_LINE, DRIFT_LINE, REPAIRED_LINE])


def test_what_the_headgate_noticed_is_told_where_the_kernel_tells_nobody(tell: Tell) -> None:
    watched = Watched(None, *[([], [])] * 6)
    watched.noticed = {0: 90.0, 1: 90.0, 2: 90.0, 3: 0.1, 4: 0.15, 5: 0.0}
    assert tell(watched) == (0, [SAME_LINE, CHANGED_LINE, SAME_LINE])


def test_what_was_opened_is_closed(tell: Tell) -> None:
    watched = Watched(Ear(), ([], []))
    tell(watched)
    assert watched.ear is not None
    assert (watched.ear.is_closed, watched.mode.closed) == (True, True)


def test_an_end_before_the_first_answer(tell: Tell) -> None:
    assert tell(Watched(Ear())) == (0, [])


def test_a_line_for_a_program_each(tell: Tell) -> None:
    status, lines = tell(Watched(Ear(), ([], [BY_NFT]), ([PAY], [])), json=True)
    assert status == 1
    turns = [json.loads(line) for line in lines]
    assert all(turn.pop("at")[:2] == "20" for turn in turns)
    assert turns == [
        {"what": "same"},
        {
            "what": "changed",
            "change": {"what": "table ip headgate changed", "author": "nft", "pid": 3122},
        },
        {
            "what": "drift",
            "difference": {
                "service": "shop/pay:http",
                "kind": "missing",
                "what": "10.96.7.7:80/TCP in map services",
            },
        },
    ]


@pytest.mark.parametrize("is_running", [False, True])
def test_a_headgate_that_writes_by_iptables_is_not_taken_for_another(
    tell: Tell, *, is_running: bool
) -> None:
    watched = Watched(Ear(), ([], [BY_NFT]), *[([], [])] * 2)
    watched.answer = msgspec.structs.replace(SAME, mode="iptables", is_running=is_running)
    told = [] if is_running else [CHANGED_LINE, SAME_LINE]
    assert tell(watched) == (0, [SAME_LINE, *told])


def test_what_was_heard_is_not_told_again_when_it_was_noticed(tell: Tell) -> None:
    watched = Watched(Ear(), ([], [BY_NFT]), *[([], [])] * 3)
    watched.noticed = {2: 0.1, 3: 0.2}
    assert tell(watched) == (0, [SAME_LINE, CHANGED_LINE, SAME_LINE])
