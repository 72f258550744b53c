"""Where do the tests of this folder work? In a network of their own, with a table of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conntrack.kernel import Kernel
from tests.kernel.conntrack.table import Table
from tests.lab import namespaces, sandbox


@pytest.fixture
def network() -> Iterator[None]:
    """A network with nothing in it but `lo`, which is up."""
    with sandbox.own_network():
        namespaces.loopback_up()
        yield


@pytest.fixture
def kernel(network: None) -> Iterator[Kernel]:  # noqa: ARG001
    """A connection to its conntrack."""
    made = Kernel()
    yield made
    made.close()


@pytest.fixture
def table(network: None) -> Iterator[Table]:  # noqa: ARG001
    """Somebody else's hand."""
    made = Table()
    yield made
    made.close()
