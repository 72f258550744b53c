"""Is a snapshot's file whole, or not there?"""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.debug import snapshot
from proxy.settings.refusal import ConfigError


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file may be longer than 1,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("little_room")
def test_half_a_file_is_not_left(tmp_path: Path) -> None:
    path = tmp_path / "node.snapshot"
    with pytest.raises(ConfigError, match="File too large"):
        snapshot._write(path, bytes(5000))
    assert not path.exists()
    snapshot._write(path, bytes(500))
    assert path.read_bytes() == bytes(500)
