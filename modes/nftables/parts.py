"""How is a large load divided, so that no packet meets a part of it? Pure.

A packet comes into a table by its hooked chains alone: they are written last, when all elements are
there. Until then the kernel has a table that does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from endpoints.names import Family
from modes.nftables import adopt, codec, delta
from modes.nftables import netlink as nl
from modes.nftables.adopt import Observed
from modes.nftables.delta import Changes
from modes.nftables.skeleton import Layout

ELEMENTS_IN_A_PART = 8192
"""Written in 10 ms. A load of fewer is not divided.

The kernel enlarges a map that gets full by a thread of its own, which waits for the end of the
transaction that fills it: until then elements queue up in a table that is too small for them, and
the time of a transaction grows faster than its elements.
"""


def suit(found: Observed, changes: Changes) -> bool:
    """Whether a change is a load to be divided: of many elements, to a kernel that has nothing."""
    return not found.present and len(changes.adds) > ELEMENTS_IN_A_PART


def divided(
    layouts: Mapping[Family, Layout], chains: Iterable[tuple[Family, str]], changes: Changes
) -> Iterator[list[nl.Message]]:
    """The transactions of a load, in order: these numbered chains, and elements to add.

    Together they say what one transaction of `adopt.rebuilding` and `delta.messages` would.
    """
    first = [message for layout in layouts.values() for message in adopt.unhooked(layout)]
    yield first + delta.messages(layouts, chains, Changes())
    yield from _grouped(codec.additions(changes.adds))
    yield [message for layout in layouts.values() for message in adopt.hooks(layout)]


def _grouped(messages: Iterable[nl.Message]) -> Iterator[list[nl.Message]]:
    part: list[nl.Message] = []
    elements = 0
    for message in messages:
        part.append(message)
        elements += len(message.keys)
        if elements >= ELEMENTS_IN_A_PART:
            yield part
            part, elements = [], 0
    if part:
        yield part
