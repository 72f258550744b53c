"""What does docs/debugging.md say of each fault? Pure, but for the reading of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.lab.probes import Outcome

TEXT = (Path(__file__).parents[2] / "docs" / "debugging.md").read_text()
SEEN = {
    Outcome.REFUSED: "refused",
    Outcome.UNREACHABLE: "unreachable",
    Outcome.TIMEOUT: "silence",
}
"""The guide's words for what a client meets."""
_ROW = re.compile(r"^\| (\d+b?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
_BLOCK = re.compile(r"^```console (\w+)\n\$ headgate (.+)\n((?:.*\n)*?)```$", re.MULTILINE)
_ANYTHING = "..."


class Row(NamedTuple):
    """A line of the table."""

    number: str
    name: str
    sees: str
    asks: tuple[tuple[str, str], ...]
    """Commands without `headgate`, each with what it says."""


def rows() -> list[Row]:
    """The table of the faults."""
    return [
        Row(number, name, sees, tuple(zip(_commands(asks), _quoted(says), strict=True)))
        for number, name, sees, asks, says in _ROW.findall(TEXT)
    ]


def _commands(cell: str) -> list[str]:
    return [quoted.removeprefix("headgate ") for quoted in _quoted(cell)]


def _quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def blocks() -> dict[tuple[str, str], str]:
    """What a command is shown to print, by the number of the fault and the command."""
    return {(number, words): shown for number, words, shown in _BLOCK.findall(TEXT)}


def is_as_shown(printed: str, shown: str) -> bool:
    """Whether it is that, but for lines that are left out, line breaks, and ports of clients."""
    parts = [_plain(part) for part in shown.split(f"{_ANYTHING}\n")]
    return re.fullmatch(".*".join(map(re.escape, parts)), _plain(printed)) is not None


def _plain(text: str) -> str:
    ports = re.sub(r"(10\.244\.1\.3):\d+", r"\1:PORT", text)
    return " ".join(ports.split())
