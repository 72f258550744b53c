"""Does anything that others made in the kernel ever change? Not while we run, nor when we are killed or cleaned up."""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.lab.objects import Endpoint, Port, nodes, service, slices
from tests.packets import ipvs

NODE, POD, CLIENT = "node-a", "pod-a2", "client"
VIPS = {"pay": ("10.96.7.7", "fd00:10:96::7"), "taken": ("10.96.7.8", "fd00:10:96::8")}
BALANCER = ("198.51.100.20", "2001:db8:198::20")
TAKEN = ("192.0.2.50", "2001:db8:192::50")
"""External IPs of a Service of ours, at which somebody else has virtual servers."""
EXCLUDED, STALE = "192.0.2.70", "192.0.2.80"
HEADGATE = str(Path(sys.executable).with_name("headgate"))
PORTS = [Port(80)]
_TABLES = ("nat", "mangle", "filter")

_SETUP = """
ip link add kube-ipvs0 type dummy
ip address add 192.0.2.200/32 dev kube-ipvs0
ip address add 2001:db8:192::200/128 dev kube-ipvs0 nodad
ip link add theirs type dummy
ip address add 192.0.2.201/32 dev theirs
ip link set theirs up
ipvsadm -A -t 192.0.2.201:443 -s wlc -p 77
ipvsadm -a -t 192.0.2.201:443 -r 10.244.2.2:8080 -g -w 3
ipvsadm -a -t 192.0.2.201:443 -r 10.244.3.2:443 -i -w 0
ipvsadm -A -t 192.168.0.11:9999 -s lc
ipvsadm -a -t 192.168.0.11:9999 -r 10.244.1.2:8080 -m -w 2
ipvsadm -A -u [fd00:192:168::11]:9999 -s sh
ipvsadm -A -f 77 -s rr
ipvsadm -a -f 77 -r 10.244.1.2:8080 -m -w 1
ipvsadm -A -t 192.0.2.50:80 -s rr
ipvsadm -a -t 192.0.2.50:80 -r 10.244.2.2:8080 -m -w 5
ipvsadm -A -t [2001:db8:192::50]:80 -s rr
ipset create THEIRS hash:ip,port comment
ipset add THEIRS 10.96.7.7,tcp:80 comment "not yours"
ipset create KUBE-THEIRS hash:ip family inet6
iptables-legacy -t nat -N THEIRS
iptables-legacy -t nat -A THEIRS -m set --match-set THEIRS dst,dst -j RETURN
iptables-legacy -t nat -A PREROUTING -d 192.0.2.201/32 -j THEIRS
iptables-legacy -t mangle -A PREROUTING -d 192.0.2.202/32 -j MARK --set-mark 77
iptables-legacy -t filter -A FORWARD -s 192.0.2.203/32 -j DROP
ip6tables-legacy -t filter -A INPUT -s 2001:db8:192::203/128 -j DROP
"""


def snapshot(lab: Lab) -> dict[str, str]:
    """All that the kernel of the node holds, by who tells it; no counter, no date."""
    told = {}
    for command in (
        "ipvsadm -Sn",
        "ipset save",
        "ip -oneline address",
        "iptables-legacy-save",
        "ip6tables-legacy-save",
    ):
        text = lab.exec(NODE, command.split())
        lines = [
            re.sub(r" \[\d+:\d+\]$", "", line) for line in text.splitlines() if line[:1] != "#"
        ]
        told[command] = "\n".join(lines)
    return told


