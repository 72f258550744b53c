"""Does anything that an API server, or what stands in its place, may send end the program?

Decoding raises msgspec.DecodeError and `Watch` raises Broken, after which it knows what to ask
next; nothing else, whatever comes, and whatever came before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from endpoints.decode import INITIAL_EVENTS_END, Page, Watched, decode_list, decode_watch
from endpoints.events import Delete, Event, Replace, Upsert
from endpoints.names import ObjectName
from endpoints.node import NodeSettings
from endpoints.objects import KIND_OF, Kind, name_of
from endpoints.state import ClusterState
from proxy.sources.watch import Broken, Failure, Lines, ListFrom, Watch, WatchAll, WatchFrom
from tests.laws.effort import effort
from tests.unit.endpoints.wire import endpoint, endpoint_slice, listed, node, service

ITEMS = {
    Kind.SERVICE: service(type="LoadBalancer", externalIPs=["203.0.113.1"]),
    Kind.ENDPOINT_SLICE: endpoint_slice(endpoint("10.244.1.2", nodeName="node-a", zone="eu-1a")),
    Kind.NODE: node(spec={"podCIDRs": ["10.244.0.0/24"]}, status={"addresses": []}),
}
_kinds = st.sampled_from(list(Kind))
_versions = st.sampled_from(["", "0", "7", "9", "12", "13", "14", "15", "007", "x", "9" * 5000])


def line(type_: str, obj: object) -> bytes:
    return json.dumps({"type": type_, "object": obj}).encode()


@st.composite
def events(draw: st.DrawFn, kind: Kind) -> bytes:
    """A line of a watch that is one, of some version."""
    type_ = draw(st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "NEW"]))
    if type_ == "ERROR":
        return line(type_, {"code": draw(st.sampled_from([0, 410, 500])), "message": "so it is"})
    item = ITEMS[kind]
    name = draw(st.sampled_from(["a", "b", "node-a"]))
    meta = {**item["metadata"], "name": name, "resourceVersion": draw(_versions)}
    if type_ == "BOOKMARK" and draw(st.booleans()):
        meta["annotations"] = {INITIAL_EVENTS_END: "true"}
    return line(type_, {**item, "metadata": meta})


@st.composite
def spoiled(draw: st.DrawFn, good: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of JSON of which some were changed, doubled, left out or cut off."""
    data = draw(good)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 12)))
        junk = draw(
            st.binary(max_size=4)
            | st.sampled_from(
                [b"", b"null", b"[" * 3000, b'{"a":' * 2000, b"1e999", b"-0", b'"\\ud800"']
            )
            | st.just(data[start:end] * 2)
        )
        data = data[:start] + junk + data[end:]
    return data


def lists(kind: Kind) -> st.SearchStrategy[bytes]:
    good = st.builds(lambda v: listed(kind, ITEMS[kind], resourceVersion=v), _versions)
    return st.binary(max_size=60) | spoiled(good)


def lines(kind: Kind) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=60) | events(kind) | spoiled(events(kind))


@effort(300)
@given(_kinds.flatmap(lambda kind: st.tuples(st.just(kind), lists(kind))))
def test_a_list_of_any_bytes(case: tuple[Kind, bytes]) -> None:
    kind, data = case
    with suppress(msgspec.DecodeError):
        page = decode_list(data, kind)
        assert isinstance(page, Page)
        assert page.resource_version not in ("", "0")


@effort(300)
@given(_kinds.flatmap(lambda kind: st.tuples(st.just(kind), lines(kind))))
def test_a_line_of_any_bytes(case: tuple[Kind, bytes]) -> None:
    kind, data = case
    with suppress(msgspec.DecodeError):
        assert isinstance(decode_watch(data, kind), Watched)


@effort(200)
@given(st.lists(st.binary(max_size=30), max_size=8))
def test_lines_of_any_chunks(chunks: list[bytes]) -> None:
    cutter = Lines()
    found = [line for chunk in chunks for line in cutter.feed(chunk)]
    assert all(line.strip() and b"\n" not in line for line in found)
    whole = b"".join(chunks).split(b"\n")[:-1]
    assert found == [line for line in whole if line.strip()]


Step = tuple[str, bytes, int]


def steps(kind: Kind) -> st.SearchStrategy[list[Step]]:
    step = st.tuples(
        st.sampled_from(["answer", "answer", "answer", "cut", "refuse"]),
        lines(kind) | lists(kind),
        st.sampled_from([0, 400, 401, 410, 422, 429, 500, 504]),
    )
    return st.lists(step, max_size=25)


@effort(300)
@given(_kinds.flatmap(lambda kind: st.tuples(st.just(kind), steps(kind))))
def test_a_server_of_any_kind(case: tuple[Kind, list[Step]]) -> None:
    """Whatever happens the next request is one that makes sense, and so is what was told."""
    kind, course = case
    watch = Watch(kind, lambda: 0.5)
    state = ClusterState(NodeSettings(name="node-a"))
    held: dict[ObjectName, object] = {}
    is_open = False
    for step, data, code in course:
        is_open = take(watch, state, held, (step, data, code), is_open=is_open)
        match watch.request:
            case WatchFrom(version):
                assert version not in ("", "0")
            case request:
                assert isinstance(request, ListFrom | WatchAll)


def take(
    watch: Watch,
    state: ClusterState,
    held: dict[ObjectName, object],
    step: Step,
    *,
    is_open: bool,
) -> bool:
    """What a source does with one thing that happens; whether a stream is open then."""
    what, data, code = step
    listing = isinstance(watch.request, ListFrom) and not is_open
    if what == "refuse" and not is_open:
        assert watch.failed(Failure("no", code)).seconds >= 0
        return False
    if what != "answer":
        if is_open:
            assert watch.ended(1.0, Failure("cut", code, is_silence=code == 0)).seconds >= 0
        return False
    if not (listing or is_open):
        watch.opened()
    try:
        told = watch.page(data) if listing else watch.line(data)
    except Broken as broken:
        pause = watch.failed(broken.failure) if listing else watch.ended(9.0, broken.failure)
        assert pause.seconds >= 0
        return False
    fold(state, held, (m for m in told if isinstance(m, Upsert | Delete | Replace)))
    return not listing


def fold(state: ClusterState, held: dict[ObjectName, object], told: Iterable[Event]) -> None:
    """Take it in; the last version of each object is what it says."""
    for event in told:
        state.fold(event)
        match event:
            case Replace(_, objects, unreadable):
                kept = {name: held[name] for name in unreadable if name in held}
                held.clear()
                held.update(kept | {name_of(obj): obj for obj in objects})
            case Upsert(obj):
                held[name_of(obj)] = obj
                assert KIND_OF[type(obj)] in Kind
            case Delete(_, name):
                held.pop(name, None)
    for service_name in state.services():
        assert service_name in held
        state.plans(service_name)
