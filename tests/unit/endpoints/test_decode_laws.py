"""Does one bad object ever cost more than itself, whatever it looks like?"""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.addresses import canonical
from endpoints.decode import Watched, decode_list, decode_watch
from endpoints.documents import read_documents
from endpoints.events import Upsert
from endpoints.objects import EndpointSlice, Kind, KubernetesObject, Service, name_of
from endpoints.validate import Shared, accept_service, accept_slice
from tests.unit.endpoints.wire import listed

Json = dict[str, Any]

_names = st.from_regex(r"[a-z][-a-z0-9]{0,8}[a-z0-9]", fullmatch=True)
_v4 = st.ip_addresses(v=4).map(str)
_v6 = st.ip_addresses(v=6).flatmap(lambda a: st.sampled_from([str(a), a.exploded, str(a).upper()]))
_numbers = st.integers(-1, 65537) | st.sampled_from([80, 443, 8080])
_flags = st.none() | st.booleans()
_junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def service(draw: st.DrawFn) -> Json:
    ports = st.fixed_dictionaries(
        {"port": _numbers, "protocol": st.sampled_from(["TCP", "UDP", "SCTP"])},
        optional={"name": _names, "nodePort": _numbers},
    )
    spec: Json = {
        "clusterIPs": draw(st.lists(_v4 | _v6, max_size=2)),
        "ports": draw(st.none() | st.lists(ports, max_size=3)),
        "externalIPs": draw(st.none() | st.lists(_v4 | _v6, max_size=2)),
        "sessionAffinity": draw(st.sampled_from(["None", "ClientIP", ""])),
    }
    return {"metadata": {"name": draw(_names), "namespace": draw(_names)}, "spec": spec}


@st.composite
def endpoint_slice(draw: st.DrawFn) -> Json:
    conditions = st.fixed_dictionaries({"ready": _flags, "serving": _flags, "terminating": _flags})
    zones = st.lists(st.fixed_dictionaries({"name": _names}), max_size=2)
    hints = st.fixed_dictionaries({"forZones": zones})
    endpoints = st.fixed_dictionaries(
        {"addresses": st.lists(_v4 | _v6, max_size=2)},
        optional={"conditions": conditions, "nodeName": _names, "zone": _names, "hints": hints},
    )
    return {
        "metadata": {"name": draw(_names), "namespace": draw(_names)},
        "addressType": draw(st.sampled_from(["IPv4", "IPv6"])),
        "endpoints": draw(st.none() | st.lists(endpoints, max_size=4)),
        "ports": draw(
            st.none() | st.lists(st.builds(dict, name=_names, port=_numbers), max_size=2)
        ),
    }


_KINDS = {Kind.SERVICE: service(), Kind.ENDPOINT_SLICE: endpoint_slice()}
_any = st.sampled_from(list(_KINDS)).flatmap(lambda k: st.tuples(st.just(k), _KINDS[k]))


