"""Is a file read whole, and anything else refused at once?"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from proxy.settings.regular_file import MOST_BYTES, bytes_of


def refused(path: Path) -> str | None:
    with pytest.raises(OSError, match=r".") as caught:
        bytes_of(path)
    return caught.value.strerror


@pytest.mark.parametrize("size", [0, 1, MOST_BYTES])
def test_a_file_is_read_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert bytes_of(link) == b"x" * size


def test_a_file_that_tells_no_size_is_read_too() -> None:
    assert bytes_of(Path("/proc/self/cmdline")) == Path("/proc/self/cmdline").read_bytes()


def test_a_file_without_an_end_is_left(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert refused(path) == "must have at most 1048576 bytes"


def test_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        found = [refused(Path(name)) for name in ("pipe", "socket", ".", "/dev/zero")]
    kinds = ["FIFO", "socket", "folder", "device"]
    assert found == [f"must be a regular file, is a {kind}" for kind in kinds]


def test_another_file_between_two_looks_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for somebody who writes to it."""
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.touch()
    found = file.stat()
    monkeypatch.setattr(Path, "stat", lambda _: found)
    assert refused(pipe) == "must be a regular file, is a FIFO"


def test_what_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "none") == "No such file or directory"
