"""Which file says what about which object, and what does a saved file change?"""

from __future__ import annotations

import pytest

from endpoints.events import Delete, Event, Upsert
from endpoints.names import ObjectName
from endpoints.objects import Kind, Service, name_of
from proxy.sources.files import Files, contents
from tests.unit.proxy.build import PAY, endpoints, node, service, together


def put(files: Files, path: str, text: str) -> list[str]:
    """What a saved file changes, in words."""
    events, _ = files.put(path, contents(text.encode(), path))
    return [spelled(event) for event in events]


def spelled(event: Event) -> str:
    match event:
        case Delete(kind, name):
            return f"-{kind} {name}"
        case Upsert(Service() as obj):
            return f"+Service {name_of(obj)} {[port.port for port in obj.spec.ports or ()]}"
        case Upsert(obj):
            return f"+{type(obj).__name__} {name_of(obj)}"
        case _:
            pytest.fail(f"a saved file never says {event}")


def problems(files: Files, path: str, text: str) -> list[str]:
    return [str(problem) for problem in files.put(path, contents(text.encode(), path))[1]]


def test_only_differences_are_told() -> None:
    files = Files()
    first = together(service("pay"), service("cart", "10.96.7.8"))
    assert put(files, "a.yaml", first) == ["+Service shop/cart [80]", "+Service shop/pay [80]"]
    assert put(files, "a.yaml", first + "# a remark\n") == []
    assert put(files, "a.yaml", together(service("pay", port=81), endpoints("10.244.1.2"))) == [
        "+EndpointSlice shop/pay-1",
        "+Service shop/pay [81]",
        "-Service shop/cart",
    ]
    assert [spelled(event) for event in files.remove("a.yaml")] == [
        "-EndpointSlice shop/pay-1",
        "-Service shop/pay",
    ]
    assert list(files) == []


def test_all_kinds_are_replaced_even_by_nothing() -> None:
    files = Files()
    put(files, "a.yaml", together(service(), node()))
    replaced = {event.kind: event.objects for event in files.replacements()}
    assert {kind: len(objects) for kind, objects in replaced.items()} == {
        Kind.SERVICE: 1,
        Kind.ENDPOINT_SLICE: 0,
        Kind.NODE: 1,
    }


def test_of_two_files_with_one_object_the_first_has_it() -> None:
    files = Files()
    assert put(files, "b.yaml", service(port=82)) == ["+Service shop/pay [82]"]
    assert put(files, "a.yaml", service(port=81)) == ["+Service shop/pay [81]"]
    assert put(files, "b.yaml", service(port=83)) == []
    assert [spelled(event) for event in files.remove("a.yaml")] == ["+Service shop/pay [83]"]


def test_an_object_in_two_files_is_reported_once() -> None:
    files = Files()
    put(files, "a.yaml", service())
    clash = ["b.yaml: Service shop/pay: is in a.yaml too, which is used"]
    assert problems(files, "b.yaml", service()) == clash
    assert problems(files, "b.yaml", service(port=81)) == []
    early = ["a.yaml: Service shop/pay: is in 0.yaml too, which is used"]
    assert problems(files, "0.yaml", service()) == early


def test_an_object_twice_in_a_file() -> None:
    files = Files()
    text = together(service(port=81), service(port=82))
    found = ["a.yaml: Service shop/pay: is in this file twice; the first one is used"]
    assert problems(files, "a.yaml", text) == found
    assert [obj.spec.ports[0].port for obj in files.objects() if isinstance(obj, Service) and obj.spec.ports] == [81]  # fmt: skip


def test_a_malformed_file_keeps_what_was_known() -> None:
    files = Files()
    put(files, "a.yaml", together(service("pay"), service("cart", "10.96.7.8")))
    broken = together(service("pay", port=81), "kind: [Service\n")
    assert problems(files, "a.yaml", broken) == ["a.yaml:10: did not find expected ',' or ']'"]
    assert put(files, "a.yaml", broken) == []
    assert "a.yaml" in files
    assert {name_of(obj) for obj in files.objects()} == {PAY, ObjectName("shop", "cart")}


def test_of_a_file_that_is_malformed_from_the_start_counts_what_can_be_read() -> None:
    files = Files()
    twice = "kind: Service\nkind: Node\n"
    assert put(files, "a.yaml", together(twice, service("pay"))) == ["+Service shop/pay [80]"]


def test_a_refused_object_costs_no_other_and_keeps_what_was_known() -> None:
    files = Files()
    put(files, "a.yaml", together(service("pay"), service("cart", "10.96.7.8")))
    text = together(service("pay", port=70000), service("cart", "10.96.7.8", port=81))
    assert put(files, "a.yaml", text) == ["+Service shop/cart [81]"]
    assert problems(files, "a.yaml", text) == [
        "a.yaml:1: Service shop/pay: spec.ports[0].port: 70000: must be 1-65535"
    ]
    assert put(files, "a.yaml", service("cart", "10.96.7.8", port=81)) == ["-Service shop/pay"]


def test_other_kinds_are_nobodys_business() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: b}\n"
    found = contents(text.encode(), "a.yaml")
    assert not found.objects
    assert not found.problems


def test_json_is_read_by_its_suffix() -> None:
    data = b'{"kind": "Service", "metadata": {"name": "x"}, "spec": {"clusterIP": "10.96.0.1"}'
    [problem] = contents(data, "a.json").problems
    assert str(problem) == "a.json:1: JSON: Input data was truncated"
    assert len(contents(data + b"}", "a.json").objects) == 1
