"""When does Python look for garbage, which is only what holds itself?

What is kept of a cluster has no cycles; exceptions and tracebacks have.
"""

from __future__ import annotations

import gc

_SELDOM = (20_000, 20, 50)
_WHILE_LOADING = (500_000, 20, 50)
"""More than what a load of 10,000 Services makes; an API server that cannot be reached for days
makes it too, in the end, so that what was tried in vain is collected."""


def collect_seldom() -> None:
    """Let the garbage collector walk the program's memory less often.

    With Python's own thresholds (700, 10, 10) looking for cycles took a sixth of the time of a full
    load of 10,000 Services, and of a command that tells of them.
    """
    gc.set_threshold(*_SELDOM)


def collect_hardly() -> None:
    """Until the cluster is there: `leave_out_what_is_there` ends it."""
    gc.set_threshold(*_WHILE_LOADING)


def leave_out_what_is_there() -> None:
    """Look as seldom as ever again, and at nothing that there is by now; once.

    To look took 0.08 s of a start with 10,000 Services, and would take 0.15 s at once, now and
    then, in which no change is followed.
    """
    if gc.get_threshold() == _WHILE_LOADING:
        gc.freeze()
        collect_seldom()
