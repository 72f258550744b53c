"""How do objects reach the nodes? As files in one folder, which every node's headgate watches.

A file holds a Service with all its EndpointSlices, or a Node: what changes together is saved
together. Files are moved into place, so that nobody reads half of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

Document = Mapping[str, object]
"""An object of the Kubernetes API, as JSON or YAML would hold it."""

_SERVICE_NAME = "kubernetes.io/service-name"


class Manifests:
    """The objects of a lab."""

    def __init__(self, folder: Path) -> None:
        """Make the folder; a sibling of it holds what is not written to the end."""
        self.folder = folder
        self._drafts = folder.with_name(f"{folder.name}.drafts")
        self._files: dict[str, dict[tuple[str, str], Document]] = {}
        self.folder.mkdir(parents=True)
        self._drafts.mkdir()

    def apply(self, objects: Iterable[Document]) -> None:
        """Save objects: new ones are added, known ones (kind, namespace, name) are replaced."""
        touched: dict[str, None] = {}
        for one in objects:
            file = _file(one)
            self._files.setdefault(file, {})[_key(one)] = one
            touched[file] = None
        self._save(touched)

    def delete(self, objects: Iterable[Document]) -> None:
        """Take objects away. Raises KeyError if one is not there."""
        touched: dict[str, None] = {}
        for one in objects:
            file = _file(one)
            del self._files[file][_key(one)]
            touched[file] = None
        self._save(touched)

    def _save(self, files: Iterable[str]) -> None:
        for name in files:
            objects = [*self._files[name].values()]
            if not objects:
                del self._files[name]
                (self.folder / name).unlink()
                continue
            listed = {"apiVersion": "v1", "kind": "List", "items": objects}
            draft = self._drafts / name
            draft.write_text(json.dumps(listed, indent=2), encoding="utf-8")
            draft.rename(self.folder / name)


def _metadata(one: Document) -> Mapping[str, object]:
    metadata = one["metadata"]
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata of a {one['kind']} is {metadata!r}, not a mapping")
    return metadata


def _key(one: Document) -> tuple[str, str]:
    return str(one["kind"]), str(_metadata(one)["name"])


def _file(one: Document) -> str:
    """Where an object is saved: `shop_pay.json`, `node-a.json`."""
    metadata = _metadata(one)
    name = str(metadata["name"])
    if one["kind"] == "Node":
        return f"{name}.json"
    labels = metadata.get("labels")
    if one["kind"] == "EndpointSlice" and isinstance(labels, Mapping):
        name = str(labels.get(_SERVICE_NAME, name))
    return f"{metadata.get('namespace', 'default')}_{name}.json"
