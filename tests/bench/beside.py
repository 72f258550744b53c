"""What does `ipvsadm` take for what the IPVS mode does? `python -m tests.bench.beside SIZE ROUNDS`.

The same virtual and real servers, given to the same kernel by turns: by `ipvsadm --restore`, by our
commands alone, and by the whole mode with rules, sets and addresses. After each of them the kernel
must list exactly these servers. Answers with one line of JSON.

Each has a network of its own, which stays until all is done: IPVS keeps deleted real servers for two
minutes and searches them whenever one is added, and a network that ends is cleared away at leisure.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

import msgspec

from endpoints.decode import decode_list
from endpoints.events import Upsert
from endpoints.names import ObjectName
from endpoints.node import NodeView
from endpoints.state import ClusterState
from modes.base import ModeSettings, Plans
from modes.ipvs import ipset_messages, netlink
from modes.ipvs.draining import Draining
from modes.ipvs.fragment import Choice, render
from modes.ipvs.kernel import Ipvs
from modes.ipvs.marks import Layout, Marks
from modes.ipvs.mode import IpvsMode
from modes.ipvs.program import Held, Program, Steps, steps
from modes.ipvs.servers import Command, VirtualServer
from modes.xtables import kernel as iptables
from proxy.garbage import collect_seldom
from tests.bench import cluster, ipvsadm, program
from tests.bench.cluster import Size
from tests.bench.instruments import (
    MeasuredPrograms,
    Stopwatch,
    count_children,
    peak_megabytes,
)
from tests.bench.program import Launched
from tests.lab import namespaces, sandbox

Clustered = dict[ObjectName, Plans]


class Beside(msgspec.Struct):
    """What each took; seconds, of the fastest of some rounds: other work only ever adds to it."""

    rounds: int
    ipvsadm: Launched
    """The program, from its start to its exit."""
    lines: int
    bytes_sent: int
    pure: float
    """From plans to the bytes of all messages: fragments, steps, encoding."""
    encode: float
    """Of that: from steps to bytes."""
    commands: float
    """Encoding and sending the commands of IPVS, as many as `ipvsadm` has lines."""
    sends: int
    """System calls that it took to send them."""
    one_by_one: float
    """The same, each command acknowledged before the next one, as most programs do it."""
    mode: float
    """The whole mode: `start` and `replace`, from plans to a kernel that serves them."""
    mode_programs: float
    """Of that: the programs of iptables, each from its start to its exit."""
    mode_processes: int
    """How many."""
    mode_messages: int
    """Netlink messages of it, those that read too."""
    peak_megabytes: float
    """Of the process that did this, `ipvsadm` aside."""


def main(of: Size, rounds: int) -> None:
    """Measure, and print what it came to."""
    sandbox.require_sandbox()
    collect_seldom()
    node, plans = planned(of)
    print(msgspec.json.encode(beside(node, plans, rounds)).decode())


def planned(of: Size) -> tuple[NodeView, Clustered]:
    """The node, and what a cluster of this size means for it."""
    state = ClusterState(cluster.settings("ipvs"), cluster.LOCAL_ADDRESSES)
    for kind, page in cluster.lists(of):
        for obj in decode_list(page, kind).objects:
            state.fold(Upsert(obj))
    return state.node, {name: state.plans(name) for name in state.services()}


def beside(node: NodeView, plans: Clustered, rounds: int) -> Beside:
    """Measure so many rounds. Leaves networks behind, which end with this process."""
    commands = [owned.command for owned in _steps(node, plans).commands]
    wanted = list(ipvsadm.lines(commands))
    text = "".join(f"{line}\n" for line in wanted).encode()
    measure = _Measure(node, plans, commands, text, sorted(wanted))
    programs, alone, whole, pure = [], [], [], []
    for _ in range(rounds):
        programs.append(measure.ipvsadm())
        alone.append(measure.commands())
        whole.append(measure.mode())
        pure.append(_pure(node, plans))
    return Beside(
        rounds=rounds,
        ipvsadm=min(programs, key=lambda of: of.seconds),
        lines=len(wanted),
        bytes_sent=len(text),
        pure=min(pure)[0],
        encode=min(pure)[1],
        commands=min(alone)[0],
        sends=min(alone)[1],
        one_by_one=measure.one_by_one(),
        mode=min(whole).seconds,
        mode_programs=min(whole).programs,
        mode_processes=min(whole).processes,
        mode_messages=min(whole).messages,
        peak_megabytes=peak_megabytes(),
    )


class _Whole(NamedTuple):
    """One start of the mode."""

    seconds: float
    programs: float
    processes: int
    messages: int


class _Measure:
    """Each way to the same servers; a way that leads elsewhere is no measurement."""

    def __init__(
        self,
        node: NodeView,
        plans: Clustered,
        commands: Sequence[Command],
        text: bytes,
        wanted: Sequence[str],
    ) -> None:
        self._node = node
        self._plans = plans
        self._commands = commands
        self._text = text
        self._wanted = wanted
        self._watch = Stopwatch()
        iptables._run = MeasuredPrograms(self._watch, weighed=False).run
        count_children(self._watch)

    def ipvsadm(self) -> Launched:
        with self._network():
            # It ends with status 0 even after a line that it did not understand.
            return program.launch(ipvsadm.RESTORE, self._text)

    def commands(self) -> tuple[float, int]:
        with self._network(), _connection() as ipvs:
            sends = ipvs.sends
            seconds = _timed(lambda: ipvs.send(self._commands))
            return seconds, ipvs.sends - sends

    def one_by_one(self) -> float:
        with self._network(), _connection() as ipvs:

            def send() -> None:
                for command in self._commands:
                    ipvs.send([command])

            return _timed(send)

    def mode(self) -> _Whole:
        watch = self._watch
        watch.reset()
        with self._network():
            mode = IpvsMode(ModeSettings(), lambda *_, **__: None)

            def start() -> None:
                mode.start(self._node)
                mode.replace(self._plans)

            seconds = _timed(start)
            programs = watch.seconds["kernel"] + watch.seconds["kernel read"]
            found = _Whole(seconds, programs, watch.counts["child processes"], mode.messages)
            mode.close()
            return found

    @contextmanager
    def _network(self) -> Iterator[None]:
        with namespaces.inside(namespaces.create_network()):
            namespaces.loopback_up()
            yield
            done = subprocess.run(ipvsadm.SAVE, check=True, capture_output=True, text=True)
            assert sorted(done.stdout.splitlines()) == self._wanted, "other virtual servers"


@contextmanager
def _connection() -> Iterator[Ipvs]:
    ipvs = Ipvs()
    try:
        yield ipvs
    finally:
        ipvs.close()


def _steps(node: NodeView, plans: Clustered) -> Steps:
    marks = Marks(Layout(ModeSettings().masquerade_bit), {})
    choice = Choice(marks.of, lambda _: VirtualServer())
    of = Program()
    of.commit({name: render(plan, node, choice) for name, plan in plans.items()})
    return steps(Held(), of.goal(), Draining(), ModeSettings().ipvs.drain_seconds)


def _pure(node: NodeView, plans: Clustered) -> tuple[float, float]:
    """Seconds from plans to bytes, and of that from steps to bytes."""
    change = Steps()

    def work() -> None:
        nonlocal change
        change = _steps(node, plans)

    def encode() -> None:
        for owned in change.commands:
            netlink.encode(owned.command)
        for one in chain(change.additions, change.removals):
            ipset_messages.change(one)

    seconds = _timed(work)
    encoding = _timed(encode)
    return seconds + encoding, encoding


def _timed(work: Callable[[], object]) -> float:
    """Seconds of it, with nothing remembered of the rounds before."""
    remembered = (netlink._service, netlink._real, ipset_messages._address, iptables._kind)
    for cache in remembered:
        cache.cache_clear()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(cluster.size(sys.argv[1]), int(sys.argv[2]))
