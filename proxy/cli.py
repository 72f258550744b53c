"""What was typed, and which part of the program answers?

A command's module is imported when the command is called: `headgate explain --help` must not wait
for a Kubernetes client. Exit status: 0 fine, 1 something is wrong with what was looked at, 2 wrong
usage, or a machine that cannot do it.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from modes.base import EnvironmentFault, KernelFault
from proxy.debug.screen import screen
from proxy.every import aside
from proxy.flags import COMMANDS, Flags, summary
from proxy.garbage import collect_seldom
from proxy.output import OutputFault, abandon, attend
from proxy.settings.refusal import ConfigError

EXIT_FINE, EXIT_FAILURE, EXIT_USAGE = 0, 1, 2


class UsageError(Exception):
    """What was typed cannot be understood."""


class Parser(Flags):
    """Refuses with one line, like the rest of the program."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse. Raises UsageError."""
        raise UsageError(message.removeprefix("argument "))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own, and return its exit status."""
    if argv is None:
        attend()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            return _dispatch(arguments)
        finally:
            sys.stdout.flush()
    except (UsageError, ConfigError, EnvironmentFault) as error:
        _say(error)
        if isinstance(error, OutputFault):
            abandon()
        return EXIT_USAGE
    except KernelFault as error:
        _say(error)
        return EXIT_FAILURE
    except BrokenPipeError:
        # Whoever read has gone: `headgate dump | head`.
        abandon()
        return EXIT_FAILURE


def _say(error: Exception) -> None:
    for line in str(error).splitlines():
        aside(line)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(summary(screen()), file=sys.stdout if arguments else sys.stderr)
        return EXIT_FINE if arguments else EXIT_USAGE
    if arguments[0].startswith("-"):
        arguments = ["run", *arguments]  # the command line of kube-proxy
    name, *rest = arguments
    command = COMMANDS.get(name)
    if command is None:
        raise UsageError(f"{name}: unknown command{_suggestion(name, COMMANDS)}")
    parser = Parser(name, command.summary, screen())
    command.add_flags(parser)
    flags, unknown = parser.parse_known_args([_dashed(argument) for argument in rest])
    if unknown:
        raise UsageError(_unknown(parser, unknown[0]))
    module = command.module(flags)
    collect_seldom()
    status: int = importlib.import_module(module).main(flags)
    return status


def _dashed(argument: str) -> str:
    """A flag as kube-proxy normalises it: `--add_dir_header=x` is `--add-dir-header=x`."""
    name, equals, value = argument.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if name.startswith("--") else argument


def _unknown(parser: Parser, argument: str) -> str:
    flag = argument.partition("=")[0]
    if not flag.startswith("-"):
        return f"{argument}: unexpected argument of {parser.prog}"
    return f"{flag}: unknown flag of {parser.prog}{_suggestion(flag, parser.known)}"


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""
