"""Where do the tests of this folder make rules? In a network of their own, each."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab import namespaces, sandbox


@pytest.fixture
def network() -> Iterator[None]:
    """A network without any rule for the thread of the test; it ends with the test."""
    sandbox.require_sandbox()
    descriptor = namespaces.create_network()
    try:
        with namespaces.inside(descriptor):
            yield
    finally:
        os.close(descriptor)
