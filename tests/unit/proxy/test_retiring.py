"""Is every mode but the chosen one asked to give way, and again as long as it must be?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from modes.base import EnvironmentFault, KernelFault, Missing, Mode, NotPermitted
from proxy.retiring import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, Retiring
from tests.unit.proxy.build import MemoryMode

MODES = ("nftables", "iptables", "ipvs")
Answer = float | Exception | None


class Old(MemoryMode):
    """A mode that served before; it answers in turn, and then that nothing is left."""

    def __init__(self, name: str, answers: Sequence[Answer], host: Host) -> None:
        super().__init__()
        self.name = name
        self.answers = list(answers)
        self.host = host

    def retire(self, successor: str) -> float | None:
        self.host.asked.append(f"{self.name} for {successor}")
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


class Host:
    """A host on which modes served before."""

    def __init__(self, **answers: Sequence[Answer]) -> None:
        self.answers = answers
        self.made: list[Old] = []
        self.asked: list[str] = []
        self.told: list[str] = []
        self.now = 100.0
        self.retiring = Retiring("nftables", MODES, self.create, self.tell, lambda: self.now)

    def create(self, name: str) -> Mode:
        self.made.append(Old(name, self.answers.get(name, ()), self))
        return self.made[-1]

    def tell(self, message: str, /, **fields: object) -> None:
        self.told.append(f"{message}: {fields['mode']}: {fields['reason']}")

    def due(self) -> tuple[list[str], float | None]:
        """Who is asked, and when to come again."""
        self.asked = []
        return self.asked, self.retiring.due()


def test_each_is_asked_once_where_nothing_is_left() -> None:
    host = Host()
    everybody = ["nftables for nftables", "ipvs for nftables", "iptables for nftables"]
    assert host.due() == (everybody, None)
    assert host.due() == ([], None)
    assert [mode.closed for mode in host.made] == [True] * 3
    assert not host.told


def test_who_has_connections_is_asked_again_when_it_wants_to_be() -> None:
    host = Host(ipvs=[5.0, 2.0])
    assert host.due()[1] == 5.0
    host.now += 4
    assert host.due() == ([], 1.0)
    host.now += 1
    assert host.due() == (["ipvs for nftables"], 2.0)
    host.now += 2
    assert host.due() == (["ipvs for nftables"], None)
    assert len(host.made) == 3  # it remembers what it has done
    assert all(mode.closed for mode in host.made)


def test_a_fault_is_told_once_and_tried_again_later_each_time() -> None:
    host = Host(iptables=[KernelFault("held"), OSError("held"), KernelFault("other"), 7.0])
    for factor in (1, 2, 4):
        asked, seconds = host.due()
        assert "iptables for nftables" in asked
        assert seconds == factor * FIRST_DELAY_SECONDS
        host.now += seconds
    assert host.told == ["Not removed: iptables: held", "Not removed: iptables: other"]
    assert host.due() == (["iptables for nftables"], 7.0)
    host.now += 7
    assert host.due() == (["iptables for nftables"], None)


def test_it_never_waits_for_longer_than_a_minute() -> None:
    host = Host(ipvs=[KernelFault("no")] * 20)
    waited = []
    for _ in range(20):
        seconds = host.due()[1]
        assert seconds is not None
        waited.append(seconds)
        host.now += seconds
    assert waited[-1] == max(waited) == LONGEST_DELAY_SECONDS


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Missing("no IPVS"), []),
        (EnvironmentFault("no ipset"), ["Not removed: ipvs: no ipset"]),
        (NotPermitted("run as root"), ["Not removed: ipvs: run as root"]),
    ],
)
def test_what_the_machine_cannot_do_keeps_nobody_else(fault: Exception, told: list[str]) -> None:
    host = Host(ipvs=[fault])
    asked, seconds = host.due()
    assert (len(asked), seconds) == (3, None)
    assert host.told == told
    assert all(mode.closed for mode in host.made)


def test_who_ends_early_leaves_no_socket_open() -> None:
    host = Host(ipvs=[5.0])
    host.due()
    assert [mode.name for mode in host.made if not mode.closed] == ["ipvs"]
    host.retiring.close()
    assert all(mode.closed for mode in host.made)
    assert host.due() == ([], None)
