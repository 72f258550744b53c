"""How is one size measured? In processes of its own, in a network namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from statistics import mean
from typing import TypeVar

import msgspec

from endpoints.names import Family
from modes.xtables.kernel import installed
from modes.xtables.variant import Variant
from tests.bench import cluster, feed, kube_proxy, program
from tests.bench.beside import Beside
from tests.bench.cluster import Size
from tests.bench.results import Measured, StandIn
from tests.bench.worker import Loaded, Restarted, Weighed, percentile
from tests.lab import modes, sandbox

T = TypeVar("T")
REAL_SERVERS = 60_000
"""In all rounds of one size beside `ipvsadm`, at most."""


def measured(back_end: str, of: Size, changes: int, tell: Callable[[str], None]) -> Measured:
    """Measure one size; leaves this process in a fresh network namespace.

    Raises CalledProcessError if what is measured fails; it has said why on standard error.
    """
    sandbox.enter_private()
    tell(f"{back_end}, {of}: generating")
    descriptor = feed.write(_frames(of, changes))
    weighed = None
    try:
        tell(f"{back_end}, {of}: load, {changes} changes of each kind")
        loaded = _worker("load", back_end, descriptor, Loaded)
        tell(f"{back_end}, {of}: restart")
        restarted = _worker("restart", back_end, descriptor, Restarted)
        if variant(back_end):
            tell(f"{back_end}, {of}: the size of iptables")
            sandbox.enter_private()
            weighed = _worker("weigh", back_end, descriptor, Weighed)
    finally:
        os.close(descriptor)
    return Measured(back_end, of.services, of.endpoints, loaded, restarted, weighed)


def stand_in(back_end: str, of: Size, changes: int, tell: Callable[[str], None]) -> StandIn:
    """Give iptables what kube-proxy would; leaves this process in a fresh network namespace.

    Raises program.Failed.
    """
    sandbox.enter_private()
    programs = installed(Family.IPV4, Variant(variant(back_end)))
    assert programs is not None, f"{back_end} is not installed"
    restore = [programs.restore, "--noflush", "--counters"]
    program.launch(restore, kube_proxy.JUMPS.encode())
    tell(f"{back_end}, {of}: kube-proxy's layout")
    text = kube_proxy.first(of)
    first = program.launch(restore, text)
    tell(f"{back_end}, {of}: kube-proxy's layout, {changes} changes")
    texts = list(kube_proxy.changes(of, changes))
    costs = [program.launch(restore, text) for text in texts]
    seconds = [cost.seconds for cost in costs]
    return StandIn(
        first=first,
        lines=text.count(b"\n"),
        bytes_sent=len(text),
        change_p50=percentile(seconds, 50) * 1000,
        change_p90=percentile(seconds, 90) * 1000,
        change_user=mean(cost.user for cost in costs) * 1000,
        change_system=mean(cost.system for cost in costs) * 1000,
        change_peak_megabytes=max(cost.peak_megabytes for cost in costs),
        change_lines=mean(text.count(b"\n") for text in texts),
        change_bytes=mean(map(len, texts)),
    )


def beside(of: Size, rounds: int, tell: Callable[[str], None]) -> Beside:
    """Give IPVS the same by other ways; raises as `measured`.

    Fewer rounds of large sizes: the kernel has to have room for all of them. The network of the
    caller stays: clearing one away would take the time of what is measured.
    """
    rounds = max(1, min(rounds, REAL_SERVERS // (of.services * of.endpoints)))
    tell(f"ipvs, {of}: beside ipvsadm, {rounds} rounds")
    return _answer(["beside", f"{of.services}x{of.endpoints}", str(rounds)], Beside)


def variant(back_end: str) -> str:
    """Which iptables writes; empty for a back end that starts no program."""
    return modes.BACK_ENDS[back_end][1]


def _frames(of: Size, changes: int) -> Iterator[tuple[str, bytes]]:
    yield from cluster.lists(of)
    yield from (("replaced", line) for line in cluster.replacements(of, changes))
    yield from (("resized", line) for line in cluster.resizings(of, changes))
    yield from (("arrived", lines) for lines in cluster.arrivals(of, changes))
    yield from (("departed", lines) for lines in cluster.departures(of, changes))


def _worker(part: str, back_end: str, descriptor: int, answer: type[T]) -> T:
    return _answer(["worker", part, back_end, str(descriptor)], answer, [descriptor])


def _answer(words: Sequence[str], answer: type[T], descriptors: Collection[int] = ()) -> T:
    """What a module of the bench prints, with these arguments."""
    module, *arguments = words
    command = [sys.executable, "-m", f"tests.bench.{module}", *arguments]
    done = subprocess.run(command, pass_fds=descriptors, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=answer)
