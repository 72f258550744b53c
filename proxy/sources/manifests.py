"""What do the manifest files say, now and after each time one is saved?

Nothing is polled. A file is read when its writer has closed it or moved it into place, never while
it is written; the folders are listed again only when folders themselves come, go or are switched
(a mounted ConfigMap), or when the kernel says that it lost events.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from endpoints.events import Event, Problem
from endpoints.objects import Kind, KubernetesObject
from endpoints.unreadable import short
from modes.base import EnvironmentFault
from proxy.sources.base import Died, Sink, Together
from proxy.sources.files import Contents, Files, contents
from proxy.sources.inotify import Change, Inotify, Mask
from proxy.sources.tree import UNKNOWN, Identity, Tree, identity_of, is_folder, is_manifest

_CLOSED = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE
_FOLDER_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT


def read(path: Path) -> Contents | None:
    """What a file says, None if it is gone. What cannot be read is among the problems."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return _refused(path, "is no regular file")
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return _refused(path, error.strerror or str(error))
    try:
        return contents(data, str(path))
    except Exception as error:  # noqa: BLE001 (no file may end the program; it is reported)
        return _refused(path, f"cannot be understood: {type(error).__name__}: {short(str(error))}")


def _refused(path: Path, reason: str) -> Contents:
    """A file of which nobody knows what it says: what it said stays."""
    return Contents(malformed=True, problems=(Problem(str(path), "", "", reason),))


def load(paths: Sequence[Path]) -> tuple[tuple[KubernetesObject, ...], tuple[Problem, ...]]:
    """All objects of these files and folders, once. Raises FileNotFoundError for a missing path."""
    tree = Tree(paths, lambda _: None)
    if tree.missing:
        raise FileNotFoundError(str(tree.missing[0]))
    files = Files()
    problems = list(tree.problems)
    for path in tree.files:
        if found := read(path):
            problems += files.put(str(path), found)[1]
    return files.objects(), tuple(problems)


