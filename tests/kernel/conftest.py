"""What does every test of this folder begin with? With an empty ruleset and a mode."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from modes.nftables.kernel import Kernel
from modes.nftables.mode import NftablesMode
from tests.lab import sandbox


@pytest.fixture
def mode() -> Iterator[NftablesMode]:
    """A mode that has not started; afterwards nothing is left of anybody's."""
    sandbox.require_sandbox()
    made = NftablesMode()
    yield made
    made.close()
    subprocess.run(["nft", "flush", "ruleset"], check=True)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """Another connection: somebody else's hand."""
    made = Kernel()
    yield made
    made.close()
