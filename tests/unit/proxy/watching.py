"""How are the lists and the lines of a watch spelled that its tests feed to it?"""

from __future__ import annotations

import json
from typing import Any

from endpoints.decode import INITIAL_EVENTS_END
from endpoints.objects import Kind
from proxy.sources.watch import Failure, ListFrom, Pause, Watch, WatchAll, WatchFrom


def fresh() -> Watch:
    return Watch(Kind.SERVICE, lambda: 0.0)


def watch() -> Watch:
    """Of a server that has no initial events."""
    found = fresh()
    assert found.failed(Failure("sendInitialEvents is forbidden", 422)) == Pause(0.0)
    return found


def watching(version: int = 10) -> Watch:
    """After an empty list."""
    found = watch()
    found.page(page(version=version))
    return found


def asks(following: Watch) -> ListFrom | WatchAll | WatchFrom:
    return following.request


def item(name: str, version: int = 1, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "spec": spec}


def page(*items: object, version: int | str = 10, more: str = "") -> bytes:
    meta = {"resourceVersion": str(version), "continue": more}
    return json.dumps({"kind": "ServiceList", "metadata": meta, "items": items}).encode()


def line(kind: str, obj: object) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode()


def bookmark(version: int | str) -> bytes:
    return line("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


def end(version: int | str) -> bytes:
    """The bookmark that ends the initial events."""
    annotations = {INITIAL_EVENTS_END: "true"}
    meta = {"resourceVersion": str(version), "annotations": annotations}
    return line("BOOKMARK", {"metadata": meta})
