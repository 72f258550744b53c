"""Does `headgate top` count the connections that are made, each once, and show them to whom asks?"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import msgspec
import pytest

from endpoints.names import Protocol
from proxy.debug.rates.busy import Busy, Interval
from tests.lab import namespaces, topology
from tests.lab.lab import Lab
from tests.lab.objects import Endpoint, Port, nodes, service, slices

NODE, SENDER, OUTSIDE = "node-a", "pod-a1", "client"
PAY, DNS = ("10.96.7.7", "fd00:10:96::7"), ("10.96.7.53", "fd00:10:96::53")
NODE_PORT = 30080
PROGRAM = str(Path(sys.executable).with_name("headgate"))
CONNECTIONS, DATAGRAMS, FROM_OUTSIDE = 50, 7, 3
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def lab(mode: str) -> Iterator[Lab]:
    """Two Services, programmed by a headgate that is gone again; conntrack counts bytes."""
    with Lab() as built:
        built.apply(*nodes())
        endpoints = [Endpoint.of(built.pods[pod]) for pod in ("pod-b1", "pod-c1")]
        for name, vips, port in (
            ("shop/pay", PAY, Port(80, "http", node_port=NODE_PORT)),
            ("shop/dns", DNS, Port(53, "dns", Protocol.UDP)),
        ):
            built.apply(service(name, vips, [port]), *slices(name, [port], endpoints))
        built.exec(NODE, ["sysctl", "-qw", "net.netfilter.nf_conntrack_acct=1"])
        built.start_headgate(NODE, mode=mode)
        built.wait_synced()
        yield built
        built.stop_headgate(NODE)


@contextlib.contextmanager
def top(lab: Lab, *arguments: str, terminal: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """`headgate top` on the node, at a terminal or a pipe; ended after all."""
    with namespaces.inside(lab.network[NODE]):
        watching = subprocess.Popen(
            [PROGRAM, "top", *arguments],
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=subprocess.PIPE if terminal is None else terminal,
            text=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": ""},
        )
    with watching:
        try:
            yield watching
        finally:
            watching.kill()


def intervals(watching: subprocess.Popen[str]) -> Iterator[Interval]:
    """Its lines of JSON."""
    assert watching.stdout is not None
    for line in watching.stdout:
        yield msgspec.json.decode(line, type=Interval)


class Sums(dict[str, list[Busy]]):
    """What was told of each Service port, one interval after the other."""

    def __init__(self, told: Iterator[Interval]) -> None:
        super().__init__()
        self._told = told
        self.bytes: dict[str, float] = {}

    def take(self) -> Interval:
        """The next interval."""
        of = next(self._told)
        for one in of.services:
            self.setdefault(one.service, []).append(one)
            assert one.bytes_in_per_second is not None
            assert one.bytes_out_per_second is not None
            both = (one.bytes_in_per_second + one.bytes_out_per_second) * of.seconds
            self.bytes[one.service] = self.bytes.get(one.service, 0) + both
        return of

    def new(self) -> dict[str, int]:
        """New connections."""
        return {name: new for name, told in self.items() if (new := sum(of.new for of in told))}


def connect(lab: Lab) -> None:
    """CONNECTIONS of TCP, half of them over IPv6, DATAGRAMS of UDP and some through a NodePort."""
    for vip in PAY:
        answers = lab.connect_many(SENDER, vip, 80, count=CONNECTIONS // 2)
        assert all(answer.by for answer in answers)
    for answer in lab.connect_many(SENDER, DNS[0], 53, Protocol.UDP, count=DATAGRAMS):
        assert answer.by
    node = topology.node_named(NODE).addresses[0]
    for answer in lab.connect_many(OUTSIDE, node, NODE_PORT, count=FROM_OUTSIDE):
        assert answer.by


def tracked_bytes(lab: Lab, *places: tuple[str, int]) -> int:
    """What the program conntrack says went through the flows to these addresses and ports."""
    total = 0
    for address, port in places:
        family = "ipv6" if ":" in address else "ipv4"
        listed = ["conntrack", "-L", "-f", family, "-d", address]
        for line in lab.exec(NODE, listed).splitlines():
            if f" dport={port} " in line:
                total += sum(map(int, re.findall(r" bytes=(\d+)", line)))
    return total


def test_each_connection_is_counted_once_and_every_byte(lab: Lab) -> None:
    lab.exec(NODE, ["conntrack", "-F"])
    with top(lab, "-o", "json", "--interval", "300ms") as watching:
        sums = Sums(intervals(watching))
        first = sums.take()
        assert (first.in_use, first.known, first.at_least) == (0, 3, False)
        connect(lab)
        expected = {"shop/pay:http": CONNECTIONS + FROM_OUTSIDE, "shop/dns:dns": DATAGRAMS}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while sums.new() != expected and time.monotonic() < deadline:
            sums.take()
        sums.take()
        last = sums.take()  # what is told twice is not counted twice
        assert sums.new() == expected
        pay = [(vip, 80) for vip in PAY]
        pay.append((topology.node_named(NODE).addresses[0], NODE_PORT))
        assert round(sums.bytes["shop/pay:http"]) == tracked_bytes(lab, *pay) > 0
        assert round(sums.bytes["shop/dns:dns"]) == tracked_bytes(lab, (DNS[0], 53)) > 0
        assert {of.service: of.flows for of in last.services} == expected  # TIME_WAIT counts


def test_connections_that_end_before_the_next_look_are_counted(lab: Lab) -> None:
    with top(lab, "shop/dns", "-o", "json", "--interval", "1s", "--count", "3") as watching:
        sums = Sums(intervals(watching))
        sums.take()
        connect(lab)
        there = tracked_bytes(lab, (DNS[0], 53))
        lab.exec(NODE, ["conntrack", "-F"])
        sums.take()
        sums.take()
        assert watching.wait(PATIENCE_SECONDS) == 0
    assert sums.new() == {"shop/dns:dns": DATAGRAMS}
    assert 0 < round(sums.bytes["shop/dns:dns"]) <= there


def test_a_service_that_comes_later_is_found(lab: Lab) -> None:
    late = Port(80, "late"), ["10.96.7.99"]
    with top(lab, "-o", "json", "--interval", "300ms") as watching:
        told = intervals(watching)
        next(told)
        lab.apply(
            service("shop/late", late[1], [late[0]]),
            *slices("shop/late", [late[0]], [Endpoint.of(lab.pods["pod-b1"])]),
        )
        lab.wait_synced()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "shop/late:late" not in {of.service for of in next(told).services}:
            assert time.monotonic() < deadline
            assert lab.connect(SENDER, "10.96.7.99", 80).by
    lab.delete(service("shop/late", late[1], [late[0]]), *slices("shop/late", [late[0]], []))


def test_without_accounting_it_is_said_how_to_count_bytes(lab: Lab) -> None:
    with top(lab, "--interval", "300ms", "--count", "1") as watching:
        assert "sysctl" not in watching.communicate(timeout=PATIENCE_SECONDS)[0]
    sysctl = "net.netfilter.nf_conntrack_acct"
    lab.exec(NODE, ["sysctl", "-qw", f"{sysctl}=0"])
    try:
        connect(lab)
        with top(lab, "--interval", "300ms", "--count", "2", "--sort", "flows") as watching:
            said = watching.communicate(timeout=PATIENCE_SECONDS)[0]
    finally:
        lab.exec(NODE, ["sysctl", "-qw", f"{sysctl}=1"])
    assert watching.returncode == 0
    assert "\x1b" not in said
    one, two, rest = said.split("\n\n")
    assert rest == ""
    for block in (one, two):
        headline, heads, pay, *_, note = block.splitlines()
        assert "Service ports in use, by flows" in headline
        assert heads.split() == ["NEW/S", "IN/S", "OUT/S", "FLOWS", "SERVICE"]
        assert re.fullmatch(r" *[\d.]+ +- +- +\d+ +shop/pay:http", pay)
        assert f"sysctl -w {sysctl}=1" in note


def test_a_service_that_is_not_there_ends_it(lab: Lab) -> None:
    with pytest.raises(RuntimeError, match="Service shop/none is not in the kernel"):
        lab.exec(NODE, [PROGRAM, "top", "shop/none"])


class Terminal:
    """A terminal of some size, and what was written to it."""

    def __init__(self, lines: int, columns: int) -> None:
        self.hand, self.program = pty.openpty()
        self.resize(lines, columns)
        self._written = ""

    def resize(self, lines: int, columns: int) -> None:
        """Have another size."""
        ioctl(self.hand, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def close(self) -> None:
        """Hang up."""
        os.close(self.hand)
        os.close(self.program)

    def shows(self, pattern: str) -> list[str]:
        """Wait until a text like this stands on it, and return its lines."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            *_, shown = [frame for frame in self._written.split("\x1b[H") if frame] or [""]
            if "\x1b[J" in shown and re.search(pattern, shown):
                text = shown.partition("\x1b[J")[0].replace("\x1b[K", "")
                return text.replace("\r", "").split("\n")
            assert select.select([self.hand], [], [], deadline - time.monotonic())[0], shown
            self._written += os.read(self.hand, 1 << 16).decode()


@pytest.mark.parametrize("end", ["q", "Ctrl-C"])
def test_on_a_terminal_it_is_refreshed_in_place(lab: Lab, end: str) -> None:
    lab.exec(NODE, ["conntrack", "-F"])
    connect(lab)
    with contextlib.closing(Terminal(24, 80)) as terminal:
        before = termios.tcgetattr(terminal.program)
        with top(lab, "--interval", "300ms", terminal=terminal.program) as watching:
            terminal.shows("first figures")
            wide = terminal.shows("shop/pay:http")
            assert max(map(len, wide)) <= 80
            assert [line.split()[-1] for line in wide[2:]] == ["shop/dns:dns", "shop/pay:http"]
            terminal.resize(3, 60)
            watching.send_signal(signal.SIGWINCH)
            low = terminal.shows("Service ports(?!(.|\n)*pay)")
            assert len(low) == 3
            if end == "q":
                os.write(terminal.hand, b"q")
            else:
                watching.send_signal(signal.SIGINT)
            assert watching.wait(PATIENCE_SECONDS) == 0
            assert termios.tcgetattr(terminal.program) == before
            terminal.shows(r"\x1b\[\?25h")  # the cursor is back
