"""Is a trace bounded, quiet where it must be, and refused in one line where it may not be?"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from endpoints.names import Protocol
from modes.tracing.following import Following, Matched
from modes.tracing.kernel import PacketTrace, clock
from modes.tracing.program import Aim
from tests.lab import namespaces, sandbox

UNPRIVILEGED = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
HEADGATE = Path(sys.executable).with_name("headgate")
PATIENCE_SECONDS = 20.0
HOSTS = {0: "127.0.0.1", 1: "::1"}
PORT = 4007
RULE = """
table inet other {
    chain entry { type filter hook output priority -10; udp dport 4007 counter jump deeper; }
    chain deeper { meta l4proto udp counter; }
}
"""
BOTH = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """Nothing but `lo`."""
    with sandbox.own_network():
        namespaces.loopback_up()
        yield


def aim(family: int) -> Aim:
    return Aim(HOSTS[family], PORT, Protocol.UDP)


@contextlib.contextmanager
def sender(family: int) -> Iterator[socket.socket]:
    """To a port where somebody listens, so that nothing is answered."""
    kind = (socket.AF_INET, socket.AF_INET6)[family]
    with socket.socket(kind, socket.SOCK_DGRAM) as heard:
        heard.bind((HOSTS[family], PORT))
        with socket.socket(kind, socket.SOCK_DGRAM) as one:
            one.connect((HOSTS[family], PORT))
            yield one


def listen(trace: PacketTrace, following: Following) -> bool:
    """Read until the packet of the only flow has arrived; whether something was lost."""
    was_lost = False
    deadline = clock() + PATIENCE_SECONDS
    while not (following.flows and following.flows[0].way.is_through):
        assert clock() < deadline
        events, lost = trace.hear(1)
        was_lost = was_lost or lost
        for when, event in events:
            following.take(event, when)
    return was_lost


def followed(family: int) -> tuple[PacketTrace, Following]:
    """One datagram to a process of this host."""
    with PacketTrace(aim(family)) as trace, sender(family) as one:
        following = Following(aim(family), 1, trace.table)
        one.send(b"?")
        listen(trace, following)
        for step in following.flows[0].way.steps:
            if isinstance(step, Matched):
                trace.rule(step.rule)  # to be read before the trace ends
        return trace, following


def matched(following: Following) -> list[Matched]:
    return [step for step in following.flows[0].way.steps if isinstance(step, Matched)]


@BOTH
def test_rules_of_any_table_are_told(family: int) -> None:
    subprocess.run(["nft", "-f", "-"], input=RULE, text=True, check=True)
    with PacketTrace(aim(family)) as trace, sender(family) as one:
        following = Following(aim(family), 1, trace.table)
        one.send(b"?")
        listen(trace, following)
        told = [(step.rule.chain, step.verdict) for step in matched(following)]
        assert told == [("entry", "jump deeper"), ("deeper", "continue")]
        texts = [trace.rule(step.rule).text for step in matched(following)]
        assert texts == ["udp dport 4007 jump deeper", "meta l4proto udp"]


@BOTH
@pytest.mark.parametrize("logger", ["NONE", "nf_log_syslog"])
def test_iptables_legacy_is_not_made_to_fill_the_log(family: int, logger: str) -> None:
    """The mark is set and taken away around each look, where a logger would be told of it."""
    known = Path(f"/proc/sys/net/netfilter/nf_log/{(2, 10)[family]}")
    names = ("nf_log_syslog", ("nf_log_ipv4", "nf_log_ipv6")[family])
    name = logger if logger == "NONE" else next(n for n in names if _sets(known, n))
    assert _sets(known, name)
    subprocess.run(["nft", "-f", "-"], input=RULE, text=True, check=True)
    command = ("iptables-legacy", "ip6tables-legacy")[family]
    subprocess.run([command, "-A", "INPUT", "-j", "ACCEPT"], check=True)
    trace, following = followed(family)
    assert trace.is_quiet is (logger != "NONE")
    assert bool(matched(following)) is (logger == "NONE")


def _sets(path: Path, name: str) -> bool:
    """Whether the kernel takes this logger."""
    try:
        path.write_text(name)
    except OSError:
        return False
    return True


@BOTH
def test_a_rule_of_iptables_legacy_is_found_by_its_count(family: int) -> None:
    command = ("iptables-legacy", "ip6tables-legacy")[family]
    rule = ["-A", "OUTPUT", "-p", "udp", "--dport", str(PORT), "-j", "DROP"]
    subprocess.run([command, *rule], check=True)
    subprocess.run([command, "-A", "OUTPUT", "-p", "tcp", "-j", "DROP"], check=True)
    with PacketTrace(aim(family)) as trace, sender(family) as one:
        assert trace.counted() == ()
        with contextlib.suppress(PermissionError):  # the kernel tells a sender of its own drop
            one.send(b"?")
        (dropping,) = trace.counted()
    assert dropping.text == f"-A OUTPUT -p udp -m udp --dport {PORT} -j DROP"


@BOTH
def test_a_flood_is_read_in_part(family: int) -> None:
    """The kernel tells of a few hundred packets a second; one flow is enough."""
    with PacketTrace(aim(family)) as trace, sender(family):
        following = Following(aim(family), 1, trace.table)
        kind = (socket.AF_INET, socket.AF_INET6)[family]
        for _ in range(5000):
            with socket.socket(kind, socket.SOCK_DGRAM) as one:
                one.sendto(b"?", (HOSTS[family], PORT))
        assert not listen(trace, following)
        assert len(following.flows) == 1
        assert 0 < following.passed_over < 1000
        ends = following.flows[0].ends
        trace.narrow([Aim(ends.destination, PORT, Protocol.UDP, ends.source, ends.source_port)])
        while trace.hear(0)[0]:
            pass
        with socket.socket(kind, socket.SOCK_DGRAM) as other:
            other.sendto(b"?", (HOSTS[family], PORT))
        assert trace.hear(0) == ([], False)


@pytest.mark.parametrize("privileged", [False, True])
def test_without_the_capability(*, privileged: bool) -> None:
    prefix = () if privileged else UNPRIVILEGED
    command = [*prefix, str(HEADGATE), "trace", "127.0.0.1:80", "--timeout=10ms"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if privileged else 2)
    assert ("CAP_NET_ADMIN" in done.stderr) is not privileged
    assert done.stderr.count("\n") == 1
