"""Which files and folders are meant by the paths that the operator gave?"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from endpoints.events import Problem

SUFFIXES = (".yaml", ".yml", ".json")

Identity = tuple[int, int]
"""Device and inode: another one means that the file was replaced as a whole."""
UNKNOWN: Identity = (-1, -1)
"""Of a file that cannot be looked at; no file has it."""


class Tree:
    """The files that are there now.

    Each folder is told to `enter` before it is listed, so that nothing is missed by one who
    watches it from then on. Of each path the folder that holds it is entered too; of a path that
    is missing, the nearest folder above it. Folders are searched to the bottom; hidden names are
    left out (editors and mounted ConfigMaps keep theirs there), and so is what neither ends like
    a manifest nor was named as a path.
    """

    def __init__(self, roots: Iterable[Path], enter: Callable[[Path], None]) -> None:
        self.files: dict[Path, Identity] = {}
        self.missing: list[Path] = []
        self.problems: list[Problem] = []
        self._enter = enter
        for root in roots:
            enter(_nearest_folder(root.parent))
            if is_folder(root):
                self._descend(root, frozenset())
            elif not self._note(root):
                self.missing.append(root)

    def _descend(self, folder: Path, above: frozenset[Identity]) -> None:
        identity = identity_of(folder)
        if identity is None or identity in above:
            return  # gone in this moment, or a link to a folder that holds it
        self._enter(folder)
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            self.problems.append(Problem(str(folder), "", "", error.strerror or str(error)))
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if is_folder(entry):
                self._descend(entry, above | {identity})
            elif is_manifest(entry):
                self._note(entry)

    def _note(self, path: Path) -> bool:
        identity = identity_of(path)
        if identity is not None:
            self.files[path] = identity
        return identity is not None


def is_manifest(path: Path) -> bool:
    """Whether a file of this name in a folder is read."""
    return path.suffix in SUFFIXES and not path.name.startswith(".")


def _nearest_folder(path: Path) -> Path:
    while not is_folder(path) and path != path.parent:
        path = path.parent
    return path


def identity_of(path: Path) -> Identity | None:
    """Which file stands at this path, links followed; None if there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return UNKNOWN  # something is there; reading it will tell what is wrong
    return status.st_dev, status.st_ino


def is_folder(path: Path) -> bool:
    """Whether a folder stands at this path, as far as we may know."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False
