"""Is the help true? Every example in it is run, and it fits the screen."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from proxy.examples import EXAMPLES, Example
from proxy.flags import COMMANDS
from tests.lab import namespaces, sandbox
from tests.lab.daemons import Daemon, Line

SCHEMAS = Path(__file__).parent.parent / "docs" / "schema"
LINES = ("diff-watch", "top")
"""Answers of which each line is a document."""
EXAMPLE_FILES = Path(__file__).parent.parent / "docs" / "examples"
HEADGATE = Path(sys.executable).with_name("headgate")
ALONE = ("run", "cleanup")
"""Commands that change the kernel: each of their examples has a network for itself."""


def in_folder(of: Example, network: int) -> Daemon:
    """What an example starts that stays."""
    program, command, *arguments = shlex.split(of.line)
    assert (program, command) == ("headgate", "run")
    with contextlib.chdir(EXAMPLE_FILES):
        return Daemon("worker-2", network, arguments)


@contextlib.contextmanager
def this_network() -> Iterator[int]:
    """The network namespace of the calling thread."""
    descriptor = os.open(namespaces.THREAD_NETWORK, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """The headgate that runs on the node: the first example of `run`."""
    with sandbox.own_network(), this_network() as network:
        running = in_folder(EXAMPLES["run"][0], network)
        running.wait_for(lambda line: line.is_synced)
        yield running
        running.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where examples are typed: they may write there."""
    return Path(shutil.copytree(EXAMPLE_FILES, tmp_path / "examples"))


def answer(of: Example, folder: Path) -> subprocess.CompletedProcess[str]:
    """What an example prints, run as a user does, by name; one that stays is ended by Ctrl-C."""
    sandbox.require_sandbox()
    path = f"{HEADGATE.parent}:{os.environ['PATH']}"
    with subprocess.Popen(
        ["/bin/bash", "--norc", "-c", f"exec {of.line}"],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        first = ""
        if of.stays:
            assert running.stdout is not None
            first = running.stdout.readline()
            running.send_signal(signal.SIGINT)
        out, err = running.communicate()
    return subprocess.CompletedProcess(of.line, running.returncode, first + out, err)


def of_each(commands: frozenset[str]) -> list[object]:
    """Examples of these commands, as parameters."""
    return [
        pytest.param(example, id=example.line)
        for command in COMMANDS
        if command in commands
        for example in EXAMPLES.get(command, ())
    ]


def has_answered(of: Example, done: subprocess.CompletedProcess[str]) -> bool:
    """Whether it ended as it should, and said something; `run` talks to the log."""
    is_aside = ">" in of.line or (shlex.split(of.line)[1] == "run" and not done.stdout)
    told = done.stderr if is_aside else done.stdout
    return done.returncode == of.status and bool(told) and "Traceback" not in done.stderr


@pytest.mark.parametrize("example", of_each(frozenset(COMMANDS) - frozenset(ALONE)))
@pytest.mark.usefixtures("daemon")
def test_an_example_answers_beside_a_headgate(example: Example, folder: Path) -> None:
    if "--snapshot" in example.line:
        assert answer(EXAMPLES["snapshot"][0], folder).returncode == 0
    done = answer(example, folder)
    assert has_answered(example, done), done
    if name := schema_of(example):
        for document in [done.stdout] if name not in LINES else done.stdout.splitlines():
            as_said(name).validate(json.loads(document))


@pytest.mark.parametrize("taking", EXAMPLES["snapshot"], ids=lambda example: example.line)
@pytest.mark.usefixtures("daemon")
def test_a_snapshot_is_read_back(taking: Example, folder: Path) -> None:
    assert answer(taking, folder).returncode == 0
    done = answer(Example("headgate diff --snapshot node.hgs", ""), folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("SAME")


def schema_of(of: Example) -> str:
    """Which file of docs/schema says what an example prints; empty if that is no JSON."""
    words = shlex.split(of.line)
    if ("-o", "json") not in pairwise(words):
        return ""
    parts = [words[1]]
    parts += ["watch"] if "--watch" in words else []
    parts += [words[words.index("--mode") + 1]] if words[1] == "render" else []
    return "-".join(parts)


def as_said(name: str) -> Validator:
    """A check for exactly what a schema names: readers must bear more, this test must not."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    for of in schema["$defs"].values():
        if "properties" in of:
            of["additionalProperties"] = False
    return Draft202012Validator(schema)


def test_every_answer_in_json_has_an_example() -> None:
    shown = {schema_of(example) for examples in EXAMPLES.values() for example in examples}
    assert shown - {""} == {path.stem for path in SCHEMAS.iterdir()}


def test_what_a_schema_does_not_say_is_noticed() -> None:
    packet = {"features": [], "working": ["nftables"], "auto": None}
    as_said("probe").validate(packet)
    for wrong in ({"auto": 1}, {"working": [1]}, {"more": ""}):
        assert not as_said("probe").is_valid(packet | wrong)
    assert not as_said("probe").is_valid({"features": [], "working": []})


@pytest.mark.parametrize("example", of_each(frozenset(ALONE)))
def test_an_example_does_what_it_says(example: Example, folder: Path) -> None:
    with sandbox.own_network(), this_network() as network:
        if example.stays:
            running = in_folder(example, network)
            line: Line = running.wait_for(lambda line: line.is_synced)
            assert "services=1" in line.text
            assert running.stop() == 0
        else:
            done = answer(example, folder)
            assert has_answered(example, done), done


def test_every_command_has_examples_and_no_other_has() -> None:
    assert EXAMPLES.keys() == COMMANDS.keys()
    for command, examples in EXAMPLES.items():
        assert examples
        assert all(example.line.startswith(f"headgate {command}") for example in examples)


def help_of(command: str, width: int) -> str:
    """`headgate COMMAND --help` where lines are this long."""
    return subprocess.run(
        [HEADGATE, *command.split(), "--help"],
        env=os.environ | {"COLUMNS": str(width)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_as_wide_as_the_screen(command: str) -> None:
    narrow, wide = (help_of(command, width).splitlines() for width in (72, 200))
    whole = {f"  {example.line}" for example in EXAMPLES.get(command, ())}
    assert whole <= set(narrow)
    assert all(len(line) <= 72 for line in narrow if line not in whole)
    assert len(wide) <= len(narrow)
    assert command != "run" or max(map(len, wide)) > 150