def assert_theirs_is_there(lab: Lab, before: dict[str, str]) -> None:
    """Every line of before, and of rules every line in its order."""
    for command, text in snapshot(lab).items():
        there = set(text.splitlines())
        missing = [line for line in before[command].splitlines() if line not in there]
        assert not missing, f"{command}: {missing} of others is gone from\n{text}"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A node on which others were first; a Service of ours wants what one of them has."""
    with Lab() as built:
        endpoints = [Endpoint.of(built.pods[pod]) for pod in ("pod-a1", "pod-b1")]
        built.apply(
            *nodes(),
            service("shop/pay", VIPS["pay"], PORTS, ingress=BALANCER),
            *slices("shop/pay", PORTS, endpoints),
            service("shop/taken", VIPS["taken"], PORTS, spec={"externalIPs": list(TAKEN)}),
            *slices("shop/taken", PORTS, endpoints),
        )
        # To read a table is to make its own chains.
        for command, table in product(("iptables-legacy", "ip6tables-legacy"), _TABLES):
            built.exec(NODE, [command, "-t", table, "-S"])
        for line in _SETUP.strip().splitlines():
            built.exec(NODE, shlex.split(line))
        yield built


@pytest.fixture(autouse=True)
def nobody_stays(lab: Lab) -> Iterator[None]:
    """Whatever a test has come to."""
    yield
    with contextlib.suppress(KeyError):
        lab.stop_headgate(NODE)


def test_nothing_of_others_changes(lab: Lab) -> None:
    before = snapshot(lab)
    for number in (signal.SIGKILL, signal.SIGTERM):
        lab.start_headgate(NODE, mode="ipvs")
        lab.wait_synced()
        assert_theirs_is_there(lab, before)
        _assert_ours_is_served(lab)
        lab.stop_headgate(NODE, number)
        assert_theirs_is_there(lab, before)
        _assert_ours_is_served(lab)
    lab.exec(NODE, [HEADGATE, "cleanup"])
    assert snapshot(lab) == before


def _assert_ours_is_served(lab: Lab) -> None:
    for family in (0, 1):
        for address, source in (
            (VIPS["pay"][family], POD),
            (BALANCER[family], CLIENT),
            (VIPS["taken"][family], POD),
        ):
            answers = lab.connect_many(source, address, 80, count=8)
            assert {answer.by for answer in answers} == {"pod-a1", "pod-b1"}


def test_a_place_that_is_taken_is_told_and_left_alone(lab: Lab) -> None:
    lab.start_headgate(NODE, mode="ipvs")
    lab.wait_synced()
    held = ipvs.servers(lab, NODE)
    assert held[f"-t {TAKEN[0]}:80"].weights == {"10.244.2.2:8080": 5}
    assert held[f"-t [{TAKEN[1]}]:80"].weights == {}
    lines = [line.text for line in lab.headgate(NODE).lines]
    told = [line for line in lines if "shop/taken" in line]
    assert told, "\n".join(lines)
    assert all(line.startswith("W") and any(a in line for a in TAKEN) for line in told), told
    _assert_ours_is_served(lab)
    # It is ours as soon as nobody else has it.
    lab.exec(NODE, ["ipvsadm", "-D", "-t", f"{TAKEN[0]}:80"])
    lab.stop_headgate(NODE)
    lab.start_headgate(NODE, mode="ipvs")
    lab.wait_synced()
    assert len(ipvs.servers(lab, NODE)[f"-t {TAKEN[0]}:80"].weights) == 2


def test_what_is_excluded_is_not_taken_over(lab: Lab) -> None:
    """What kube-proxy's sets name is taken over, and deleted if nobody wants it; not this."""
    lab.exec(NODE, [HEADGATE, "cleanup"])
    commands = [
        "ipset create KUBE-LOAD-BALANCER hash:ip,port family inet hashsize 1024 maxelem 65536",
        *(f"ipset add KUBE-LOAD-BALANCER {address},tcp:80" for address in (EXCLUDED, STALE)),
        *(f"ipvsadm -A -t {address}:80 -s rr" for address in (EXCLUDED, STALE)),
        f"ipvsadm -a -t {EXCLUDED}:80 -r 10.244.2.2:8080 -m -w 4",
    ]
    for command in commands:
        lab.exec(NODE, command.split())
    before = ipvs.servers(lab, NODE)
    lab.start_headgate(NODE, f"--ipvs-exclude-cidrs=203.0.113.0/24,{EXCLUDED}/31", mode="ipvs")
    lab.wait_synced()
    now = ipvs.servers(lab, NODE)
    assert now[f"-t {EXCLUDED}:80"] == before[f"-t {EXCLUDED}:80"]
    assert f"-t {STALE}:80" not in now
    lab.stop_headgate(NODE)
    lab.exec(NODE, [HEADGATE, "cleanup"])
    assert ipvs.servers(lab, NODE)[f"-t {EXCLUDED}:80"] == before[f"-t {EXCLUDED}:80"]
