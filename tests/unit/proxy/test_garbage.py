"""Is garbage looked for seldom, hardly while a cluster is loaded, and never in what is there?"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from proxy.garbage import collect_hardly, collect_seldom, leave_out_what_is_there


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_what_is_there_when_the_cluster_is_loaded_is_not_looked_at_again() -> None:
    kept = [[number] for number in range(1000)]
    collect_seldom()
    seldom = gc.get_threshold()
    collect_hardly()
    assert gc.get_threshold() > seldom
    assert gc.isenabled()
    leave_out_what_is_there()
    assert gc.get_threshold() == seldom
    assert gc.get_freeze_count() >= len(kept)


def test_only_once() -> None:
    collect_hardly()
    leave_out_what_is_there()
    frozen = gc.get_freeze_count()
    later = [[number] for number in range(1000)]
    leave_out_what_is_there()
    assert gc.get_freeze_count() <= frozen
    assert any(of is later for of in gc.get_objects())
