"""How does an API server change EndpointSlices by itself, at a constant rate?

One endpoint of a Service goes or, the next time, comes back. That is done in the process that
serves: whoever asked for each change would need as much of the processors as the proxy.
"""

from __future__ import annotations

import random
import threading
import time

import msgspec

from endpoints.names import ObjectName
from endpoints.objects import Kind
from tests.apiserver.store import Json, Store

_TICK_SECONDS = 0.002
"""Changes that are due are made so often."""
_SERVICE = "kubernetes.io/service-name"


class Flow(msgspec.Struct):
    """What was sent."""

    changes: int
    seconds: float


def flow(store: Store, spared: str, rate: float, seconds: float) -> Flow:
    """Change so many EndpointSlices a second, for so long, but never the Service that is spared.

    What is late is made up for, all together. Where an endpoint is gone at the end, it stays away.
    Raises ValueError if no other Service has endpoints.
    """
    _, slices = store.snapshot(Kind.ENDPOINT_SLICE)
    names = [one.name for one in slices if one.labels.get(_SERVICE) != spared]
    if not names:
        raise ValueError(f"no Service but {spared} has an EndpointSlice")
    changing = _Changing(store)
    choice = random.Random(len(names))
    pace = threading.Event()  # nobody sets it
    sent, lasted, began = 0, 0.0, time.monotonic()
    while lasted < seconds:
        lasted = min(seconds, time.monotonic() - began)
        due = int(rate * lasted) - sent
        chosen = [choice.choice(names) for _ in range(due)]
        bodies = [(name, changing.next_body(name)) for name in chosen]
        store.put_encoded(Kind.ENDPOINT_SLICE, bodies)
        sent += due
        pace.wait(max(0.0, began + lasted + _TICK_SECONDS - time.monotonic()))
    return Flow(sent, time.monotonic() - began)


class _Changing:
    """What becomes of an EndpointSlice next."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._choice = random.Random(0)
        self._whole: dict[ObjectName, bytes] = {}
        """Those that were changed, as they were before the first time."""
        self._lacking: set[ObjectName] = set()

    def next_body(self, name: ObjectName) -> bytes:
        """The object without one of its endpoints, or with all again; of some version."""
        if name in self._lacking:
            self._lacking.remove(name)
            return self._whole[name]
        self._lacking.add(name)
        if name not in self._whole:
            self._whole[name] = self._store.get(Kind.ENDPOINT_SLICE, name).body
        document: Json = msgspec.json.decode(self._whole[name])
        listed = document["endpoints"]
        del listed[self._choice.randrange(len(listed))]
        return msgspec.json.encode(document)
