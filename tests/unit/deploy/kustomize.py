"""What does `kubectl apply -k` send, as far as the files in deploy/ ask for it?

Knows resources, components, strategic merge patches that meet no list, and JSON patches (RFC 6902)
that add; refuses all else rather than to guess. Where there is a kubectl, a test compares the two.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.unit.deploy import DEPLOY

BASE = DEPLOY / "base"
OVERLAYS = tuple(sorted(path.parent for path in DEPLOY.glob("overlays/*/kustomization.yaml")))
COMPONENTS = tuple(sorted(path.parent for path in DEPLOY.glob("components/*/kustomization.yaml")))

Object = dict[str, Any]


def build(folder: Path) -> list[Object]:
    """The objects of a folder with a kustomization.yaml. Raises ValueError for what is not known."""
    plan = _one(folder / "kustomization.yaml")
    _known(plan, "apiVersion", "kind", "resources", "components", "patches")
    objects = [item for name in plan["resources"] for item in _resource((folder / name).resolve())]
    for name in plan.get("components", ()):
        part = _one(folder / name / "kustomization.yaml")
        _known(part, "apiVersion", "kind", "patches")
        if part["kind"] != "Component":
            raise ValueError(f"{name} is a {part['kind']}")
        objects = _with_patches(objects, part, folder / name)
    return _with_patches(objects, plan, folder)


def _with_patches(objects: list[Object], plan: Object, folder: Path) -> list[Object]:
    for patch in plan.get("patches", ()):
        _known(patch, "path", "target")
        change = _one(folder / patch["path"])
        target = patch.get("target") or {"kind": change["kind"], **change["metadata"]}
        objects = list(_patched(objects, change, target))
    return objects


def _resource(path: Path) -> list[Object]:
    return build(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))


def _patched(objects: list[Object], change: Any, target: Object) -> Iterator[Object]:  # noqa: ANN401 (YAML)
    met = 0
    for item in objects:
        if (item["kind"], item["metadata"]["name"]) != (target["kind"], target["name"]):
            yield item
            continue
        met += 1
        if isinstance(change, list):
            yield _added(item, change)
        else:
            yield merged(item, change)
    if met != 1:
        raise ValueError(f"{target} is {met} objects")


def merged(old: Object, change: Object) -> Object:
    """A strategic merge; lists of which both have one depend on the schema, so none may meet."""
    new = dict(old)
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            new[key] = merged(old[key], value)
        elif isinstance(value, list) and key in old:
            raise ValueError(f"{key}: two lists meet")
        else:
            new[key] = value
    return new


def _added(old: Object, operations: list[Object]) -> Object:
    new = copy.deepcopy(old)
    for operation in operations:
        _known(operation, "op", "path", "value")
        if operation["op"] != "add":
            raise ValueError(f"{operation['op']} is not known")
        *way, last = operation["path"].split("/")[1:]
        place: Any = new
        for step in way:
            place = place[int(step) if isinstance(place, list) else step]
        if isinstance(place, list):
            place.insert(len(place) if last == "-" else int(last), operation["value"])
        else:
            place[last] = operation["value"]
    return new


def _one(path: Path) -> Any:  # noqa: ANN401 (YAML)
    return yaml.safe_load(path.read_text())


def _known(fields: Object, *names: str) -> None:
    if unknown := set(fields) - set(names):
        raise ValueError(f"{', '.join(sorted(unknown))}: not known")
