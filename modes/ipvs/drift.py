"""In which words is said how the kernel differs from what it was told? Pure."""

from __future__ import annotations

from collections.abc import Iterable

from modes.base import Drift
from modes.ipvs.draining import Draining
from modes.ipvs.fragment import Fragment
from modes.ipvs.ipsets import Entry, SetName
from modes.ipvs.program import Goal, Held, HeldServer, Steps, bound, registered, steps
from modes.ipvs.servers import ServerKey, Verb


def drift(held: Held, goal: Goal, draining: Draining, lacking: Iterable[SetName] = ()) -> Drift:
    """What would have to be done; `lacking` are sets that are not there.

    What drains is no drift, nor is a weight other than 0 that somebody has chosen.
    """
    missing, extra, different = [f"set {name}" for name in lacking], [], []
    todo = remaining(held, goal, draining)
    for _, command in todo.commands:
        what = f"{command.key} -> {command.real}" if command.real else str(command.key)
        match command.verb:
            case Verb.NEW_SERVER | Verb.NEW_REAL:
                missing.append(what)
            case Verb.DELETE_SERVER | Verb.DELETE_REAL:
                extra.append(what)
            case Verb.SET_SERVER | Verb.SET_REAL:
                different.append(what)
    added, removed = ({one.entry for one in of} for of in (todo.additions, todo.removals))
    # What is in both refuses for a moment only.
    missing += [f"{one.set} {one.element}" for one in added - removed]
    extra += [f"{one.set} {one.element}" for one in removed - added]
    missing += [f"address {address}" for address in todo.bind]
    extra += [f"address {address}" for address in todo.unbind]
    return Drift(tuple(sorted(missing)), tuple(sorted(extra)), tuple(sorted(different)))


def remaining(held: Held, goal: Goal, draining: Draining) -> Steps:
    """What turns the one into the other, if all that drains were gone already."""
    return steps(_without_draining(held, goal, draining), goal, Draining(), drain_seconds=0)


def without(refused: Iterable[Fragment], held: Held, goal: Goal) -> tuple[Held, Goal]:
    """The same but for Services that the kernel refused something of: it holds any part of them."""
    keys, entries, addresses = set[ServerKey](), set[Entry](), set[str]()
    for of in refused:
        keys |= {*of.servers, *of.silent}
        entries |= {*of.entries, *of.shared, *map(registered, keys), *map(bound, of.addresses)}
        addresses |= {*of.addresses}
    return (
        Held(
            {key: of for key, of in held.servers.items() if key not in keys},
            {one: extra for one, extra in held.entries.items() if one not in entries},
            held.addresses - addresses,
        ),
        Goal(
            {key: of for key, of in goal.servers.items() if key not in keys},
            goal.silent,
            {one: extra for one, extra in goal.entries.items() if one not in entries},
            goal.addresses - addresses,
        ),
    )


def _without_draining(held: Held, goal: Goal, draining: Draining) -> Held:
    """What would be held if all that drains were gone."""
    servers: dict[ServerKey, HeldServer] = {}
    entries = dict(held.entries)
    for key, (server, weights) in held.servers.items():
        drained = draining.get(key)
        left = {r: w for r, w in weights.items() if not drained or r not in drained.deadlines}
        if left or not weights or key in goal.servers:
            servers[key] = HeldServer(server, left)
        else:
            entries.pop(registered(key), None)
    return Held(servers, entries, held.addresses)
