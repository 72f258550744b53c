"""Is a Service's wish for a scheduler read from its annotations, and a bad one told?"""

from __future__ import annotations

import json
from typing import cast

import pytest

from endpoints.decode import decode_watch
from endpoints.documents import from_documents
from endpoints.events import Upsert
from endpoints.exposure import Exposure, expose
from endpoints.names import ObjectName
from endpoints.node import NodeSettings
from endpoints.objects import Kind, Service
from endpoints.scheduling import flags, scheduler
from endpoints.state import ClusterState
from tests.unit.endpoints.wire import Json, page, service

OURS, OUR_FLAGS = "headgate.dev/ipvs-scheduler", "headgate.dev/ipvs-scheduler-flags"
THEIRS, THEIR_FLAGS = "kube-router.io/service.scheduler", "kube-router.io/service.schedflags"
NOTHING = ("", ())


def annotated(**given: str) -> Json:
    item = service()
    item["metadata"]["annotations"] = given
    return item


def exposure(item: Json) -> tuple[Exposure, list[str]]:
    found = page(Kind.SERVICE, item)
    (of,) = cast("tuple[Service, ...]", found.objects)
    exposed = expose(of)
    assert exposed is not None
    return exposed, [str(problem) for problem in found.problems]


# annotations -> scheduler, flags
WISHES = [
    ({}, NOTHING),
    ({"kubectl.kubernetes.io/restartedAt": "now"}, NOTHING),
    ({OURS: ""}, NOTHING),
    ({OURS: "lc"}, ("lc", ())),
    ({THEIRS: "sh"}, ("sh", ())),
    ({OURS: "lc", THEIRS: "sh"}, ("lc", ())),
    ({OUR_FLAGS: "sh-port"}, ("", ("sh-port",))),
    (
        {OURS: "mh", OUR_FLAGS: " mh-port,mh-fallback,,mh-port"},
        ("mh", ("mh-fallback", "mh-port")),
    ),
    # kube-router numbers the flags, and heeds them for mh only.
    ({THEIRS: "mh", THEIR_FLAGS: "flag-1,flag-2,flag-3"}, ("mh", ("mh-fallback", "mh-port"))),
    ({THEIRS: "mh", THEIR_FLAGS: "flag-3"}, ("mh", ())),
    ({THEIRS: "sh", THEIR_FLAGS: "flag-1"}, ("sh", ())),
    ({THEIR_FLAGS: "flag-1"}, NOTHING),
    ({THEIRS: "mh", THEIR_FLAGS: "flag-1", OUR_FLAGS: "mh-port"}, ("mh", ("mh-port",))),
]


@pytest.mark.parametrize(("given", "wish"), WISHES)
def test_what_a_service_wishes(given: dict[str, str], wish: tuple[str, tuple[str, ...]]) -> None:
    found, problems = exposure(annotated(**given))
    assert (found.scheduler, found.scheduler_flags) == wish
    assert problems == []


# annotations -> scheduler, flags, problem
MISTAKES = [
    (
        {OURS: "Round Robin", THEIRS: "lc"},
        ("lc", ()),
        (
            f"metadata.annotations[{OURS}]: Round Robin: is no name of a scheduler"
            " (1 to 15 of a-z, 0-9, _ and -); the Service is served without it"
        ),
    ),
    (
        {THEIRS: "a" * 16},
        NOTHING,
        (
            f"metadata.annotations[{THEIRS}]: {'a' * 16}: is no name of a scheduler"
            " (1 to 15 of a-z, 0-9, _ and -); the Service is served without it"
        ),
    ),
    (
        {OURS: "sh", OUR_FLAGS: "sh-port,sh-prot"},
        ("sh", ()),
        (
            f"metadata.annotations[{OUR_FLAGS}]: sh-port,sh-prot: 'sh-prot' is no flag; known:"
            " mh-fallback, mh-port, sh-fallback, sh-port; the Service is served without it"
        ),
    ),
    (
        {THEIRS: "mh", THEIR_FLAGS: "flag-4"},
        ("mh", ()),
        (
            f"metadata.annotations[{THEIR_FLAGS}]: flag-4: 'flag-4' is no flag; known:"
            " flag-1, flag-2, flag-3; the Service is served without it"
        ),
    ),
    (
        {OURS: "?", OUR_FLAGS: "?"},
        NOTHING,
        (
            f"metadata.annotations[{OURS}]: ?: is no name of a scheduler"
            " (1 to 15 of a-z, 0-9, _ and -); the Service is served without it, and 1 more like it"
        ),
    ),
]


@pytest.mark.parametrize(("given", "wish", "problem"), MISTAKES)
def test_a_service_is_served_without_what_cannot_be_understood(
    given: dict[str, str], wish: tuple[str, tuple[str, ...]], problem: str
) -> None:
    found, problems = exposure(annotated(**given))
    assert (found.scheduler, found.scheduler_flags) == wish
    assert problems == [f"Service shop/pay: {problem}"]


def test_events_and_manifests_say_the_same() -> None:
    item = annotated(**{OURS: "mh", OUR_FLAGS: "mh-port"})
    line = json.dumps({"type": "ADDED", "object": item}).encode()
    event = decode_watch(line, Kind.SERVICE).event
    assert isinstance(event, Upsert)
    (written,), problems = from_documents([(item, "pay.yaml:1")])
    assert problems == ()
    for of in (event.object, written):
        assert isinstance(of, Service)
        found = expose(of)
        assert found is not None
        assert (found.scheduler, found.scheduler_flags) == ("mh", ("mh-port",))


def test_only_these_annotations_make_a_service_dirty() -> None:
    state = ClusterState(NodeSettings("node-a"))

    def folded(**given: str) -> int:
        (of,) = page(Kind.SERVICE, annotated(**given)).objects
        return len(state.fold(Upsert(of)).dirty)

    assert folded() == 1
    assert folded(a="b") == 0
    assert folded(**{OURS: "lc"}) == 1
    assert folded(**{OURS: "lc", "a": "c"}) == 0
    # The same wish in other words.
    assert folded(**{THEIRS: "lc"}) == 0
    assert folded(**{THEIRS: "lc", OUR_FLAGS: "sh-port"}) == 1
    assert folded(**{THEIRS: "lc", OUR_FLAGS: "sh-port,sh-port"}) == 0


def test_all_plans_of_a_service_carry_its_wish() -> None:
    state = ClusterState(NodeSettings("node-a"))
    item = annotated(**{OURS: "sh", OUR_FLAGS: "sh-port"})
    item["spec"]["clusterIPs"] = ["10.96.7.7", "fd00:10:96::7"]
    state.fold(Upsert(page(Kind.SERVICE, item).objects[0]))
    plans = state.plans(ObjectName("shop", "pay"))
    assert [(plan.scheduler, plan.scheduler_flags) for plan in plans] == [("sh", ("sh-port",))] * 2


def test_names_and_flags() -> None:
    assert scheduler("rr") == "rr"
    assert flags("") == ()
    for text in ("", "RR", "rr,lc", "a" * 16):
        with pytest.raises(ValueError, match="is no name of a scheduler"):
            scheduler(text)
