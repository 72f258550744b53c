"""Does the kernel tell the stories as the specification does?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.lab import Lab
from tests.packets.telling import Met, answer_apart, difference, sent, tell
from tests.scenarios.model import Row, Settings, Story, load

STORIES = sorted(load(), key=lambda story: (story.settings != Settings(), str(story.settings)))
_GROUPS = {story.settings: story.settings for story in STORIES}
"""One object for equal settings: pytest compares the parameters of fixtures by identity."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as built:
        answer_apart(built)
        yield built


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest, lab: Lab, mode: str) -> dict[Row, Met]:
    """Every story of these settings that is asked for in this run."""
    chosen = {
        item.callspec.params["story"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.originalname == "test_the_kernel_tells_the_story"
    }
    stories = [s for s in STORIES if s.settings == request.param and str(s) in map(str, chosen)]
    return tell(lab, mode, request.param, stories)


@pytest.mark.parametrize(
    ("told", "story"),
    [pytest.param(_GROUPS[story.settings], story, id=str(story)) for story in STORIES],
    indirect=["told"],
)
def test_the_kernel_tells_the_story(told: dict[Row, Met], story: Story) -> None:
    rows = [row for step in story.steps for row in step.rows if sent(row)]
    assert rows
    different = [difference(told[row]) for row in rows]
    assert not any(different), "\n".join(filter(None, different))
