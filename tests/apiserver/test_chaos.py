"""Is anything lost or doubled when everything happens at once, in any order?"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from endpoints.events import Upsert
from endpoints.names import ObjectName
from endpoints.objects import KIND_OF, Kind, name_of
from proxy.sources import api, watch
from proxy.sources.api import ApiSource, Timing
from tests.apiserver.fake import FakeApiServer
from tests.apiserver.store import Json
from tests.apiserver.story import Follower, config, endpoint_slice, named, node, service
from tests.apiserver.wire import Fault, Wire

NAMES = [f"s{number}" for number in range(8)]
STEPS = 300
STEPS_BETWEEN_FAULTS = 15


class Chaos:
    """Changes objects and breaks things, by the chance of one seed."""

    def __init__(self, seed: int, server: FakeApiServer, wire: Wire) -> None:
        self._chance = random.Random(seed)
        self._server = server
        self._wire = wire
        self._known: set[tuple[Kind, ObjectName]] = set()
        self._faults: list[Callable[[], None]] = [
            wire.cut,
            server.compact,
            lambda: self._next(Fault(cut_after=self._chance.randrange(1, 600))),
            lambda: self._next(Fault(status=self._chance.choice([410, 429, 500, 503]))),
            lambda: self._next(Fault(alter=lambda data: data[: len(data) // 2] + b"\n")),
            self._away,
        ]

    def change(self) -> None:
        """One object comes, changes or goes."""
        document = self._document()
        kind = Kind(document["kind"])
        meta = document["metadata"]
        name = ObjectName(meta.get("namespace", ""), meta["name"])
        if (kind, name) in self._known and self._chance.random() < 0.4:
            self._server.delete(kind, name)
            self._known.discard((kind, name))
        else:
            self._server.create(document)
            self._known.add((kind, name))

    def fault(self) -> None:
        self._chance.choice(self._faults)()

    def _document(self) -> Json:
        name = self._chance.choice(NAMES)
        mark = str(self._chance.random())
        label = self._chance.choice(["mark", "service.kubernetes.io/headless"])
        zone = self._chance.choice(["eu-1a", "eu-1b"])
        address = f"10.244.{self._chance.randrange(256)}.{self._chance.randrange(256)}"
        documents = [service(name, **{label: mark}), endpoint_slice(name, address), node(zone=zone)]
        return self._chance.choice(documents)

    def _next(self, fault: Fault) -> None:
        self._wire.interpose(fault, lambda _: True)

    def _away(self) -> None:
        self._wire.down()
        self.change()
        self._wire.up()


@pytest.mark.parametrize("seed", range(4))
def test_in_the_end_all_is_as_the_server_holds_it(
    fake: FakeApiServer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "PAGE_LIMIT", 3)
    monkeypatch.setattr(watch, "BASE_SECONDS", 0.01)
    wire = Wire(fake)
    chaos = Chaos(seed, fake, wire)
    try:
        with Follower(ApiSource(config(wire.url), Timing(random=lambda: 0.0))) as follower:
            for step in range(STEPS):
                if step % STEPS_BETWEEN_FAULTS == 0:
                    if step % 2 == 0:  # every other fault meets a source that is at rest
                        follower.agrees(fake)
                    chaos.fault()
                chaos.change()
            follower.agrees(fake, seconds=60)
            fake.create(service("last"))
            follower.until(lambda: named("last") in follower.objects[Kind.SERVICE])
    finally:
        wire.close()
    told = [
        (KIND_OF[type(m.object)], name_of(m.object), m.object.metadata.resource_version)
        for m in follower.messages
        if isinstance(m, Upsert)
    ]
    assert len(told) == len(set(told)), "a version of an object was told twice"
    assert follower.problems == []
