"""Does the kernel tell what happens in a folder?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.sources.inotify import Change, Inotify, Mask, parse


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    opened = Inotify()
    yield opened
    opened.close()


def test_a_closed_file_is_told(inotify: Inotify, tmp_path: Path) -> None:
    watch = inotify.add(str(tmp_path))
    (tmp_path / "pay.yaml").write_text("x")
    assert inotify.read() == (
        Change(watch, Mask.CREATE, "pay.yaml"),
        Change(watch, Mask.CLOSE_WRITE, "pay.yaml"),
    )


def test_a_folder_has_one_watch(inotify: Inotify, tmp_path: Path) -> None:
    assert inotify.add(str(tmp_path)) == inotify.add(str(tmp_path))


def test_a_folder_that_goes_is_told_once_and_its_watch_is_gone(
    inotify: Inotify, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    watch = inotify.add(str(folder))
    folder.rmdir()
    assert [change.mask for change in inotify.read()] == [Mask.DELETE_SELF, Mask.IGNORED]
    inotify.remove(watch)


def test_removing_a_watch_ends_it(inotify: Inotify, tmp_path: Path) -> None:
    watch = inotify.add(str(tmp_path))
    inotify.remove(watch)
    (tmp_path / "pay.yaml").write_text("x")
    assert inotify.read() == (Change(watch, Mask.IGNORED, ""),)


def test_a_missing_folder_and_a_file_are_refused(inotify: Inotify, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inotify.add(str(tmp_path / "missing"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError):
        inotify.add(str(tmp_path / "file"))


def test_wake_ends_a_waiting_read_and_every_later_one(inotify: Inotify) -> None:
    found: list[tuple[Change, ...]] = []
    reader = threading.Thread(target=lambda: found.append(inotify.read()))
    reader.start()
    inotify.wake()
    reader.join(timeout=10)
    assert found == [()]
    assert inotify.read() == ()


def test_names_are_padded_and_an_overflow_has_none() -> None:
    overflow = b"\xff\xff\xff\xff" + b"\x00\x40\x00\x00" + bytes(8)
    named = b"\x01\x00\x00\x00" + b"\x08\x00\x00\x00" + bytes(4) + b"\x10\x00\x00\x00"
    assert list(parse(overflow + named + b"a.yaml".ljust(16, b"\0"))) == [
        Change(-1, Mask.OVERFLOW, ""),
        Change(1, Mask.CLOSE_WRITE, "a.yaml"),
    ]