def spoil(draw: st.DrawFn, value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    """Put junk somewhere into a document."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: spoil(draw, value[key])}
    if isinstance(value, list) and value and draw(st.booleans()):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], spoil(draw, value[index]), *value[index + 1 :]]
    return draw(_junk)


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[Kind, Json, Any]:
    kind, good = draw(_any)
    return kind, good, spoil(draw, draw(_KINDS[kind]))


def readable(kind: Kind, item: object) -> KubernetesObject | None:
    objects = decode_list(listed(kind, item), kind).objects
    return objects[0] if objects else None


@given(spoiled())
def test_a_neighbour_changes_nothing(case: tuple[Kind, Json, Any]) -> None:
    kind, item, neighbour = case
    alone = readable(kind, item)
    page = decode_list(listed(kind, neighbour, item, neighbour), kind)
    beside = readable(kind, neighbour)
    expected = [obj for obj in (beside, alone, beside) if obj is not None]
    assert list(page.objects) == expected
    assert len(page.objects) + len(page.problems) >= 3


@given(spoiled())
def test_the_whole_page_and_the_single_objects_are_read_alike(case: tuple[Kind, Json, Any]) -> None:
    """The fast path of a list, the slow path, a watch event and a document agree."""
    kind, good, _ = case
    fast = readable(kind, good)
    slow = decode_list(listed(kind, good, 1), kind).objects
    watched = decode_watch(json.dumps({"type": "ADDED", "object": good}).encode(), kind).event
    document = read_documents([({"kind": kind.value, **good}, "x")]).objects
    expected = () if fast is None else (fast,)
    assert slow == expected
    assert document == expected
    assert watched == (None if fast is None else Upsert(fast))


_SPELLINGS = (
    b'{"type":"%b","object":%b}',
    b'{"type":"%b","object":%b} \r',
    b'{ "type":"%b","object":%b}',
    b'{"type":"%b","object":%b,"more":{}}',
)


def told(line: bytes, kind: Kind) -> Watched | str:
    """What a line says; why it says nothing."""
    try:
        return decode_watch(line, kind)
    except msgspec.DecodeError:
        return "no event"


@given(spoiled(), st.sampled_from(["ADDED", "MODIFIED", "DELETED"]))
def test_a_line_says_the_same_however_it_is_spelled(case: tuple[Kind, Json, Any], of: str) -> None:
    kind, *items = case
    for item in items:
        parts = (of.encode(), json.dumps(item).encode())
        first, *others = [told(spelling % parts, kind) for spelling in _SPELLINGS]
        assert others == [first] * len(others)


@pytest.mark.parametrize("end", [b"", b"]", b"}}", b'},"object":', b"} {}"])
def test_a_line_that_is_cut_or_goes_on_is_no_event(end: bytes) -> None:
    item = b'{"metadata":{"name":"a"},"addressType":"IPv4"}'
    whole = b'{"type":"ADDED","object":%b' % item
    assert isinstance(told(whole + b"}", Kind.ENDPOINT_SLICE), Watched)
    assert told(whole + end, Kind.ENDPOINT_SLICE) == "no event"


@given(spoiled())
def test_every_refusal_is_named_where_there_is_a_name(case: tuple[Kind, Json, Any]) -> None:
    kind, _, item = case
    page = decode_list(listed(kind, item), kind)
    assert len(page.problems) <= 1
    if not page.objects:
        (problem,) = page.problems
        assert problem.subject.startswith(kind)
        assert problem.reason
        assert all(str(name) in problem.subject for name in page.unreadable)


@given(_any)
def test_a_second_validation_changes_nothing(case: tuple[Kind, Json]) -> None:
    obj = readable(*case)
    if obj is None:
        return
    before = msgspec.json.encode(obj)
    if isinstance(obj, Service):
        accept_service(obj)
    elif isinstance(obj, EndpointSlice):
        assert accept_slice(obj, Shared({})) == []
    assert msgspec.json.encode(obj) == before
    assert name_of(obj).name == case[1]["metadata"]["name"]


@given(_v4 | _v6 | st.text(max_size=12))
def test_an_accepted_address_is_canonical(text: str) -> None:
    """The pattern that stands for `canonical` on the hot path agrees with it."""
    item = {
        "metadata": {"name": "a"},
        "addressType": "IPv6" if ":" in text else "IPv4",
        "endpoints": [{"addresses": [text]}],
    }
    found = readable(Kind.ENDPOINT_SLICE, item)
    assert isinstance(found, EndpointSlice)
    try:
        expected = [[canonical(text)]]
    except ValueError:
        expected = []
    if expected:
        address = ipaddress.ip_address(text)
        mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None
        impossible = address.is_multicast or address.is_unspecified or mapped
        reserved = isinstance(address, ipaddress.IPv4Address) and address.packed[0] >= 240
        expected = [] if impossible or reserved else expected
    assert [endpoint.addresses for endpoint in found.endpoints or ()] == expected
