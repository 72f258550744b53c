"""Where do the tests of this folder make rules? In a network of their own, each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from modes.iptables.mode import IptablesMode
from modes.xtables.variant import Variant
from tests.kernel.iptables import looked, tables
from tests.lab import sandbox


@pytest.fixture
def network() -> Iterator[None]:
    """A network without any rule for the thread of the test; it ends with the test."""
    with sandbox.own_network():
        yield


@pytest.fixture(params=Variant)
def variant(request: pytest.FixtureRequest) -> Variant:
    """Each of the two kinds of iptables."""
    found: Variant = request.param
    return found


@pytest.fixture
def mode(network: None, variant: Variant) -> Iterator[IptablesMode]:  # noqa: ARG001
    """A mode that has not started, in a network of its own."""
    made = tables.mode_of(variant)
    yield made
    made.close()


@pytest.fixture
def applied(mode: IptablesMode) -> IptablesMode:
    """A node that holds what it should."""
    mode.start(looked.NODE)
    assert not mode.replace(looked.KNOWN).failed
    return mode
