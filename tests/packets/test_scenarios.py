"""Does the kernel tell the stories as the specification does?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.lab import Lab
from tests.packets.telling import Tellings, difference, furnish
from tests.scenarios.model import Settings, Story, load

STORIES = sorted(load(), key=lambda story: (story.settings != Settings(), str(story.settings)))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as built:
        furnish(built)
        yield built


@pytest.fixture(scope="module")
def tellings(request: pytest.FixtureRequest, lab: Lab, mode: str) -> Tellings:
    """Of the stories that are asked for in this run."""
    chosen = {
        str(item.callspec.params["story"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
    }
    return Tellings(lab, mode, [story for story in STORIES if str(story) in chosen])


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_the_kernel_tells_the_story(tellings: Tellings, story: Story) -> None:
    told = tellings.of(story)
    assert told
    different = "\n".join(filter(None, map(difference, told)))
    assert not different, different
