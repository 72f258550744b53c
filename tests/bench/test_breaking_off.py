"""Does a run of the bench that goes wrong say so, and keep what it has measured?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from tests.bench import __main__ as bench
from tests.bench import chart
from tests.bench.cluster import Size
from tests.bench.report import text
from tests.bench.results import Failed, Report
from tests.bench.stages import Bench, Wish
from tests.bench.whole import measure, story
from tests.bench.whole.story import Contender
from tests.lab import sandbox

VERSION = '[ "$1" = --version ] && echo "Kubernetes v1.36.2" && exit 0'


@pytest.fixture(autouse=True)
def _leave_nothing() -> None:
    sandbox.enter_private()


def program(folder: Path, *lines: str) -> str:
    """A file that can be executed, in place of a kube-proxy."""
    path = folder / "program"
    path.write_text("\n".join(["#!/bin/sh", *lines]))
    path.chmod(0o755)
    return str(path)


def measured(
    executable: str, sizes: Sequence[Size] = (Size(3, 1), Size(4, 2))
) -> tuple[Report, list[str]]:
    """What is found of headgate and of such a peer, and what was told."""
    found, told = Report("here"), list[str]()
    contenders = [measure.HEADGATE, Contender("kube-proxy", executable)]
    Bench(found, Wish(("whole",), tuple(sizes), 1, contenders, full=False), told.append).measure(
        "nftables"
    )
    return found, told


def test_a_peer_that_ends_costs_only_itself(tmp_path: Path) -> None:
    found, told = measured(program(tmp_path, VERSION, "echo out of order; exit 3"))
    assert [(whole.program, whole.size) for whole in found.wholes] == [
        ("headgate", Size(3, 1)),
        ("headgate", Size(4, 2)),
    ]
    assert len(found.failed) == 1, found.failed
    (failed,) = found.failed
    assert failed.what == "nftables, 3 x 1: kube-proxy: start"
    assert "ended, status 3; its log ends:\n  out of order" in failed.why
    assert "nftables, 4 x 2: kube-proxy left out: it failed before" in told
    assert text(found).endswith(f"FAILED  {failed.what}\n  {failed.why}")


def test_a_peer_that_writes_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "PATIENCE_SECONDS", 3.0)
    found, _ = measured(program(tmp_path, VERSION, "echo thinking; exec sleep 1000"))
    assert len(found.failed) == 1, found.failed
    (failed,) = found.failed
    assert failed.what == "nftables, 3 x 1: kube-proxy: start"
    assert "does not follow: after 3.0 s" in failed.why
    assert failed.why.endswith("its log ends:\n  thinking")
    assert len(found.wholes) == 2


@pytest.mark.parametrize(
    ("lines", "why"), [(["echo no; exit 1"], "status 1"), (["exec /nowhere/x"], "status 127")]
)
def test_a_peer_without_a_version_is_named(tmp_path: Path, lines: list[str], why: str) -> None:
    found, _ = measured(program(tmp_path, *lines), [Size(3, 1)])
    assert len(found.failed) == 1, found.failed
    (failed,) = found.failed
    assert failed.what.startswith("nftables, 3 x 1: kube-proxy")
    assert why in failed.why
    assert len(found.wholes) == 1


@pytest.mark.parametrize(("mode", "why"), [(None, "no such file"), (0o644, "cannot be executed")])
def test_a_peer_that_is_no_program_is_refused_at_once(
    tmp_path: Path, mode: int | None, why: str
) -> None:
    path = tmp_path / "kube-proxy"
    if mode is not None:
        path.touch(mode)
    with pytest.raises(OSError, match=f"KUBE_PROXY={path}: .*{why}"):
        measure.contenders(str(path))


@pytest.mark.parametrize("folder", ["/proc/nothing", "/dev/null/x", "/run/bench"])
def test_a_folder_that_cannot_keep_the_report_is_refused_at_once(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--folder", folder]) == 2
    assert f"FOLDER={folder}: " in capsys.readouterr().err


def test_an_api_server_that_is_not_there_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert bench.main(["--folder", ""]) == 2
    assert f"KUBEBUILDER_ASSETS={tmp_path} holds no etcd" in capsys.readouterr().err


def test_without_matplotlib_there_is_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tests.bench.drawing", None)
    monkeypatch.delattr("tests.bench.drawing", raising=False)
    monkeypatch.setattr(chart, "panels", lambda *_: [object()])
    bench._show(Report("here"), str(tmp_path), "text")
    said = capsys.readouterr()
    assert said.out == "here\n"
    assert "no charts: " in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.txt"]


@pytest.mark.parametrize(
    ("flags", "environment", "why"),
    [
        (["--changes=0"], {}, "'0': must be a number from 1"),
        (["--changes=-1"], {}, "'-1': must be a number from 1"),
        ([], {"OUTPUT": "xml"}, "OUTPUT=xml: must be one of text, json"),
    ],
)
def test_what_makes_no_sense_is_refused(
    flags: list[str],
    environment: dict[str, str],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="2"):
        bench.main(flags)
    assert why in capsys.readouterr().err


def test_a_stage_that_measures_other_sizes_says_so() -> None:
    told: list[str] = []
    wish = Wish(("idle",), (Size(3, 1),), 0, [measure.HEADGATE], full=False)
    Bench(Report("here"), wish, told.append).measure("nftables")
    assert told == ["nftables, idle: nothing at these sizes"]


def test_what_failed_elsewhere_is_joined() -> None:
    found = Report("here")
    found.join(Report("there", failed=[Failed("this", "that")]))
    assert (found.machine, found.failed) == ("here", [Failed("this", "that")])


def test_an_interrupted_run_reports_what_it_has(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "--stages=whole", "--sizes=3x1,4x1"]
    command += ["--changes=1", "--folder", str(tmp_path / "report")]
    environment = os.environ | {"KUBE_PROXY": "", "KUBEBUILDER_ASSETS": ""}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "4 x 1: headgate: one endpoint" in line:
                process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    written = (tmp_path / "report" / "report.json").read_bytes()
    found = msgspec.json.decode(written, type=Report)
    assert [whole.size for whole in found.wholes] == [Size(3, 1)]
    assert [failed.why for failed in found.failed] == ["interrupted"]
