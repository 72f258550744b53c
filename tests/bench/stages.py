"""What is measured of a back end, stage by stage?"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tests.bench import commands, floor, idle, measure, program
from tests.bench.cluster import Size
from tests.bench.path import measure as path
from tests.bench.results import Failed, Measured, Report
from tests.bench.targets import IDLE_SIZE
from tests.bench.whole import measure as whole
from tests.bench.whole.story import Contender
from tests.lab import sandbox

STAND_IN_CHANGES = 20
ROUNDS = 3
"""Beside `ipvsadm`."""
MINUTES = ("iptables-nft", 10_000)
"""With more endpoints than that, kube-proxy's layout takes this back end minutes."""

PATH_SERVICES, PATH_ROUNDS = (1, 1_000, 10_000), 15
_1_000, _5_000, _10_000 = Size(1_000, 10), Size(5_000, 10), Size(10_000, 10)
_SLICES, _MANY, _WIDE = Size(100, 1_000), Size(50_000, 1), Size(5_000, 50)
_USUAL = (Size(100, 10), _1_000, _5_000, _10_000)


class Sizes(NamedTuple):
    """What is measured of a mode at which sizes, unless flags say otherwise."""

    parts: tuple[Size, ...]
    changes: int
    """Of each kind, by the parts of the program."""
    programs: tuple[Size, ...]
    whole: tuple[Size, ...]
    sustained: tuple[Size, ...] = ()


NFTABLES = Sizes(
    parts=(*_USUAL, _SLICES, _MANY, _WIDE),
    changes=200,
    programs=(_1_000, _10_000),
    whole=(*_USUAL, _SLICES, _MANY, _WIDE),
    sustained=(_1_000, _10_000),
)
IPTABLES = Sizes(
    parts=(_1_000, _5_000),
    changes=60,
    programs=(_1_000, _5_000),
    whole=(*_USUAL, _SLICES, _MANY),
)
IPVS = Sizes(
    parts=(Size(200, 10), Size(2_000, 10)),
    changes=60,
    programs=(Size(2_000, 10),),
    whole=(Size(100, 10), _1_000),
)


class Wish(NamedTuple):
    """What whoever runs the bench asks for."""

    stages: tuple[str, ...]
    sizes: tuple[Size, ...]
    """Instead of the usual ones; empty: these."""
    changes: int
    """The same."""
    contenders: Sequence[Contender]
    full: bool
    """What takes minutes too."""


class Bench:
    """Measures, and puts what it finds into a report; also what it could not measure, and why."""

    def __init__(self, found: Report, wish: Wish, tell: Callable[[str], None]) -> None:
        self._found = found
        self._wish = wish
        self._listener = tell
        self._told = ""
        self._given_up: set[tuple[str, Contender]] = set()
        """Back ends, and who failed by them: whoever is waited for in vain costs 15 minutes."""

    def measure(self, back_end: str) -> None:
        """Everything that is asked for of a back end."""
        stages = {
            "whole": self._whole,
            "sustained": self._sustained,
            "parts": self._parts,
            "programs": self._programs,
            "idle": self._idle,
        }
        for name, stage in stages.items():
            if name in self._wish.stages:
                before = self._told
                stage(back_end, _usual(back_end))
                if self._told == before:
                    self._tell(f"{back_end}, {name}: nothing at these sizes")

    def measure_paths(self, back_ends: Sequence[str]) -> None:
        """The way of packets through the rules of these back ends, by turns."""
        if "path" in self._wish.stages and back_ends:
            peers = [one.executable for one in self._wish.contenders if one.executable]
            for peer in (*peers, None):
                with self._kept():
                    self._found.paths += path.measured(
                        back_ends,
                        PATH_SERVICES,
                        PATH_ROUNDS,
                        peer,
                        self._tell,
                        full=self._wish.full,
                    )
                    return

    def _parts(self, back_end: str, usual: Sizes) -> None:
        for of in self._sizes(usual.parts):
            changes = self._wish.changes or usual.changes
            with self._kept():
                found = measure.measured(back_end, of, changes, self._tell)
                self._found.sizes.append(found)
                self._beside(found)
                if back_end == "nftables":
                    sandbox.enter_private()
                    self._tell(f"{back_end}, {of}: the kernel alone")
                    self._found.floors.append(floor.floor(of))

    def _beside(self, found: Measured) -> None:
        """What else writes the same to the kernel."""
        of, back_end = found.size, found.back_end
        takes_minutes = back_end == MINUTES[0] and of.services * of.endpoints > MINUTES[1]
        if measure.variant(back_end) and (self._wish.full or not takes_minutes):
            found.stand_in = measure.stand_in(back_end, of, STAND_IN_CHANGES, self._tell)
        if back_end == "ipvs":
            found.beside = measure.beside(of, ROUNDS, self._tell)

    def _programs(self, back_end: str, usual: Sizes) -> None:
        for of in self._among(usual.programs):
            with self._kept():
                sandbox.enter_private()
                self._tell(f"{back_end}, {of}: headgate run --once")
                self._found.runs.append(program.run_once(back_end, of))
                sandbox.enter_private()
                self._tell(f"{back_end}, {of}: commands")
                self._found.answers += commands.answered(back_end, of)

    def _idle(self, back_end: str, _: Sizes) -> None:
        for of in self._among([IDLE_SIZE]):
            with self._kept():
                sandbox.enter_private()
                self._tell(f"{back_end}, {of}: idle for {idle.IDLE_SECONDS:.0f} s")
                self._found.idle.append(idle.idle(back_end, of))

    def _whole(self, back_end: str, usual: Sizes) -> None:
        amount = whole.AMOUNT
        if self._wish.changes:
            amount = amount._replace(changes=self._wish.changes)
        full = self._wish.full
        for of in self._sizes(usual.whole):
            for one in self._wish.contenders:
                if (back_end, one) in self._given_up:
                    self._tell(f"{back_end}, {of}: {one.program} left out: it failed before")
                    continue
                self._given_up.add((back_end, one))
                with self._kept():
                    self._found.wholes += whole.measured(
                        [one], back_end, of, self._tell, amount=amount, full=full
                    )
                    self._given_up.remove((back_end, one))

    def _sustained(self, back_end: str, usual: Sizes) -> None:
        for of in self._among(usual.sustained):
            with self._kept():
                self._found.sustained.append(whole.sustained(back_end, of, self._tell))

    def _tell(self, progress: str) -> None:
        self._told = progress
        self._listener(progress)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Whatever fails here is reported: it shall not cost what was measured before it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 (it is named in the report, which fails by it)
            if not isinstance(error, (RuntimeError, OSError)):
                traceback.print_exc()
            why = str(error) or type(error).__name__
            self._found.failed.append(Failed(self._told, why))
            self._listener(f"FAILED: {self._told}: {why}")

    def _sizes(self, usual: Sequence[Size]) -> Sequence[Size]:
        return self._wish.sizes or usual

    def _among(self, usual: Sequence[Size]) -> Iterator[Size]:
        """Those of the usual sizes that are asked for."""
        return (of for of in usual if of in (self._wish.sizes or usual))


STAGES = ("whole", "sustained", "path", "parts", "programs", "idle")


def _usual(back_end: str) -> Sizes:
    if back_end == "ipvs":
        return IPVS
    return IPTABLES if measure.variant(back_end) else NFTABLES
