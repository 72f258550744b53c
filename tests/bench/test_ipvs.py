"""Does the bench of the IPVS mode measure what it says, and where? Times are never judged here."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from endpoints.names import Family, Protocol
from modes.ipvs.servers import Command, RealServer, ServerKey, Verb, VirtualServer
from tests.bench import __main__ as bench
from tests.bench import beside, elsewhere, idle, ipvsadm, measure, report
from tests.bench.cluster import Size
from tests.bench.results import Measured, Report
from tests.bench.targets import IPVS_SIZE, SMALL_IPVS_SIZE, targets
from tests.lab import modes, sandbox
from tests.uml import kernel

SIZE = Size(20, 3)
CHANGES = 8
WEB = ServerKey(Family.IPV4, Protocol.TCP, "10.96.0.10", 80)
NEW = Command(Verb.NEW_SERVER, WEB, VirtualServer())

ipvs_here = pytest.mark.skipif("ipvs" not in modes.offered(), reason=modes.NO_IPVS)


@pytest.fixture(scope="module")
def measured() -> Iterator[Measured]:
    """The smallest size, measured once."""
    found = measure.measured("ipvs", SIZE, CHANGES, lambda _: None)
    found.beside = measure.beside(SIZE, 1, lambda _: None)
    yield found
    sandbox.enter_private()


@ipvs_here
def test_the_load_tells_every_server_once(measured: Measured) -> None:
    load = measured.loaded.load
    servers = 20 * (1 + 3)
    assert load.elements == servers
    # Of a Service its two elements and that of its address, and the address; the hairpin of every
    # third pod. Whatever the Services are, 44 sets and 116 lines of rules.
    assert load.messages == servers + 20 * 4 + 20 + 44 + 116
    assert not load.kept
    assert load.child_processes > 0
    assert load.whole > load.encode_and_commit > load.kernel > 0


@ipvs_here
def test_the_real_program_is_weighed_at_rest() -> None:
    sandbox.enter_private()
    found = idle.idle("ipvs", SIZE, seconds=0.5)
    assert 20 < found.resident_megabytes <= found.peak_megabytes
    assert found.seconds >= 0.5
    assert found.processor_seconds > 0


@ipvs_here
def test_a_restart_tells_nothing(measured: Measured) -> None:
    restarted = measured.restarted
    assert restarted.load.kept
    assert (restarted.load.elements, restarted.load.messages) == (0, 0)


@ipvs_here
def test_a_change_is_a_few_messages_and_no_process(measured: Measured) -> None:
    loaded = measured.loaded
    for of in (loaded.replaced, loaded.resized, loaded.arrived, loaded.departed):
        assert of.count == CHANGES
        assert of.child_processes == 0
        # Sets, servers and addresses have a socket each; sets are told before and after.
        assert 2 <= of.sends <= 4
        # A sendmsg, the answer, and the look that finds no other answer.
        assert of.system_calls == 3 * of.sends
        assert of.bytes_sent > of.messages * 16
    # Deadline, weight, real server; with the hairpins of both, and all of it back again.
    assert loaded.replaced.most_messages <= 6
    assert loaded.resized.most_messages <= 3


@ipvs_here
def test_ipvsadm_is_given_the_same(measured: Measured) -> None:
    """That each way led to the same servers is asserted while it is measured."""
    found = measured.beside
    assert found is not None
    assert found.rounds == 1
    assert found.lines == 20 * (1 + 3)
    assert found.sends == 1
    assert found.mode_messages > found.lines + 20 * 4
    assert found.mode_processes > 0
    assert found.ipvsadm.seconds > 0
    assert found.mode > found.mode_programs > 0
    assert found.commands > 0
    assert found.one_by_one > 0
    assert found.pure > found.encode > 0


@ipvs_here
def test_what_did_not_reach_the_kernel_is_no_measurement() -> None:
    node, plans = beside.planned(Size(1, 1))
    measure_ = beside._Measure(node, plans, [NEW], b"-A -t 10.96.0.10:80 -s none\n", ["-A"])
    with pytest.raises(AssertionError, match="other virtual servers"):
        measure_.commands()
    with pytest.raises(AssertionError, match="other virtual servers"):
        measure_.ipvsadm()


@ipvs_here
def test_targets_are_judged_at_their_size(measured: Measured) -> None:
    assert targets([measured], []) == []
    large, small = (msgspec.convert(msgspec.to_builtins(measured), Measured) for _ in range(2))
    (large.services, large.endpoints), (small.services, small.endpoints) = (
        IPVS_SIZE,
        SMALL_IPVS_SIZE,
    )
    assert large.beside is not None
    for times, met in ((4.1, True), (3.9, False)):
        large.beside.ipvsadm.seconds = times * large.beside.mode
        assert judged(large, small)["the whole mode against ipvsadm --restore"] is met
    assert judged(large, small)["messages of a change more than at 200 x 10"]
    assert judged(large, small)["written by a restart"]
    large.loaded.resized.most_messages += 10
    assert not judged(large, small)["messages of a change more than at 200 x 10"]


def judged(*sizes: Measured) -> dict[str, bool]:
    """Which targets are met, by what they are about."""
    return {target.what: target.met for target in targets(sizes, [])}


@ipvs_here
def test_the_report_tells_what_was_beside(measured: Measured) -> None:
    found = Report("here", [measured], [], [])
    told = report.text(found)
    assert "ipvs, Services x endpoints" in told
    assert "ipvsadm / the whole mode" in told
    assert msgspec.json.decode(msgspec.json.encode(found), type=Report) == found


def test_lines_are_as_ipvsadm_spells_them() -> None:
    reals = [
        Command(Verb.NEW_REAL, WEB, real=RealServer("10.128.0.1", 8080), weight=w) for w in (1, 0)
    ]
    assert list(ipvsadm.lines([NEW, *reals])) == [
        "-A -t 10.96.0.10:80 -s rr",
        "-a -t 10.96.0.10:80 -r 10.128.0.1:8080 -m -w 1",
        "-a -t 10.96.0.10:80 -r 10.128.0.1:8080 -m -w 0",
    ]
    with pytest.raises(ValueError, match=r"DELETE_SERVER TCP 10\.96\.0\.10:80"):
        list(ipvsadm.lines([Command(Verb.DELETE_SERVER, WEB)]))


def test_where_there_can_be_no_such_kernel_it_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(modes, "offered", lambda: ("nftables",))
    monkeypatch.setattr(kernel, "why_not", lambda: "there is none for toasters")
    assert bench.main(["--mode", "ipvs"]) == 2
    told = capsys.readouterr().err
    assert told == "bench: MODE=ipvs: this kernel has no IPVS, and there is none for toasters\n"
    monkeypatch.setattr(kernel, "why_not", lambda: "")
    monkeypatch.setattr(kernel, "PROGRAM", "no-such-program")
    assert bench.main(["--mode", "ipvs"]) == 2
    assert "no-such-program is missing: make packages" in capsys.readouterr().err


@pytest.mark.parametrize(("console", "status"), [("panic", None), ("bench: started\nno", 3)])
def test_a_bench_that_fails_elsewhere_shows_why(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    console: str,
    status: int | None,
) -> None:
    told = f"printf '%s\\n' '{console}'"
    if status is not None:
        told += f"; echo {status} > {tmp_path}/status"

    def start(*_: object) -> subprocess.Popen[str]:
        return subprocess.Popen(["sh", "-c", told], stdout=subprocess.PIPE, text=True)

    monkeypatch.setattr(kernel, "start", start)
    told_here: list[str] = []
    with pytest.raises(elsewhere.Failed, match=console.splitlines()[-1]):
        elsewhere._run(tmp_path, [], told_here.append)
    assert told_here == [
        line.removeprefix("bench: ") for line in console.splitlines() if line.startswith("bench: ")
    ]
