"""Does the file of `--config` say something else now?

A file is read when its writer has closed it or moved it into place; a mounted ConfigMap changes by
its link `..data`, which is moved into place too. What is compared is what the file means: another
comment is no change.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from modes.base import EnvironmentFault
from proxy.config import Config
from proxy.settings.refusal import ConfigError
from proxy.sources.base import ConfigChanged, Died, Sink
from proxy.sources.inotify import Change, Inotify, Mask

_COMPLETE = (
    Mask.CLOSE_WRITE
    | Mask.MOVED_TO
    | Mask.MOVED_FROM
    | Mask.DELETE
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
    | Mask.IGNORED
    | Mask.OVERFLOW
)

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_MOST_LINKS = 40
"""As many as the kernel follows on one way (MAXSYMLINKS, path_resolution(7))."""


class ConfigWatch:
    """Tells when a file says something else than `known`; a thread of its own.

    `read` reads the file and all that is said besides, and raises ConfigError. Each new meaning is
    told once, and so is each new reason why it has none.
    """

    def __init__(self, path: Path, read: Callable[[], Config], known: Config) -> None:
        self._path = path.absolute()
        self._read = read
        self._told = ConfigChanged(known)
        self._names: dict[int, set[str]] = {}
        """By the watch of a folder: what in it is on the way to the file."""
        self._unnoticed: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="config", daemon=True)

    def start(self, sink: Sink) -> None:
        """Begin to watch; what changed since `known` was read is told too.

        Raises EnvironmentFault if the kernel refuses inotify.
        """
        self._sink = sink
        try:
            self._inotify = Inotify()
        except OSError as error:
            raise EnvironmentFault(f"--config: cannot watch files: {error.strerror}") from error
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._inotify.wake()
        self._thread.join()
        self._inotify.close()

    def _run(self) -> None:
        try:
            self._look()
            while changes := self._inotify.read():
                if self._concerns(changes):
                    self._look()
        except Exception as error:  # noqa: BLE001 (the main thread reports it, and ends the program)
            self._sink.put(Died("config", error))

    def _concerns(self, changes: Iterable[Change]) -> bool:
        """Whether the file may be another one, and whole."""
        for change in changes:
            name = change.name
            if name and not (name.startswith("..") or name in self._names.get(change.watch, ())):
                continue
            if change.mask & (_COMPLETE | Mask.IS_FOLDER) or self._path.is_symlink():
                return True
        return False

    def _look(self) -> None:
        self._watch_folders()
        try:
            found = ConfigChanged(self._read())
        except ConfigError as error:
            found = ConfigChanged(None, str(error))
        if found != self._told:
            self._told = found
            self._sink.put(found)

    def _watch_folders(self) -> None:
        """Watch each folder on the way to the path, and to where it leads.

        Watching twice is watching once; a folder that is new in its place is another one.
        """
        self._names = {}
        for path in _way(self._path):
            for place in (path, *path.parents):
                watch = self._watch(place.parent)
                if watch is not None:
                    self._names.setdefault(watch, set()).add(place.name)

    def _watch(self, folder: Path) -> int | None:
        try:
            return self._inotify.add(str(folder))
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None  # the folder above tells when it is there
            reason = f"--config: {folder}: changes in it are not noticed: {error.strerror}"
            if reason not in self._unnoticed:
                self._unnoticed.add(reason)
                self._sink.put(ConfigChanged(None, reason))
            return None


def _way(path: Path) -> Iterator[Path]:
    """A path and where its links lead, one after the other; they may lead back or nowhere."""
    for _ in range(_MOST_LINKS):
        yield path
        path = Path(os.path.realpath(path.parent)) / path.name
        yield path
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()
