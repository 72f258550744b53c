"""How does a command ask every mode, when a machine may lack what one of them needs?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TypeVar

from modes.base import EnvironmentFault, Missing
from proxy.settings.refusal import printable

_T = TypeVar("_T")


def of_every(modes: Iterable[str], ask: Callable[[str], _T]) -> list[_T]:
    """What the modes answer; who cannot answer here is named on standard error.

    But for those that the kernel lacks altogether: nothing of theirs is there to be told. Raises
    the first EnvironmentFault if none can answer.
    """
    answers: list[_T] = []
    faults: dict[str, EnvironmentFault] = {}
    for mode in modes:
        try:
            answers.append(ask(mode))
        except EnvironmentFault as fault:
            faults[mode] = fault
    if faults and not answers:
        raise next(iter(faults.values()))
    for mode, reason in faults.items():
        if not isinstance(reason, Missing):
            aside(f"{mode}: {reason}")
    return answers


def aside(message: str, /, *, routine: bool = False, **fields: object) -> None:  # noqa: ARG001 (a Tell's)
    """Say on standard error what is no answer: `headgate: message, name value`."""
    details = "".join(f", {name} {value}" for name, value in fields.items())
    sys.stderr.write(f"headgate: {printable(message + details)}\n")
