"""Does the specification say what the stories say?"""

from __future__ import annotations

import pytest

from endpoints.explain import Drop, Forward, Pass, Reject, Verdict
from endpoints.nodeports import is_loopback
from tests.scenarios.model import Row, Story, load
from tests.scenarios.world import Judgement, World

STORIES = load()
_VERDICTS: dict[str, type[Verdict]] = {
    "forward": Forward,
    "drop": Drop,
    "reject": Reject,
    "pass": Pass,
}


def _difference(row: Row, judgement: Judgement) -> str:
    """What the specification says otherwise; empty if nothing."""
    if not isinstance(judgement.explanation.verdict, _VERDICTS[row.expect]):
        return f"{row}: expected {row.expect}, got {judgement}"
    expected = {(t.address, t.port, t.masqueraded) for t in row.targets}
    if judgement.hops != expected:
        return f"{row}: expected {sorted(expected)}, got {judgement}"
    if judgement.explanation.affinity_seconds != row.affinity_seconds and row.expect == "forward":
        return f"{row}: expected affinity {row.affinity_seconds}, got {judgement}"
    return ""


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_explain_tells_the_story(story: Story) -> None:
    world = World(story.settings)
    different = []
    for step in story.steps:
        world.become(step.objects)
        different += [_difference(row, world.judge(row)) for row in step.rows]
    assert not world.refused
    assert not any(different), "\n".join(filter(None, different))


def test_where_nodes_hold_addresses_only_so_much_is_otherwise() -> None:
    """IPVS: unknown ports are refused, nobody is served on localhost, and nodes are masqueraded."""
    seen = set()
    for story in STORIES:
        world = World(story.settings, holds_addresses=True)
        for step in story.steps:
            world.become(step.objects)
            for row in step.rows:
                found = world.judge(row)
                if not _difference(row, found):
                    continue
                verdict = type(found.explanation.verdict)
                if verdict is Forward and row.expect == "forward":
                    assert row.sender.is_node, f"{row}: {found}"
                    expected = {(t.address, t.port, True) for t in row.targets}
                    assert found.hops == expected, f"{row}: {found}"
                assert (verdict is Pass) is is_loopback(row.destination), f"{row}: {found}"
                seen.add((row.expect, verdict))
    loopback = {("forward", Pass), ("drop", Pass)}
    assert seen == {("pass", Reject), ("forward", Forward), *loopback}


def test_stories_told_together_stay_apart() -> None:
    """The packet tests load all stories of the same settings into one cluster."""
    by_settings: dict[str, list[Story]] = {}
    for story in STORIES:
        by_settings.setdefault(str(story.settings), []).append(story)
    for stories in by_settings.values():
        world = World(stories[0].settings)
        world.become({k: o for story in stories for k, o in story.steps[0].objects.items()})
        rows = [row for story in stories for row in story.steps[0].rows]
        different = [_difference(row, world.judge(row)) for row in rows]
        assert not any(different), "\n".join(filter(None, different))
