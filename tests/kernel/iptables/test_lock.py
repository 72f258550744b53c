"""Is a change only delayed while another program holds the xtables lock?

iptables-nft has none. How the lock is waited for is in test_kernel.py, and what the log and the
metrics say of it in tests/packets/test_lock.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from endpoints.names import Family, ObjectName
from modes.base import Delta, KernelFault, ModeSettings
from modes.iptables.looking import look
from modes.iptables.mode import IptablesMode
from modes.xtables import kernel as module
from modes.xtables.variant import Variant
from tests.kernel.iptables import others, tables
from tests.kernel.rulesets import services
from tests.unit.endpoints.build import NODE_A

LOCK = Path("/run/xtables.lock")
LEGACY = Variant.LEGACY
BEFORE = services(1, 2, 3, endpoints=3)
CHANGE = Delta(services(2, 4), frozenset({ObjectName("shop", "s1")}))
AFTER = {**services(2, 4), **services(3, endpoints=3)}
FOREIGN = "*nat\n-A PREROUTING -p udp -j ACCEPT\nCOMMIT\n"

told: list[tuple[str, dict[str, object]]] = []


def tell(message: str, /, **fields: object) -> None:
    told.append((message, fields))


@pytest.fixture
def running(network: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[IptablesMode]:  # noqa: ARG001
    """Three Services; the lock is tried for a second at a time."""
    monkeypatch.setattr(module, "LOCK_ROUND_SECONDS", 1)
    told.clear()
    mode = IptablesMode(ModeSettings(iptables_variant=LEGACY), tell)
    mode.start(NODE_A)
    mode.replace(AFTER)
    straight = tables.state(LEGACY)
    mode.replace(BEFORE)
    yield mode
    # Whatever happened in between: a process that knows nothing finds all of it.
    others.write(LEGACY, "*nat\n-F PREROUTING\nCOMMIT\n")
    mode.start(NODE_A)
    mode.replace(AFTER)
    assert tables.state(LEGACY) == straight
    mode.close()


def test_a_change_is_delayed_and_nothing_is_lost(running: IptablesMode) -> None:
    with others.holder(LOCK, 2.5) as holder:
        report = running.apply(CHANGE)
    assert 1.5 < report.waited_seconds < 6
    assert report.failed == {}
    assert {message for message, _ in told} == {"Waiting for the xtables lock"}
    assert str(told[0][1]["holder"]).endswith(f"(pid {holder.pid})")
    assert not running.verify()
    assert {told.name for told in look().services} == {f"shop/s{n}:http" for n in (2, 3, 4)}
    told.clear()
    assert running.apply(Delta(services(4, endpoints=3))).waited_seconds == 0
    assert running.apply(Delta(services(4))).waited_seconds == 0
    assert told == []


def test_what_the_other_program_writes_meanwhile_stays(
    running: IptablesMode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write_when_told(*_: object, **__: object) -> None:
        with monkeypatch.context() as patch:
            patch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))  # it has the lock already
            others.write(LEGACY, FOREIGN)
        holder.kill()

    monkeypatch.setattr(running._kernel, "tell", write_when_told)
    with others.holder(LOCK, 600) as holder:
        report = running.apply(CHANGE)
    assert 0.5 < report.waited_seconds < 5
    assert not running.verify()
    prerouting = tables.held(LEGACY)[tables.PREROUTING]
    assert prerouting[-1] == "-p udp -j ACCEPT"


@pytest.mark.parametrize("whole", [False, True], ids=["apply", "replace"])
def test_who_holds_it_for_ever_is_named_and_all_is_written_later(
    running: IptablesMode, monkeypatch: pytest.MonkeyPatch, *, whole: bool
) -> None:
    monkeypatch.setattr(module, "LOCK_PATIENCE_SECONDS", 1.5)
    before = tables.everything(LEGACY)
    with others.holder(LOCK, 600) as holder:
        for _ in range(2):
            with pytest.raises(KernelFault, match=rf"\(pid {holder.pid}\) holds the xtables lock"):
                running.replace(AFTER) if whole else running.apply(CHANGE)
    assert tables.everything(LEGACY) == before
    if whole:
        assert not running.replace(AFTER).failed
    else:
        assert not running.apply(CHANGE).failed
    assert not running.verify()


def test_where_nothing_changes_nobody_waits(running: IptablesMode) -> None:
    with others.holder(LOCK, 600):
        assert running.replace(BEFORE).waited_seconds == 0
        assert running.apply(Delta(services(1, endpoints=3))).waited_seconds == 0
        assert not running.verify()
        assert len(look().services) == len(BEFORE) * len(Family)
    assert told == []
