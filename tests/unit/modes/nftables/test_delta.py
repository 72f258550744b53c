"""Is what is said to the kernel always the difference between what it holds and what it should?"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.names import Family, ObjectName
from modes.nftables import netlink as nl
from modes.nftables.delta import (
    Applied,
    Changes,
    difference,
    messages,
    missing_chains,
    owner_of,
    target_of,
    unlike,
)
from modes.nftables.elements import Elements, Fragment, Value, Verdict, is_shared, key_prefix
from modes.nftables.sets import S
from modes.nftables.shape import Shape
from modes.nftables.skeleton import Layout

V4, V6 = Family.IPV4, Family.IPV6
LAYOUTS = {family: Layout(Shape(family)) for family in Family}
AMY, BOB, CID = OWNERS = tuple(ObjectName("shop", name) for name in ("amy", "bob", "cid"))
PRIVATE = [key_prefix(f, S.SERVICES) + bytes((n,)) for f in Family for n in range(4)]
SHARED = [key_prefix(f, S.HAIRPIN) + bytes((n,)) for f in Family for n in range(3)]
State = dict[ObjectName, Fragment]

values = st.sampled_from([Verdict("goto pick-1"), Verdict("goto pick-2"), Verdict("drop")])
holders = st.dictionaries(st.sampled_from(PRIVATE), st.tuples(st.sampled_from(OWNERS), values))
sharers = st.dictionaries(st.sampled_from(SHARED), st.sets(st.sampled_from(OWNERS), min_size=1))


def state_of(
    held: Mapping[bytes, tuple[ObjectName, Verdict]], shared: Mapping[bytes, set[ObjectName]]
) -> State:
    """Fragments as conflicts leave them: one owner of a private key, any of a shared one."""
    state: dict[ObjectName, Elements] = {}
    for key, (owner, value) in held.items():
        state.setdefault(owner, {})[key] = value
    for key, owners in shared.items():
        for owner in owners:
            state.setdefault(owner, {})[key] = b""
    return dict(state)


states = st.builds(state_of, holders, sharers)


class Strict:
    """A kernel that refuses to delete what is not there and to add what is."""

    def __init__(self) -> None:
        self.elements: Elements = {}

    def take(self, changes: Changes) -> None:
        for key in changes.deletes:
            del self.elements[key]
        for key, value in changes.adds.items():
            assert key not in self.elements
            self.elements[key] = value


def union(state: Mapping[ObjectName, Fragment]) -> Elements:
    return {key: value for fragment in state.values() for key, value in fragment.items()}


def updates_between(before: State, after: State) -> State:
    """What differs; a Service that is gone is an empty fragment."""
    names = before.keys() | after.keys()
    return {n: after.get(n, {}) for n in names if before.get(n) != after.get(n)}


@given(st.lists(states, max_size=6), st.booleans())
def test_the_kernel_always_holds_the_union_of_the_fragments(
    history: list[State],
    all_of_it: bool,
) -> None:
    applied, kernel, before = Applied(), Strict(), State()
    for after in history:
        updates = updates_between(before, after)
        if all_of_it:
            updates = {name: after.get(name, {}) for name in OWNERS}
        changes = applied.changes(updates)
        kernel.take(changes)
        applied.commit(updates, changes)
        assert kernel.elements == union(after)
        assert applied.fragments == {name: f for name, f in after.items() if f}
        before = after


@given(states, states)
def test_changes_say_no_more_than_the_difference(before: State, after: State) -> None:
    applied = Applied(before)
    changes = applied.changes(updates_between(before, after))
    have, want = union(before), union(after)
    # A private key that moved from one Service to another is said again, and harmless.
    moved = {k for k, v in want.items() if have.get(k) == v}
    assert changes.adds.items() >= {(k, v) for k, v in want.items() if have.get(k) != v}
    assert changes.deletes >= {k for k, v in have.items() if want.get(k) != v}
    assert changes.adds.keys() & moved == changes.deletes & moved
    assert not any(is_shared(key) for key in moved & changes.deletes)
    for key in moved & changes.deletes:
        assert owner_of(before, key) != owner_of(after, key)


@given(states, states)
def test_working_a_change_out_changes_nothing(before: State, after: State) -> None:
    applied = Applied(before)
    updates = updates_between(before, after)
    assert applied.changes(updates) == applied.changes(updates)
    assert applied.fragments == {name: f for name, f in before.items() if f}


@given(states)
def test_what_is_applied_already_is_not_said_again(state: State) -> None:
    applied = Applied(state)
    assert not applied.changes(state)


@given(states)
def test_nothing_is_remembered_of_what_is_gone(state: State) -> None:
    applied = Applied(state)
    gone: State = {name: {} for name in state}
    changes = applied.changes(gone)
    assert changes.deletes == union(state).keys()
    applied.commit(gone, changes)
    assert (applied.fragments, applied._wanted_by) == ({}, {})


@given(states, states)
def test_the_difference_of_elements_turns_one_into_the_other(before: State, after: State) -> None:
    kernel, want = Strict(), union(after)
    kernel.elements = union(before)
    changes = difference(kernel.elements, want)
    told = changes.adds.keys() | changes.deletes
    assert told == {k for k in kernel.elements | want if kernel.elements.get(k) != want.get(k)}
    assert difference(kernel.elements, want, unlike(kernel.elements, want)) == changes
    assert difference(kernel.elements, want, want) == changes
    kernel.take(changes)
    assert kernel.elements == want
    assert not difference(want, want)


def test_what_one_doubts_another_may_want_as_it_was_found() -> None:
    """Two Services that claim one element: the last one has it, whoever was asked first."""
    key, found = PRIVATE[0], Verdict("goto pick-1")
    doubtful = list(unlike({key: found}, {key: Verdict("goto pick-2")}))
    assert doubtful == [key]
    assert not difference({key: found}, {key: found}, doubtful)


def test_an_element_moves_from_one_service_to_another_in_one_change() -> None:
    key, value = PRIVATE[0], Verdict("goto pick-1")
    applied = Applied({AMY: {key: value}})
    for updates in ({AMY: {}, BOB: {key: value}}, {BOB: {key: value}, AMY: {}}):
        changes = applied.changes(updates)
        assert (changes.deletes, changes.adds) == ({key}, {key: value})


def test_a_shared_element_goes_with_the_last_who_wants_it() -> None:
    key, wanted = SHARED[0], {SHARED[0]: b""}
    applied = Applied({AMY: wanted, BOB: wanted})
    assert not applied.changes({AMY: {}})
    applied.commit({AMY: {}}, applied.changes({AMY: {}}))
    assert not applied.changes({BOB: {}, CID: wanted})
    assert applied.changes({BOB: {}}).deletes == {key}


def chains_for(*wanted: str, present: tuple[str, ...] = ()) -> list[str]:
    adds: dict[bytes, Value] = {key: Verdict(v) for key, v in zip(PRIVATE, wanted, strict=False)}
    have = {(V4, name) for name in present}
    made = missing_chains(LAYOUTS, have, Changes(adds=adds))
    assert all(family is V4 for family, _ in made)
    return [name for _, name in made]


@pytest.mark.parametrize(
    ("verdict", "chains"),
    [
        ("drop", []),
        ("goto no-endpoints", []),
        ("goto pick-3", ["pick-3"]),
        ("goto np-local-2", ["np-local-2"]),
        ("goto sticky-pick-3", ["pick-3", "sticky-pick-3"]),
        ("goto np-sticky-local-3", ["np-local-3", "np-sticky-local-3"]),
        ("jump learn-60", ["learn-60"]),
    ],
)
def test_a_chain_is_made_before_it_is_named(verdict: str, chains: list[str]) -> None:
    assert chains_for(verdict) == chains
    assert chains_for(verdict, verdict) == chains
    assert chains_for(verdict, present=tuple(chains)) == []
    assert all(LAYOUTS[V4].numbered_chain(target_of(name)) for name in chains)


def test_a_transaction_makes_chains_then_deletes_then_adds() -> None:
    changes = Changes({PRIVATE[0]}, {PRIVATE[0]: Verdict("goto pick-3"), SHARED[-1]: b""})
    made = messages(LAYOUTS, [(V4, "pick-3")], changes)
    kinds = [(m.kind, m.family) for m in made]
    assert kinds == [
        (nl.NEWCHAIN, V4),
        *[(nl.NEWRULE, V4)] * 3,
        (nl.DELSETELEM, V4),
        (nl.NEWSETELEM, V4),
        (nl.NEWSETELEM, V6),
    ]
