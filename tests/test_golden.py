"""Do the commands print what they did? GOLDEN=write makes the files in tests/golden anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest

from proxy.cli import main
from proxy.debug import differing, dumped, explain, probe
from proxy.debug.rates import busy
from proxy.debug.screen import Screen
from proxy.debug.table import STYLE, columns
from proxy.debug.tracing import traced
from proxy.flags import COMMANDS, Flags, summary
from tests.golden import values

FOLDER = Path(__file__).parent / "golden"
SHOP = str(Path(__file__).parent.parent / "docs" / "examples" / "shop.yaml")
SCREENS = {"80": Screen(80), "160": Screen(160), "colour": Screen(80, colour=True)}
COLOURED = ("diff-drift", "diff-same", "explain-broken", "explain-drop", "probe", "top", "trace")
"""Of the others the files of colours would be those of 80 columns."""
Text = Callable[[Screen], Sequence[str]]
FORMATTED: dict[str, Text] = {
    "diff-drift": partial(differing.text, values.DRIFT),
    "diff-same": partial(differing.text, values.SAME),
    "dump-nftables": partial(dumped.text, "nftables", values.HELD_BY_NFTABLES),
    "dump-iptables": partial(dumped.text, "iptables", values.HELD_BY_IPTABLES),
    "dump-ipvs": partial(dumped.text, "ipvs", values.HELD_BY_IPVS),
    "help": lambda shown: summary(shown).splitlines(),
    "help-dump": lambda shown: help_of("dump", shown),
    "probe": partial(probe.text, values.PROBED),
    "top": partial(busy.text, values.BUSY),
    "top-uncounted": partial(busy.text, values.UNCOUNTED),
    "trace": partial(traced.text, values.TRACED),
    "trace-nothing": partial(traced.text, values.UNSEEN),
}
"""What is printed of values, by the file that holds it."""
EXPLAINED = {
    "explain-forward": "10.96.7.7:80 --from 10.244.1.9 --cluster-cidr 10.244.0.0/16",
    "explain-drop": "198.51.100.20:80 --from 192.0.2.8",
    "explain-reject": "10.96.7.7:81 --from 10.244.1.9",
    "explain-pass": "192.0.2.1:80",
    "explain-hairpin": "10.96.7.7:80 --from 10.244.1.2 --mode iptables",
}
"""What is asked of docs/examples, by the file that holds the answer."""


BROKEN = "explain-broken"


def help_of(command: str, shown: Screen) -> list[str]:
    flags = Flags(command, COMMANDS[command].summary, shown)
    COMMANDS[command].add_flags(flags)
    return flags.format_help().splitlines()


def is_as_before(name: str, lines: Sequence[str]) -> bool:
    """Whether a file holds these lines; by GOLDEN=write it does."""
    path = FOLDER / f"{name}.txt"
    text = "".join(f"{line}\n" for line in lines)
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert path.exists(), "GOLDEN=write makes it"
    assert text == path.read_text()
    return True


def screens(names: Iterable[str]) -> list[tuple[str, str]]:
    """Each name with each screen that has a file."""
    return [
        (name, screen)
        for name in names
        for screen in SCREENS
        if screen != "colour" or name in COLOURED
    ]


@pytest.mark.parametrize(("name", "screen"), screens(FORMATTED))
def test_values(name: str, screen: str) -> None:
    assert is_as_before(f"{name}-{screen}", FORMATTED[name](SCREENS[screen]))


@pytest.mark.parametrize(("name", "screen"), screens(EXPLAINED))
def test_explanations(
    name: str,
    screen: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(explain, "screen", lambda: SCREENS[screen])
    arguments = EXPLAINED[name].split()
    assert main(["explain", *arguments, "--manifests", SHOP, "--node", "worker-2"]) == 0
    assert is_as_before(f"{name}-{screen}", capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(("name", "screen"), screens([BROKEN]))
def test_a_machine_that_does_otherwise(
    name: str, screen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["10.96.7.7:80", "--from", "10.244.1.9", "--manifests", SHOP, "--node", "worker-2"]
    assert main(["explain", *asked, "-o", "json"]) == 0
    answer = msgspec.json.decode(capsys.readouterr().out, type=explain.Answer)
    broken = msgspec.structs.replace(answer, findings=(values.FULL, values.MAY))
    assert is_as_before(f"{name}-{screen}", explain.text(broken, SCREENS[screen]))


NAMES = {f"{name}-{screen}" for name, screen in screens([*FORMATTED, *EXPLAINED, BROKEN])}


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_lines_fit_where_they_can(name: str) -> None:
    width = SCREENS[name.rpartition("-")[2]].width
    assert width is not None
    for line in (FOLDER / f"{name}.txt").read_text().splitlines():
        # A line is longer only for its last word, which is not broken: somebody may copy it.
        assert columns([line]) <= width or columns([line.rpartition(" ")[0]]) < width, line


@pytest.mark.parametrize("name", COLOURED)
def test_colours_change_no_text(name: str) -> None:
    coloured = (FOLDER / f"{name}-colour.txt").read_text()
    assert STYLE.search(coloured)
    assert STYLE.sub("", coloured) == (FOLDER / f"{name}-80.txt").read_text()
