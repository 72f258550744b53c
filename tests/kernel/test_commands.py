"""Do the debug commands tell of a real kernel what it does, alive and from a file, and only that?

In each back end, with a real headgate, or with the rules that it left.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from proxy.desired.snapshot import recall
from tests.kernel.commanding import (
    DAMAGES,
    NODE,
    a_node,
    answer,
    everything,
    headgate,
    offline,
    running,
    without,
)
from tests.lab import modes
from tests.lab.daemons import Daemon

ONE, PLACE = "shop/cart", "10.96.7.8:80"
QUESTIONS = (
    ("dump",),
    ("dump", ONE),
    ("dump", PLACE),
    ("dump", "shop/pay:http", "-o", "native"),
    ("diff",),
    ("diff", ONE),
    ("diff", PLACE),
    ("explain", PLACE),
    ("explain", "192.168.0.11:80", "--from", "203.0.113.9"),
    ("explain", PLACE, "--check"),
    ("render",),
)


@pytest.fixture(scope="module", params=modes.offered())
def back_end(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def manifests(back_end: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with a_node(tmp_path_factory.mktemp(back_end)) as found:
        yield found


@pytest.fixture(scope="module")
def alive(back_end: str, manifests: Path) -> Iterator[Daemon]:
    with running(back_end, manifests) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def snapshot(alive: Daemon, tmp_path_factory: pytest.TempPathFactory) -> str:
    assert alive.pid
    path = tmp_path_factory.mktemp("taken") / "node.hgs"
    done = headgate("snapshot", "-o", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{path}   ")
    assert ": 3 Services, 2 EndpointSlices, " in done.stdout
    return str(path)


def mode_of(back_end: str) -> str:
    return modes.BACK_ENDS[back_end][0]


def test_a_dump_tells_all_that_is_held(alive: Daemon, back_end: str) -> None:
    assert alive.pid
    (dumped,) = [of for of in answer("dump") if of["services"]]
    assert dumped["mode"] == mode_of(back_end)
    found = {of["name"]: of for of in dumped["services"]}
    assert set(found) == {"shop/pay:http", "shop/cart:http", "shop/idle:http"}
    pay = found["shop/pay:http"]
    assert pay["affinity_seconds"] == 10800
    assert {frontend["address"] for frontend in pay["frontends"]} == {"10.96.7.7", "node"}
    assert [(of["endpoint"], of["state"]) for of in pay["members"]] == [
        ("10.244.1.2:8080", "ready"),
        ("10.244.1.3:8080", "ready"),
    ]
    assert not any(frontend["endpoints"] for frontend in found["shop/idle:http"]["frontends"])


@pytest.mark.parametrize("subject", [ONE, "shop/cart:http", PLACE])
@pytest.mark.usefixtures("alive")
def test_a_dump_of_one_tells_what_the_dump_of_all_tells(subject: str) -> None:
    (whole,) = [of for of in answer("dump") if of["services"]]
    (one,) = [of for of in answer("dump", subject) if of["services"]]
    assert one["services"] == [of for of in whole["services"] if of["name"] == "shop/cart:http"]


@pytest.mark.usefixtures("alive")
def test_where_nothing_is_wrong_nothing_differs() -> None:
    for arguments in (("diff",), ("diff", ONE), ("diff", PLACE), ("explain", PLACE, "--check")):
        done = headgate(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), done
    assert "all 3 Services are in the kernel as they should be" in headgate("diff").stdout


def test_the_origin_is_the_headgate_that_runs(alive: Daemon, back_end: str) -> None:
    told = answer("diff")
    assert told["origin"] == f"the headgate that runs here, pid {alive.pid}"
    assert (told["mode"], told["node"], told["is_running"]) == (mode_of(back_end), NODE, True)


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_a_snapshot_answers_as_the_node_did(question: tuple[str, ...], snapshot: str) -> None:
    now, then = headgate(*question), headgate(*question, "--snapshot", snapshot)
    assert then.stderr == now.stderr == ""
    assert then.returncode == now.returncode == 0
    if question[0] in ("dump", "render"):
        assert then.stdout == now.stdout
    if "-o" in question or question[0] in ("dump", "render"):
        return
    told, recalled = answer(*question), answer(*question, "--snapshot", snapshot)
    # Who says so is another one; of a single packet nobody asked the routes.
    others = ("origin", "reply", "findings", "not_looked_at")
    assert without(recalled, *others) == without(told, *others)
    assert recalled["origin"].startswith(f"a snapshot of {NODE}, taken ")
    assert recalled["origin"].endswith(f" ({told['origin']})")


def test_a_snapshot_has_the_configuration_in_force(snapshot: str, back_end: str) -> None:
    said = recall(Path(snapshot)).cluster.configuration
    assert said["kind"] == "KubeProxyConfiguration"
    assert said["mode"] == mode_of(back_end)


@pytest.mark.usefixtures("alive")
@pytest.mark.parametrize("arguments", [("dump", "shop/none"), ("dump", "10.96.7.77:80")])
def test_a_dump_of_what_is_not_there(arguments: tuple[str, ...]) -> None:
    done = headgate(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"headgate: Service {arguments[1]} is not in the kernel\n"


@pytest.mark.usefixtures("alive")
def test_a_diff_of_what_is_not_there() -> None:
    done = headgate("diff", "shop/none")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("headgate: shop/none is no Service here (says ")


def test_no_command_changes_anything(snapshot: str, tmp_path: Path) -> None:
    before = everything()
    assert any("10.96.7.8" in text for text in before.values())
    for question in QUESTIONS:
        for source in ((), ("--snapshot", snapshot)):
            assert headgate(*question, *source).returncode == 0
    commands = [("snapshot", "-o", str(tmp_path / "again")), ("probe",)]
    commands += [("top", "--count=1", "--interval=100ms"), ("completion", "bash"), ("version",)]
    commands.append(("trace", PLACE, "--timeout=100ms"))
    for command in commands:
        assert headgate(*command).returncode in (0, 1)
    after = everything()
    assert after.keys() == before.keys()
    assert {name: text for name, text in after.items() if text != before[name]} == {}


def test_a_watch_tells_who_changed_what_and_that_it_was_repaired(
    alive: Daemon, back_end: str
) -> None:
    since = len(alive.lines)
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "diff", "--watch", "-o", "json"],
        stdout=subprocess.PIPE,
        text=True,
    ) as watch:
        assert watch.stdout is not None
        watchdog = Timer(60, watch.kill)
        watchdog.start()
        turns = map(json.loads, watch.stdout)
        assert next(turns)["what"] == "same"
        DAMAGES[back_end]()
        alive.wait_for(lambda line: "epaired" in line.text, since)
        told = []
        for turn in turns:
            told.append(turn)
            if turn["what"] in ("repaired", "same"):
                break
        watch.send_signal(signal.SIGINT)
        assert watch.wait() == 0
        watchdog.cancel()
    changes = [turn["change"] for turn in told if turn["what"] == "changed"]
    drifts = [turn["difference"]["service"] for turn in told if turn["what"] == "drift"]
    assert set(drifts) <= {"shop/cart:http"}
    assert changes
    if back_end in ("nftables", "iptables-nft"):
        assert changes[0]["author"] in ("nft", "iptables-nft")
        assert changes[0]["pid"] > 0
    assert answer("diff")["differences"] == []
    assert answer("diff")["last_foreign"] is not None


def test_what_a_headgate_left_is_compared_with_manifests(
    back_end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with a_node(tmp_path_factory.mktemp("left")) as manifests:
        source = offline(back_end, manifests)
        assert headgate("diff", *source).returncode == 1
        with running(back_end, manifests):
            pass
        assert headgate("diff", *source).returncode == 0
        assert headgate("explain", PLACE, "--check", *source).returncode == 0
        _damaged(back_end, source)


def _damaged(back_end: str, source: tuple[str, ...]) -> None:
    """Each command tells of one Service that was taken out, and of no other."""
    DAMAGES[back_end]()
    told = answer("diff", *source, status=1)
    assert {of["service"] for of in told["differences"]} == {"shop/cart:http"}
    assert (told["services"], told["is_running"]) == (3, False)
    assert answer("diff", ONE, *source, status=1)["differences"] == told["differences"]
    assert answer("diff", PLACE, *source, status=1)["differences"] == told["differences"]
    assert answer("diff", "shop/pay", *source)["differences"] == []
    text = headgate("diff", *source).stdout
    assert text.startswith("DRIFT   1 of 3 Services differs from what should be in the kernel\n")
    checked = answer("explain", PLACE, "--check", *source, status=1)
    assert checked["findings"][0]["cause"] == "rules"
    assert "the kernel does not hold shop/cart:http as it should" in checked["findings"][0]["text"]
    # Without --check it is not asked what this machine does.
    assert answer("explain", PLACE, *source)["findings"] == []
    assert headgate("explain", "10.96.7.7:80", "--check", *source).returncode == 0


def test_where_nobody_runs(tmp_path_factory: pytest.TempPathFactory) -> None:
    with a_node(tmp_path_factory.mktemp("empty")):
        for command in ("diff", "explain 10.96.7.7:80", "render", "snapshot -o /run/none"):
            done = headgate(*command.split())
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith("headgate: no headgate runs in this network namespace, ")
            assert done.stderr.count("\n") == 1
        done = headgate("dump")
        assert (done.returncode, done.stdout) == (0, "no Service is in the kernel\n")
