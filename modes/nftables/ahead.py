"""What can be read of the kernel while others still work? All elements, as it sends them.

For every 32 KB that the kernel tells of a set it walks the set from its beginning: 0.4 s for
100,000 endpoints, 2.5 for 250,000 (kernel 6.18). Python is not needed for that, so that a thread
reads while the cluster is being listed, or while changes are followed; to understand what was read
is left to who asked for it (decision 0025).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from endpoints.names import Family
from modes.base import EnvironmentFault, KernelFault
from modes.nftables import codec, delta
from modes.nftables.elements import Elements, set_of
from modes.nftables.kernel import Kernel, Payloads
from modes.nftables.sets import set_specs


class Raw(NamedTuple):
    """All elements of our tables but those that packets put there."""

    payloads: Payloads
    """Its owner may take out what he has understood."""
    generation: int | None
    """The ruleset that this is all of; None: it changed meanwhile, and this is no one state of it.

    Elements may be missing then, or told twice.
    """


NOTHING = Raw({}, None)
_ASKED_SINGLY = 2000
"""Elements, at most: more of them are read sooner with all others."""


class Ahead:
    """One reading, in a thread of its own, from now on.

    The network namespace is that of the calling thread. `done` is called by the other one, at the
    end, whatever came of it.
    """

    def __init__(self, done: Callable[[], None]) -> None:
        """Begin; returns at once."""
        self._done = done
        self._raw: Raw = NOTHING
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # as many threads as the pod may have: it is read later, as ever
            self._done()

    def result(self) -> Raw:
        """What was read; waits for it. `NOTHING` if it could not be."""
        if self._thread.ident is not None:
            self._thread.join()
        return self._raw

    def _run(self) -> None:
        try:
            kernel = Kernel()
            try:
                self._raw = read(kernel)
            finally:
                kernel.close()
        except (KernelFault, EnvironmentFault, OSError):
            pass  # whoever needs it asks again, and says what is wrong if that is still so
        finally:
            self._done()


def read(kernel: Kernel) -> Raw:
    """Read once, whatever changes meanwhile. Raises KernelFault, EnvironmentFault and OSError."""
    before = kernel.generation()
    payloads: Payloads = {}
    torn = False
    for family in Family:
        for spec in set_specs(family):
            if not spec.dynamic_size:
                payloads[family, spec.id], changed = kernel.listed(family, spec.id)
                torn |= changed
    torn |= kernel.generation() != before
    return Raw(payloads, None if torn else before)


def ask_again(kernel: Kernel, found: Elements, held: Elements) -> bool:
    """Make sure of what was found otherwise than it is held, in place.

    False if that is too much, or cannot be asked for singly: then all is to be read. Raises
    EnvironmentFault and KernelFault.
    """
    changes = delta.difference(found, held)
    doubtful = changes.deletes | changes.adds.keys()
    if len(doubtful) > _ASKED_SINGLY or not all(map(_has_one_key, doubtful)):
        return False
    for key in doubtful:
        found.pop(key, None)
    found.update(kernel.these(doubtful))
    return True


def _has_one_key(key: bytes) -> bool:
    """Whether a lookup of it finds this element and no other: no interval, and not `*`."""
    return not (codec.is_catch_all(key) or codec.spec_of(*set_of(key)).interval)
