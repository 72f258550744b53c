"""Is a change of the configuration file told, once, and only when it means something?"""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.config import Config
from proxy.sources.base import ConfigChanged, Message
from proxy.sources.config_file import ConfigWatch
from proxy.sources.inotify import Inotify
from tests.unit.proxy.configured import HEAD, configured

PATIENCE_SECONDS = 20.0


class Watched:
    """A file and what is told of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.reads = 0
        self.looked = threading.Event()
        """Set when the thread has looked: a file that it reads while it is written may be empty."""
        self.watch = ConfigWatch(path, self.read, self.read())

    def read(self) -> Config:
        try:
            return configured(f"--config={self.path}")
        finally:
            self.reads += 1
            if self.reads > 1:
                self.looked.set()

    def start(self) -> None:
        self.watch.start(self.messages)
        assert self.looked.wait(PATIENCE_SECONDS)

    def told(self) -> ConfigChanged:
        message = self.messages.get(timeout=PATIENCE_SECONDS)
        assert isinstance(message, ConfigChanged)
        return message

    def cidrs(self) -> tuple[str, ...]:
        told = self.told()
        assert told.config, told.error
        return told.config.node.cluster_cidrs


def text(cidr: str) -> str:
    return f"{HEAD}clusterCIDR: {cidr}\n"


def replace(path: Path, content: str) -> None:
    """Write a file that is whole at any time: one that is read amid two writes may be empty."""
    other = path.with_name(f"{path.name}.new")
    other.write_text(content)
    other.rename(path)


def mount(folder: Path, version: str, content: str) -> None:
    """Do what the kubelet does to a mounted ConfigMap."""
    data = folder / f"..{version}"
    data.mkdir()
    (data / "config.conf").write_text(content)
    before = (folder / "..data").resolve() if (folder / "..data").exists() else None
    (folder / "..data_tmp").symlink_to(data.name)
    (folder / "..data_tmp").rename(folder / "..data")
    if before:
        (before / "config.conf").unlink()
        before.rmdir()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    path = tmp_path / "config.conf"
    path.write_text(text("10.0.0.0/16"))
    found = Watched(path)
    found.start()
    yield found
    found.watch.stop()


def test_written_in_place(watched: Watched) -> None:
    watched.path.write_text(text("10.1.0.0/16"))
    assert watched.cidrs() == ("10.1.0.0/16",)
    watched.path.write_text(text("10.2.0.0/16"))
    assert watched.cidrs() == ("10.2.0.0/16",)


def test_moved_into_place(watched: Watched) -> None:
    for number in (1, 2):
        replace(watched.path, text(f"10.{number}.0.0/16"))
        assert watched.cidrs() == (f"10.{number}.0.0/16",)


def test_a_mounted_config_map(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    mount(folder, "0", text("10.0.0.0/16"))
    (folder / "config.conf").symlink_to("..data/config.conf")
    watched = Watched(folder / "config.conf")
    watched.start()
    try:
        for number in (1, 2, 3):
            mount(folder, str(number), text(f"10.{number}.0.0/16"))
            assert watched.cidrs() == (f"10.{number}.0.0/16",)
    finally:
        watched.watch.stop()
    assert watched.messages.empty()


def test_another_comment_is_no_change(watched: Watched) -> None:
    reads = watched.reads
    replace(watched.path, "# why\n" + text("10.0.0.0/16"))
    replace(watched.path, text("10.1.0.0/16"))
    assert watched.cidrs() == ("10.1.0.0/16",)
    assert watched.messages.empty()
    assert watched.reads > reads


def test_what_cannot_be_used_is_one_error_and_then_forgotten(watched: Watched) -> None:
    watched.path.write_text(text("10.0.0.0/99"))
    told = watched.told()
    assert told.config is None
    assert told.error == f"{watched.path}: clusterCIDR: 10.0.0.0/99: is no CIDR"
    replace(watched.path, "# again\n" + text("10.0.0.0/99"))
    replace(watched.path, text("10.0.0.0/16"))
    assert watched.cidrs() == ("10.0.0.0/16",)


def test_a_file_that_goes_and_comes_back(watched: Watched) -> None:
    watched.path.unlink()
    assert watched.told() == ConfigChanged(
        None, f"--config: {watched.path}: No such file or directory"
    )
    watched.path.write_text(text("10.1.0.0/16"))
    assert watched.cidrs() == ("10.1.0.0/16",)


def test_a_folder_that_goes_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "config.conf").write_text(text("10.0.0.0/16"))
    watched = Watched(folder / "config.conf")
    watched.start()
    try:
        (tmp_path / "a").rename(tmp_path / "aside")
        assert "No such file" in watched.told().error
        (tmp_path / "aside" / "b" / "config.conf").write_text(text("10.1.0.0/16"))
        (tmp_path / "aside").rename(tmp_path / "a")
        assert watched.cidrs() == ("10.1.0.0/16",)
        (folder / "config.conf").write_text(text("10.2.0.0/16"))
        assert watched.cidrs() == ("10.2.0.0/16",)
    finally:
        watched.watch.stop()


def test_what_changed_before_the_watch_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.conf"
    path.write_text(text("10.0.0.0/16"))
    watched = Watched(path)
    path.write_text(text("10.1.0.0/16"))
    watched.start()
    try:
        assert watched.cidrs() == ("10.1.0.0/16",)
    finally:
        watched.watch.stop()


def test_a_link_into_another_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / "real.conf"
    real.write_text(text("10.0.0.0/16"))
    path = tmp_path / "here" / "config.conf"
    path.parent.mkdir()
    path.symlink_to(real)
    watched = Watched(path)
    watched.start()
    try:
        real.write_text(text("10.1.0.0/16"))
        assert watched.cidrs() == ("10.1.0.0/16",)
        (tmp_path / "other.conf").write_text(text("10.2.0.0/16"))
        link = path.with_name("new")
        link.symlink_to("../other.conf")
        link.rename(path)
        assert watched.cidrs() == ("10.2.0.0/16",)
        (tmp_path / "other.conf").write_text(text("10.3.0.0/16"))
        assert watched.cidrs() == ("10.3.0.0/16",)
    finally:
        watched.watch.stop()


@pytest.mark.parametrize("back", ["config.conf", "there/../config.conf", "there/back"])
def test_a_link_that_leads_back(watched: Watched, back: str) -> None:
    path = watched.path
    (path.parent / "there").mkdir()
    if back == "there/back":
        (path.parent / back).symlink_to("../config.conf")
    link = path.with_name("new")
    link.symlink_to(back)
    link.rename(path)
    reason = "Too many levels of symbolic links"
    assert watched.told() == ConfigChanged(None, f"--config: {path}: {reason}")
    if back == "there/back":
        replace(path.parent / back, text("10.1.0.0/16"))
    else:
        replace(path, text("10.1.0.0/16"))
    assert watched.cidrs() == ("10.1.0.0/16",)


def test_what_is_no_file_is_not_waited_for(watched: Watched) -> None:
    pipe = watched.path.with_name("pipe")
    os.mkfifo(pipe)
    pipe.rename(watched.path)
    reason = "must be a regular file, is a FIFO"
    assert watched.told() == ConfigChanged(None, f"--config: {watched.path}: {reason}")
    replace(watched.path, text("10.1.0.0/16"))
    assert watched.cidrs() == ("10.1.0.0/16",)


def test_what_the_kernel_will_not_watch_is_told_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Inotify, folder: str) -> int:
        if Path(folder) == tmp_path:
            raise OSError(errno.ENOSPC, "the limit fs.inotify.max_user_watches is reached", folder)
        return 1

    monkeypatch.setattr(Inotify, "add", refuse)
    path = tmp_path / "config.conf"
    path.write_text(text("10.0.0.0/16"))
    watched = Watched(path)
    watched.start()
    reason = "changes in it are not noticed: the limit fs.inotify.max_user_watches is reached"
    assert watched.told() == ConfigChanged(None, f"--config: {tmp_path}: {reason}")
    watched.watch.stop()
    assert watched.messages.empty()