class ManifestSource:
    """Services, EndpointSlices and Nodes from files and folders; a `proxy.sources.base.Source`.

    While none of the paths exists, or of all files not one can be understood, it says nothing, so
    that what a kernel holds from before stays; with `patient` false it lists what there is. A file
    that goes takes its objects with it; but of a path that was named and is gone as a whole (a
    lost mount, a file that an editor moves aside) what it said stays until it is back.
    """

    kinds = frozenset(Kind)

    def __init__(self, paths: Sequence[Path], *, patient: bool = True) -> None:
        self._roots = tuple(paths)
        self._files = Files()
        self._identities: dict[Path, Identity] = {}
        self._folders: dict[int, set[Path]] = {}
        self._lost: set[Path] = set()
        self._listed = False
        self._understood = not patient
        self._thread = threading.Thread(target=self._run, name="manifests", daemon=True)

    def start(self, sink: Sink) -> None:
        """Begin to read and to watch. Raises EnvironmentFault if the kernel refuses inotify."""
        self._sink = sink
        try:
            self._inotify = Inotify()
        except OSError as error:
            raise EnvironmentFault(f"--manifests: cannot watch files: {error.strerror}") from error
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._inotify.wake()
        self._thread.join()
        self._inotify.close()

    def _run(self) -> None:
        try:
            first = self._rescan(everything=True)
            for root in self._roots:
                if root not in first and not is_folder(root):
                    self._sink.put(
                        Problem(str(root), "", "", "does not exist yet; it is waited for")
                    )
            self._settle(first)
            while changes := self._inotify.read():
                self._settle(self._touched(changes))
        except Exception as error:  # noqa: BLE001 (the main thread reports it, and ends the program)
            self._sink.put(Died("manifests", error))

    def _settle(self, touched: Iterable[Path]) -> None:
        """Read these files and tell what that changed."""
        events: list[Event] = []
        for path in sorted(touched):
            name = str(path)
            found = read(path)
            if found is None:
                if not self._is_lost(path):
                    events += self._files.remove(name)
                continue
            self._lost = {root for root in self._lost if not path.is_relative_to(root)}
            self._understood |= not found.malformed or bool(found.objects)
            changed, problems = self._files.put(name, found)
            events += changed
            for problem in problems:
                self._sink.put(problem)
        if self._listed:
            if events:
                self._sink.put(Together(tuple(events)))
        elif self._understood or (
            not self._identities and any(is_folder(root) for root in self._roots)
        ):
            self._listed = True
            self._sink.put(Together(self._files.replacements()))

    def _is_lost(self, path: Path) -> bool:
        """Whether a file is gone because a whole path that the operator named is."""
        for root in self._roots:
            if path.is_relative_to(root) and identity_of(root) is None:
                if root not in self._lost:
                    self._lost.add(root)
                    reason = "is gone: what it said stays until it is back"
                    self._sink.put(Problem(str(root), "", "", reason))
                return True
        return False

    def _touched(self, changes: Iterable[Change]) -> set[Path]:
        """The files that these changes are about, after another look at the folders if needed."""
        touched: set[Path] = set()
        rescan = lost = False
        for change in changes:
            lost |= bool(change.mask & Mask.OVERFLOW)
            for folder in self._folders.get(change.watch, ()):
                path = folder / change.name
                if self._concerns_folders(path, change, folder):
                    rescan = True
                elif self._is_wanted(path, folder) and (
                    change.mask & _CLOSED or _is_link(path, change)
                ):
                    touched.add(path)
        for path in touched:
            if identity := identity_of(path):
                self._identities[path] = identity
        if rescan or lost:
            touched |= self._rescan(everything=lost)
        return touched

    def _concerns_folders(self, path: Path, change: Change, folder: Path) -> bool:
        """Whether more than one file may have changed."""
        if not change.name:
            return bool(change.mask & (_FOLDER_GONE | Mask.IGNORED))
        inside = any(folder.is_relative_to(root) for root in self._roots)
        above = any(root.is_relative_to(path) for root in self._roots)
        if change.name.startswith(".."):
            return bool(change.mask & Mask.MOVED_TO)  # a mounted ConfigMap switches its ..data
        if not (inside or above):
            return False
        return bool(change.mask & Mask.IS_FOLDER) or path in self._watched() or is_folder(path)

    def _is_wanted(self, path: Path, folder: Path) -> bool:
        if path in self._roots:
            return True
        return is_manifest(path) and any(folder.is_relative_to(root) for root in self._roots)

    def _rescan(self, *, everything: bool) -> set[Path]:
        """List the folders again, watch those that are there, and return the files to read.

        A known file that is still the same inode is left alone unless `everything` must be read:
        it may just be written, and its writer's close will tell.
        """
        entered: dict[int, set[Path]] = {}
        tree = Tree(self._roots, lambda folder: self._watch(folder, entered))
        for watch in self._folders.keys() - entered.keys():
            self._inotify.remove(watch)
        self._folders = entered
        for problem in tree.problems:
            self._sink.put(problem)
        before = self._identities
        gone = before.keys() - tree.files.keys()
        lost = dict.fromkeys((path for path in gone if self._is_lost(path)), UNKNOWN)
        self._identities = tree.files | lost
        self._lost.intersection_update(tree.missing)
        if everything:
            return gone | tree.files.keys()
        return gone | {path for path, file in tree.files.items() if before.get(path) != file}

    def _watch(self, folder: Path, entered: dict[int, set[Path]]) -> None:
        try:
            entered.setdefault(self._inotify.add(str(folder)), set()).add(folder)
        except (FileNotFoundError, NotADirectoryError):
            return  # it went in this moment, and the folder above tells
        except OSError as error:
            reason = f"changes in it will not be noticed: {error.strerror}"
            self._sink.put(Problem(str(folder), "", "", reason))

    def _watched(self) -> set[Path]:
        return set().union(*self._folders.values())


def _is_link(path: Path, change: Change) -> bool:
    """A link, hard or symbolic, is complete when it is made: nobody will close it."""
    if not change.mask & Mask.CREATE:
        return False
    try:
        return path.is_symlink() or path.stat().st_nlink > 1
    except OSError:
        return False
