"""Is it seen when somebody else changes IPVS, its sets or its link, and nothing else?"""

from __future__ import annotations

import random
import re
import statistics
import subprocess
import time
from collections.abc import Iterator

import msgspec
import pytest

from modes.base import Delta, ModeSettings
from modes.ipvs.ipsets import Kind
from modes.ipvs.kernel import Ipvs
from modes.ipvs.looking import look
from modes.ipvs.mode import IpvsMode
from tests.kernel.rulesets import services
from tests.unit.endpoints import build
from tests.unit.modes.ipvs.fake import no_rules

NODE = msgspec.structs.replace(build.NODE_A, holds_addresses=True)
NUMBERS = (1, 2, 3)


def run(*commands: str) -> None:
    for command in commands:
        subprocess.run(command.split(), check=True, capture_output=True)


def start(mode: IpvsMode, *numbers: int) -> int:
    """Returns what the mode sent, as it reports it."""
    mode.start(NODE)
    report = mode.replace(services(*numbers or NUMBERS))
    assert report.failed == {}
    return report.messages


def looked(mode: IpvsMode) -> tuple[str, ...]:
    glance = mode.glance()
    assert glance.again_in_seconds == 0.5
    return tuple(one.what for one in glance.foreign)


@pytest.fixture
def mode(ipvs: Ipvs) -> Iterator[IpvsMode]:
    """Three Services, programmed; rules of iptables have tests of their own."""
    assert ipvs.servers() == {}
    made = IpvsMode(ModeSettings(), lambda *_, **__: None)
    made._rules = no_rules()
    start(made)
    assert looked(made) == ()
    yield made
    made.close()


CHANGES = {
    "ipvsadm -C": "0 virtual servers of IPv4 instead of 3",
    "ipvsadm -D -t 10.96.0.2:80": "2 virtual servers of IPv4 instead of 3",
    "ipvsadm -D -t [fd00:10:96::2]:80": r"virtual server TCP \[fd00:10:96::2\]:80 deleted",
    "ipset flush KUBE-CLUSTER-IP": "set KUBE-CLUSTER-IP has 0 elements, not 3",
    "ipset flush KUBE-VIRTUAL-SERVERS": "set KUBE-VIRTUAL-SERVERS has 0 elements, not 3",
    "ipset flush": r"set KUBE-[-\w]+ has 0 elements, not 3, and \d more sets changed",
    "ipset destroy": r"set KUBE-CLUSTER-IP deleted, and \d\d more sets changed",
    "ipset destroy KUBE-HEALTH-CHECK-NODE-PORT": "set KUBE-HEALTH-CHECK-NODE-PORT deleted",
    "ip link del kube-ipvs0": "link kube-ipvs0 deleted",
    "ip address del 10.96.0.2/32 dev kube-ipvs0": "address 10.96.0.2 of kube-ipvs0 deleted",
    "ip address flush dev kube-ipvs0": "address 10.96.0.1 and 5 more of kube-ipvs0 deleted",
}


@pytest.mark.parametrize(("command", "told"), CHANGES.items(), ids=CHANGES)
def test_a_change_is_seen_once_and_repaired(mode: IpvsMode, command: str, told: str) -> None:
    run(command)
    # Of virtual servers of IPv6 two are asked for at a time.
    seen = looked(mode) or looked(mode) or looked(mode)
    assert re.fullmatch(told, seen[0])
    assert mode.verify()
    assert start(mode) > 0
    assert not mode.verify()
    assert looked(mode) == ()
    assert start(mode) == 0
    assert looked(mode) == ()


def test_everything_at_once(mode: IpvsMode) -> None:
    run("ipvsadm -C", "ipset destroy", "ip link del kube-ipvs0")
    assert len(looked(mode)) > 2
    start(mode)
    assert not mode.verify()
    assert looked(mode) == ()


def test_what_came_before_a_change_of_ours_is_seen(mode: IpvsMode) -> None:
    run("ip address del 10.96.0.2/32 dev kube-ipvs0", "ipvsadm -D -t 10.96.0.2:80")
    mode.apply(Delta(services(4)))
    seen = looked(mode)
    assert "2 virtual servers of IPv4 instead of 3" in seen
    assert "address 10.96.0.2 of kube-ipvs0 deleted" in seen


def test_a_random_history_of_our_own_is_not_seen(mode: IpvsMode) -> None:
    chance = random.Random(16)
    there = set(services(*NUMBERS))
    for _ in range(20):
        wanted = services(*chance.sample(range(1, 20), 4), endpoints=chance.randrange(4))
        old = sorted(there - wanted.keys())
        gone = frozenset(chance.sample(old, len(old) // 2))
        mode.apply(Delta(wanted, gone))
        mode.tend()
        there = (there | wanted.keys()) - gone
        assert looked(mode) == ()
    start(mode)
    assert looked(mode) == ()
    assert not mode.verify()


def test_what_others_have_is_not_seen(mode: IpvsMode) -> None:
    run(
        "ipset create THEIRS hash:ip",
        "ipset add THEIRS 10.96.0.1",
        "ip link add theirs type dummy",
        "ip address add 192.0.2.1/32 dev theirs",
        "ip address add 192.0.2.2/32 dev kube-ipvs0",
        "ip address del 192.0.2.1/32 dev theirs",
        "ip address del 192.0.2.2/32 dev kube-ipvs0",
    )
    assert looked(mode) == ()


def test_registered_servers_stay_ours_though_the_registry_is_flushed(mode: IpvsMode) -> None:
    run("ipset flush KUBE-VIRTUAL-SERVERS", "ipset flush KUBE-6-VIRTUAL-SERVERS")
    assert mode.verify()
    start(mode, 1, 2)
    assert not mode.verify()
    assert {told.name for told in look().services} == {"shop/s1:http", "shop/s2:http"}


def test_the_cost_of_a_glance_does_not_grow(mode: IpvsMode) -> None:
    costs = []
    for number in (3, 200):
        start(mode, *range(1, number))
        mode.glance()
        before = mode._machine.census._sets.sends
        took = []
        for _ in range(9):
            began = time.perf_counter()
            assert looked(mode) == ()
            took.append(time.perf_counter() - began)
        costs.append((mode._machine.census._sets.sends - before) / 9)
        milliseconds = statistics.median(took) * 1000
        print(f"{number} Services: {milliseconds:.2f} ms a glance")  # noqa: T201 (a figure to read)
    assert costs == [1.0, 1.0]


def test_where_there_are_many_sets_only_ours_are_listed(mode: IpvsMode) -> None:
    lines = "".join(f"create THEIRS-{number} hash:ip\n" for number in range(300))
    subprocess.run(["ipset", "restore"], input=lines, text=True, check=True)
    assert looked(mode) == ()
    before = mode._machine.census._sets.sends
    assert looked(mode) == ()
    assert mode._machine.census._sets.sends - before == 2 * len(Kind)
    run("ipset flush KUBE-CLUSTER-IP")
    assert looked(mode) == ("set KUBE-CLUSTER-IP has 0 elements, not 3",)
