"""What may follow `headgate`, word by word?"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping

from endpoints.explain import Hook
from endpoints.node import DetectLocalMode
from modes.ipvs.schedulers import KNOWN
from modes.registry import AUTO, MODES
from proxy.debug.rates.busy import Sort
from proxy.flags import COMMANDS, Flags
from proxy.settings.refusal import ConfigError
from proxy.shells import Line, Word, bash, fish, zsh

_SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
_SPELLED_OUT = re.compile(r"[\w-]+(\|[\w-]+)+")
"""A metavar that is the list of its values: `text|json`."""
_VALUES: Mapping[str, tuple[str, ...]] = {
    "--detect-local-mode": tuple(DetectLocalMode),
    "--ipvs-scheduler": KNOWN,
    "--iptables-variant": ("auto", "legacy", "nft"),
    "--logging-format": ("text", "json"),
    "--mode": (AUTO, *MODES),
    "--sort": tuple(Sort),
    "--via": tuple(Hook),
}
"""Of flags whose metavar does not say them, in every command."""
_FILES = ("FILE", "PATH")
"""Metavars of files and folders."""
_COLUMNS = 70


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate completion`. Raises ConfigError."""
    script = _SHELLS.get(flags.shell)
    if script is None:
        raise ConfigError("SHELL", flags.shell, f"must be one of {', '.join(_SHELLS)}")
    lines = [Line(name, of.summary, tuple(_words(name))) for name, of in COMMANDS.items()]
    sys.stdout.write("\n".join(script(lines)) + "\n")
    return 0


def _words(name: str) -> Iterator[Word]:
    """What may follow a command; what is accepted and ignored is not offered."""
    parser = Flags(name, "")
    COMMANDS[name].add_flags(parser)
    for action in parser.actions:
        if action.help != argparse.SUPPRESS:
            yield _word(action)


def _word(action: argparse.Action) -> Word:
    names = tuple(action.option_strings)
    metavar = "" if action.nargs == 0 else str(action.metavar)
    spelled = tuple(metavar.split("|")) if _SPELLED_OUT.fullmatch(metavar) else ()
    return Word(
        names=names,
        does=textwrap.shorten(
            action.help or "", _COLUMNS, placeholder=" …", break_on_hyphens=False
        ),
        metavar=metavar,
        values=next((_VALUES[flag] for flag in names if flag in _VALUES), spelled),
        is_file=metavar in _FILES,
        is_optional=bool(names) and action.nargs == "?",
    )
