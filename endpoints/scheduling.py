"""How does a Service want its endpoints chosen, where IPVS chooses? Pure.

Schedulers are modules of the kernel, so that only a kernel knows which ones there are; here is
known what their names look like, and which flags two of them take (linux/ip_vs.h).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from sys import intern
from typing import TypeVar

from endpoints.objects import (
    ROUTER_SCHEDULER,
    ROUTER_SCHEDULER_FLAGS,
    SCHEDULER,
    SCHEDULER_FLAGS,
    Annotations,
)

_T = TypeVar("_T")

FLAGS = ("mh-fallback", "mh-port", "sh-fallback", "sh-port")
_NAME = re.compile(r"[a-z0-9_-]{1,15}").fullmatch
_ROUTER_FLAGS = {"flag-1": "mh-fallback", "flag-2": "mh-port", "flag-3": ""}
"""kube-router numbers the flags of IPVS, and heeds them for mh only, to which the third one means
nothing."""

Refuse = Callable[[str, str, str], None]
"""Told of an annotation that cannot be used: its key, its value and why."""


_HOW = {
    "rr": "in turn",
    "wrr": "in turn, by weight",
    "lc": "the one with the fewest connections",
    "wlc": "the one with the fewest connections for its weight",
    "sh": "by the client's address",
    "mh": "by the client's address and port",
    "dh": "by the address asked for: always the same one",
    "sed": "the one with the shortest expected delay",
    "nq": "an idle one, else the one with the shortest expected delay",
    "fo": "the heaviest that is up",
    "twos": "the less busy of two drawn by chance",
}


def how(scheduler: str) -> str:
    """How an endpoint is chosen, in words; by no scheduler: as the other modes do."""
    return _HOW.get(scheduler, f"by scheduler {scheduler}") if scheduler else "uniformly"


def is_even(scheduler: str) -> bool:
    """Whether every endpoint gets the same share of connections, whoever makes them."""
    return scheduler in ("", "rr", "wrr")


def scheduler(text: str) -> str:
    """A scheduler's name: what a kernel may have (IP_VS_SCHEDNAME_MAXLEN). Raises ValueError."""
    if not _NAME(text):
        raise ValueError("is no name of a scheduler (1 to 15 of a-z, 0-9, _ and -)")
    return intern(text)


def flags(text: str) -> tuple[str, ...]:
    """A comma-separated list of flags, sorted, each once. Raises ValueError."""
    return _flags(text, {flag: flag for flag in FLAGS})


def settle(said: Annotations, refuse: Refuse) -> None:
    """Leave in `scheduler` and `scheduler_flags` what is in force, in canonical form, in place.

    Our own annotations win over kube-router's; one that cannot be used counts as missing.
    """
    ours = _read(scheduler, SCHEDULER, said.scheduler, refuse)
    theirs = _read(scheduler, ROUTER_SCHEDULER, said.router_scheduler, refuse)
    wanted = _read(flags, SCHEDULER_FLAGS, said.scheduler_flags, refuse)
    if wanted is None and (ours or theirs) == "mh":
        wanted = _read(_router_flags, ROUTER_SCHEDULER_FLAGS, said.router_scheduler_flags, refuse)
    said.scheduler = ours or theirs
    said.scheduler_flags = ",".join(wanted) if wanted else None
    said.router_scheduler = said.router_scheduler_flags = None


def _read(parse: Callable[[str], _T], key: str, text: str | None, refuse: Refuse) -> _T | None:
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        refuse(key, text, str(error))
        return None


def _router_flags(text: str) -> tuple[str, ...]:
    return _flags(text, _ROUTER_FLAGS)


def _flags(text: str, known: dict[str, str]) -> tuple[str, ...]:
    given = {part.strip() for part in text.split(",")} - {""}
    if unknown := sorted(given - known.keys()):
        raise ValueError(f"{unknown[0]!r} is no flag; known: {', '.join(sorted(known))}")
    return tuple(sorted({known[flag] for flag in given} - {""}))
