"""Does what a cluster means depend on what is in it alone, and not on how it came about?"""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from endpoints.events import Delete, Upsert
from endpoints.objects import KIND_OF, name_of
from tests.laws.clusters import (
    Cluster,
    Objects,
    change,
    clusters,
    empty_state,
    folded,
    objects,
    plans_in,
)


@settings(max_examples=60, deadline=None)
@given(clusters, st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(cluster: Cluster, random: Random) -> None:
    one = folded(cluster.settings, cluster.events())
    other = folded(cluster.settings, cluster.events(random))
    assert one.node == other.node
    assert plans_in(one) == plans_in(other)


@settings(max_examples=60, deadline=None)
@given(clusters, objects(), st.randoms(use_true_random=False))
def test_a_detour_does_not_matter(cluster: Cluster, before: Objects, random: Random) -> None:
    """Other objects were there before; some had the same names, and the others were deleted."""
    stay = {(type(obj), name_of(obj)) for obj in cluster.objects}
    gone = [
        Delete(KIND_OF[type(obj)], name_of(obj))
        for obj in before
        if (type(obj), name_of(obj)) not in stay
    ]
    news = [*cluster.events(), *gone]
    random.shuffle(news)
    state = folded(cluster.settings, [*map(Upsert, before), *news])
    straight = folded(cluster.settings, cluster.events())
    assert state.node == straight.node
    assert plans_in(state) == plans_in(straight)


@settings(max_examples=60, deadline=None)
@given(clusters)
def test_what_is_not_dirty_did_not_change(cluster: Cluster) -> None:
    """The main loop plans the dirty Services only: the sum of the changes must be the whole."""
    state = empty_state(cluster.settings)
    known = plans_in(state)
    for event in cluster.events():
        news = state.fold(event)
        now = plans_in(state)
        difference = change(known, now)
        assert difference.upserts.keys() | difference.deletes <= news.dirty
        known = now
