"""Are lies forgotten among real entries, and does that cost what the change is large?"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from conntrack.flows import Flow
from conntrack.kernel import Kernel
from conntrack.tracker import Cleaned, Conntrack
from endpoints.names import Family, ObjectName
from endpoints.plan import ServicePlan
from modes.base import Delta, Plans
from tests.kernel.conntrack.table import Table, seen
from tests.unit.conntrack.flowing import V4, V6, AtOnce, endpoint, flow, name, plan
from tests.unit.endpoints.build import NODE_A

VIP, VIP6 = "10.96.7.7:53", "[fd00:10:96::7]:53"
A, B = "10.244.1.2:5353", "10.244.2.3:5353"
A6, B6 = "[fd00:10:244:1::2]:5353", "[fd00:10:244:1::3]:5353"
MANY, HITS = 50_000, 300
DATAGRAM = 32 << 10


@pytest.fixture
def conntrack(kernel: Kernel) -> Iterator[AtOnce]:
    made = AtOnce(Conntrack(time.monotonic, open_kernel=lambda: kernel))
    yield made
    made.close()


def told(*plans: ServicePlan) -> dict[ObjectName, Plans]:
    return {name(): plans}


def test_of_both_families_just_the_lies_are_forgotten(conntrack: AtOnce, table: Table) -> None:
    conntrack.replaced(told(plan(VIP, "node:8472", by=[A, B]), plan(VIP6, by=[A6, B6])), NODE_A, ())
    stays = [
        flow(VIP, B),
        flow(VIP6, B6),
        flow("192.168.0.12:8472"),  # VXLAN to another node
        flow("192.168.0.12:8472", A),  # translated by others' rules
        flow("203.0.113.99:53", A),
        flow(VIP, "192.0.2.99:53"),
        flow(VIP, A, zone=9),
    ]
    lies = [flow(VIP, A), flow("192.168.0.11:8472", A), flow(VIP6, A6)]
    table.track(lies)
    stays = table.track(stays)
    change = Delta(told(plan(VIP, "node:8472", by=[B]), plan(VIP6, by=[B6])))
    cleaned = conntrack.applied(change, NODE_A, ())
    assert cleaned.deleted == {V4: 2, V6: 1}
    assert set(cleaned.seconds) == {V4, V6}
    assert cleaned.dumps == 3
    assert len(seen("ipv6")) == 1
    left = {(one.destination, one.port, one.answering, one.zone) for one in seen("ipv4")}
    assert left == {
        (*one.original.destination, one.reply.source.address, one.zone)
        for one in stays
        if one.family is V4
    }


def _crowd(by: str) -> list[Flow]:
    """Flows to two hundred Services; HITS of them to one Service and one endpoint of it."""
    others = [
        flow(f"10.96.1.{n % 200 + 1}:53", f"10.244.9.{n % 200 + 1}:53", port=1024 + n // 200)
        for n in range(MANY - 2 * HITS)
    ]
    ours = [flow(VIP, by, port=1024 + n) for n in range(HITS)]
    return others + ours + [flow(VIP, B, port=2048 + n) for n in range(HITS)]


def test_among_fifty_thousand_only_what_is_in_doubt_is_read(
    conntrack: AtOnce, kernel: Kernel, table: Table
) -> None:
    conntrack.replaced(told(plan(VIP, by=[A, B])), NODE_A, ())
    table.track(_crowd(A))
    kernel.bytes_received = 0
    cleaned = conntrack.applied(Delta(told(plan(VIP, by=[B]))), NODE_A, ())
    assert cleaned.deleted == {V4: HITS}
    assert (cleaned.dumps, cleaned.messages) == (1, 1 + HITS)
    # About 200 bytes an entry: those of the Service, and nobody else's.
    assert kernel.bytes_received < 2 * HITS * 300 + DATAGRAM
    assert _count() == MANY - HITS


def _count() -> int:
    said = subprocess.run(["conntrack", "-C"], check=True, capture_output=True, text=True)
    return int(said.stdout)


@pytest.mark.parametrize(
    "after",
    [
        plan(VIP, by=[A, B, "10.244.9.9:5353"]),
        plan(VIP, by=[B], unused=[endpoint(A)]),
        plan(VIP, by=[B, A]),
    ],
    ids=["an endpoint more", "topology", "nothing"],
)
def test_a_change_that_makes_no_lies_sends_nothing(
    conntrack: AtOnce, kernel: Kernel, after: ServicePlan
) -> None:
    conntrack.replaced(told(plan(VIP, by=[A, B])), NODE_A, ())
    sent = kernel.messages
    assert conntrack.applied(Delta(told(after)), NODE_A, ()) == Cleaned()
    assert kernel.messages == sent


LOOPBACK = {Family.IPV4: "127.0.0.1", Family.IPV6: "::1"}


def _translate(family: Family, vip: str, port: int) -> None:
    """By legacy iptables, which every kernel of the tests has."""
    program = "iptables-legacy" if family is V4 else "ip6tables-legacy"
    loopback = LOOPBACK[family] if family is V4 else f"[{LOOPBACK[family]}]"
    nat = [program, "-w", "-t", "nat"]
    subprocess.run([*nat, "-F", "OUTPUT"], check=True)
    rule = ["-d", vip, "-p", "udp", "--dport", "53", "-j", "DNAT"]
    to = ["--to-destination", f"{loopback}:{port}"]
    subprocess.run([*nat, "-A", "OUTPUT", *rule, *to], check=True)


def _server(family: Family, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET if family is V4 else socket.AF_INET6, socket.SOCK_DGRAM)
    made.settimeout(5)
    made.bind((LOOPBACK[family], port))
    return made


@pytest.mark.parametrize("family", Family)
@pytest.mark.usefixtures("network")
def test_the_next_packet_goes_where_the_rules_of_now_lead(
    conntrack: AtOnce, family: Family
) -> None:
    vip = "10.96.7.7" if family is V4 else "fd00:10:96::7"
    at = f"{vip}:53" if family is V4 else f"[{vip}]:53"
    here = LOOPBACK[family] if family is V4 else f"[{LOOPBACK[family]}]"
    subprocess.run(
        ["ip", "address", "add", vip, "dev", "lo", *(["nodad"] if family is V6 else [])], check=True
    )
    with _server(family, 5353) as old, _server(family, 5454) as new, _server(family, 0) as client:
        conntrack.replaced(told(plan(at, by=[f"{here}:5353"])), NODE_A, ())
        _translate(family, vip, 5353)
        client.sendto(b"1", (vip, 53))
        assert old.recv(9) == b"1"
        _translate(family, vip, 5454)
        client.sendto(b"2", (vip, 53))
        assert old.recv(9) == b"2"  # what conntrack remembers is stronger than rules
        change = Delta(told(plan(at, by=[f"{here}:5454"])))
        assert conntrack.applied(change, NODE_A, ()).deleted == {family: 1}
        client.sendto(b"3", (vip, 53))
        assert new.recv(9) == b"3"
