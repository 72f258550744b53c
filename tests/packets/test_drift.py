"""Is what others destroy repaired within a second, and is it said who did it?"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.lab.daemons import Daemon
from tests.lab.lab import Lab
from tests.lab.modes import offered
from tests.lab.objects import Endpoint, Port, nodes, service, slices
from tests.lab.probes import IS_USER_MODE_LINUX, Target

NODE, SENDER = "node-a", "pod-a2"
PORTS = [Port(80)]
PAY, LATE = ("10.96.7.7", "fd00:10:96::7"), ("10.96.7.8", "fd00:10:96::8")
LIMIT_SECONDS = 1.0
SLOW_SECONDS = 6.0
"""The limit in user-mode Linux, which takes ten times as long for a system call or a program."""
TRY_SECONDS = 0.05
"""For so long a single connection is waited for, when it is tried again and again."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Harm:
    """What somebody does, and what the log shall say of it."""

    script: str
    authors: Sequence[str]
    what: str


FIREWALLD = """
nft delete table inet firewalld 2> /dev/null
printf 'flush ruleset\\ntable inet firewalld { chain filter_INPUT {
type filter hook input priority filter + 10; ct state established accept; }; }\\n' | nft -f -
"""
"""What remains of a reload of firewalld, to others: with FlushAllOnReload all tables go, its own
comes back."""


def flushes(variant: str, *, chains: bool) -> str:
    """Empty the tables of both families; with `chains`, delete what is not built in as well."""
    lines = []
    for command in ("iptables", "ip6tables"):
        for table in ("nat", "filter", "mangle") if chains else ("nat",):
            lines.append(f"{command}-{variant} -t {table} -F")
            lines += [f"{command}-{variant} -t {table} -X"] if chains else []
    return "\n".join(lines)


_JUMP = r"rule of chain \w+ [A-Z]+ \(IPv[46]\) to KUBE-[A-Z-]+ deleted"
NFT = ("nft",)
XTABLES = ("iptables-nft", "ip6tables-nft")
HARMS = {
    "nftables": {
        "flush ruleset": Harm("nft flush ruleset", NFT, "table ip headgate deleted"),
        "firewalld reload": Harm(FIREWALLD, NFT, "table ip headgate deleted"),
        "a map": Harm(
            "nft flush map ip headgate services; nft flush map ip6 headgate services",
            NFT,
            r"\d+ elements of map ip6? headgate services deleted",
        ),
    },
    "iptables-nft": {
        "nat -F": Harm(flushes("nft", chains=False), XTABLES, _JUMP),
        "-F and -X": Harm(flushes("nft", chains=True), XTABLES, rf"{_JUMP}|chain ip6? nat KUBE-"),
        "flush ruleset": Harm("nft flush ruleset", NFT, "table ip nat deleted"),
        "firewalld reload": Harm(FIREWALLD, NFT, "table ip nat deleted"),
        "the jumps": Harm(
            "iptables-nft -t nat -F PREROUTING; ip6tables-nft -t nat -F PREROUTING",
            XTABLES,
            _JUMP,
        ),
    },
    "iptables-legacy": {
        "nat -F": Harm(flushes("legacy", chains=False), (UNKNOWN,), r"table nat \(IPv[46]\) has "),
        "-F and -X": Harm(
            flushes("legacy", chains=True), (UNKNOWN,), r"table \w+ \(IPv[46]\) has "
        ),
    },
    "ipvs": {
        "virtual servers": Harm("ipvsadm -C", (UNKNOWN,), "virtual server"),
        "the sets": Harm("ipset flush", (UNKNOWN,), "set KUBE-"),
        "the link": Harm("ip link del kube-ipvs0", (UNKNOWN,), "link kube-ipvs0 deleted"),
        "nat -F": Harm(flushes("legacy", chains=False), (UNKNOWN,), r"table nat \(IPv[46]\) has "),
        "all of it": Harm(
            f"ipvsadm -C\n{flushes('legacy', chains=True)}\nipset destroy\nip link del kube-ipvs0",
            (UNKNOWN,),
            "set KUBE-|virtual server|link kube-ipvs0|table ",
        ),
    },
}
HARMED = [(mode, name) for mode in offered() for name in HARMS[mode]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A Service with an endpoint on each of two nodes."""
    with Lab() as built:
        endpoints = [Endpoint.of(built.pods[pod]) for pod in ("pod-a1", "pod-b1")]
        built.apply(
            *nodes(), service("shop/pay", PAY, PORTS), *slices("shop/pay", PORTS, endpoints)
        )
        yield built


@contextmanager
def headgate(lab: Lab, mode: str) -> Iterator[Daemon]:
    """One for each harm: after others, it may take them for a fight and not hurry."""
    try:
        daemon = lab.start_headgate(NODE, mode=mode)
        lab.wait_synced()
        lab.wait_synced()  # after the first sync, what other modes have left is removed
        yield daemon
    finally:
        lab.stop_headgate(NODE)


def back_after(lab: Lab) -> float:
    """The seconds until the Service answers in both families."""
    began = time.monotonic()
    targets = [Target(vip, 80) for vip in PAY]
    while not all(one.by for one in lab.connect_all(SENDER, targets, timeout=TRY_SECONDS)):
        assert time.monotonic() - began < 30, lab.headgate(NODE).complaint("repaired nothing")
    return time.monotonic() - began


@pytest.mark.parametrize(("of", "name"), HARMED, ids=map("-".join, HARMED))
def test_harm_is_repaired_in_a_second_and_its_cause_is_told(lab: Lab, of: str, name: str) -> None:
    harm = HARMS[of][name]
    with headgate(lab, of) as daemon:
        since = len(daemon.lines)
        lab.exec(NODE, ["sh", "-c", harm.script])
        seconds = back_after(lab)
        repaired = daemon.wait_for(lambda line: "Drift repaired" in line.text, since).text
        print(f"\n{of}, {name}: back after {seconds * 1000:.0f} ms; {repaired}")  # noqa: T201 (to read)
        _assert_told(harm, repaired)
        assert seconds < (SLOW_SECONDS if IS_USER_MODE_LINUX else LIMIT_SECONDS)
        endpoints = [Endpoint.of(lab.pods["pod-b1"])]
        lab.apply(service("shop/late", LATE, PORTS), *slices("shop/late", PORTS, endpoints))
        lab.wait_synced()
        assert [lab.connect(SENDER, vip, 80).by for vip in LATE] == ["pod-b1"] * 2


def _assert_told(harm: Harm, repaired: str) -> None:
    told = re.search(r'author="?([\w.-]+)"? pid=(\w+) .*?what="?(.*?)"? lost=', repaired)
    assert told is not None, repaired
    author, pid, what = told.groups()
    assert author in harm.authors
    assert (pid == UNKNOWN) == (author == UNKNOWN)
    assert re.search(harm.what, what)


def test_our_own_changes_are_nobody_else_s(lab: Lab, mode: str) -> None:
    pods = [Endpoint.of(lab.pods[pod]) for pod in ("pod-a1", "pod-b1", "pod-c1")]
    with headgate(lab, mode) as daemon:
        for number in range(5):
            lab.apply(*slices("shop/pay", PORTS, pods[: number % 3 + 1]))
            lab.wait_synced()
        with pytest.raises(TimeoutError):
            daemon.wait_for(lambda line: "Foreign change" in line.text, timeout=1.5)
        assert not [line.text for line in daemon.lines if "Drift" in line.text]
