"""Does what is packed for the kernel mean, when it is unpacked, what it meant before?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endpoints.names import Family
from modes.nftables import netlink as nl
from modes.nftables.codec import Found, additions, decode_elements, deletions, encode_timed, spec_of
from modes.nftables.elements import Elements, Value, Verdict, key_prefix, set_of
from modes.nftables.expressions import rule_holds
from modes.nftables.ruleset import (
    decode_chain,
    decode_rule,
    decode_set,
    new_chain,
    new_rules,
    new_set,
    set_flags,
)
from modes.nftables.sets import S, SetSpec, set_specs
from modes.nftables.shape import Shape
from modes.nftables.skeleton import TABLE, Layout

SPECS = [(family, spec) for family in Family for spec in set_specs(family)]
VMAPS = [(family, spec) for family, spec in SPECS if spec.is_vmap]
EACH_SET = pytest.mark.parametrize(
    ("family", "spec"), SPECS, ids=[f"{f}-{s.id.set_name}" for f, s in SPECS]
)
verdicts = st.builds(
    Verdict,
    st.sampled_from(
        ["drop", "accept", "return", "goto pick-7", "goto no-endpoints", "jump learn-9"]
    ),
    st.just("")
    | st.from_regex(r"[a-z0-9-]{1,63}/[a-z0-9-]{1,63}(:[a-z0-9-]{1,15})?", fullmatch=True),
)


def keys_of(family: Family, spec: SetSpec) -> st.SearchStrategy[bytes]:
    """Keys of a set as a fragment holds them; an interval has both ends."""
    size = spec.key_size * (2 if spec.interval else 1)
    return st.binary(min_size=size, max_size=size).map(
        lambda key: key_prefix(family, spec.id) + key
    )


def values_of(spec: SetSpec) -> st.SearchStrategy[Value]:
    if spec.is_vmap:
        return verdicts
    return st.binary(min_size=spec.data_size, max_size=spec.data_size)


fragments: st.SearchStrategy[Elements] = st.lists(
    st.sampled_from(SPECS).flatmap(lambda at: st.tuples(keys_of(*at), values_of(at[1]))),
    max_size=12,
).map(dict)


def read_back(messages: Iterable[nl.Message]) -> Iterator[Found]:
    for message in messages:
        family, set_id = set_of(message.keys[0])
        assert message.family is family
        yield from decode_elements(family, set_id, message.body)


@EACH_SET
@settings(max_examples=10)
@given(data=st.data())
def test_elements_of_every_set_come_back(
    family: Family, spec: SetSpec, data: st.DataObject
) -> None:
    elements = data.draw(
        st.dictionaries(keys_of(family, spec), values_of(spec), min_size=1, max_size=3)
    )
    found = list(read_back(additions(elements)))
    assert {element.key: element.value for element in found} == elements
    assert not any(element.timeout_ms or element.expiration_ms for element in found)


@given(fragments)
def test_messages_hold_every_element_once_and_know_which(elements: Elements) -> None:
    for messages in (list(additions(elements)), list(deletions(elements))):
        keys = [key for message in messages for key in message.keys]
        assert sorted(keys) == sorted(elements)
        assert [element.key for element in read_back(messages)] == keys
        names = [nl.element_list(TABLE, set_of(m.keys[0])[1].set_name, ()) for m in messages]
        assert all(m.body.startswith(name) for m, name in zip(messages, names, strict=True))


@given(fragments)
def test_a_deletion_needs_no_data(elements: Elements) -> None:
    assert all(element.value == b"" for element in read_back(deletions(elements)))


@EACH_SET
def test_many_elements_are_split_where_an_attribute_ends(family: Family, spec: SetSpec) -> None:
    count = 4000
    half = [number.to_bytes(spec.key_size, "big") for number in range(count)]
    keys = [key * 2 if spec.interval else key for key in half]
    value: Value = (
        Verdict("goto pick-7", "shop/pay:http") if spec.is_vmap else bytes(spec.data_size)
    )
    elements = {key_prefix(family, spec.id) + key: value for key in keys}
    messages = list(additions(elements))
    assert len(messages) > 1
    for message in messages:
        assert len(message.body) < 1 << 16
        assert [element.key for element in read_back([message])] == list(message.keys)
    assert {e.key: e.value for e in read_back(messages)} == elements


@given(
    st.sampled_from(
        [(f, spec_of(f, s)) for f in Family for s in (S.AFFINITY, S.AFFINITY_NODEPORTS)]
    ),
    st.data(),
)
def test_a_remembered_client_keeps_its_time(
    at: tuple[Family, SetSpec], data: st.DataObject
) -> None:
    family, spec = at
    times = data.draw(st.tuples(st.integers(1, 86_400_000), st.integers(1, 86_400_000)))
    entry = Found(data.draw(keys_of(family, spec)), data.draw(values_of(spec)), *times)
    body = nl.element_list(TABLE, spec.id.set_name, [encode_timed(entry)])
    assert list(decode_elements(family, spec.id, body)) == [entry]


def test_a_verdict_belongs_into_a_verdict_map_and_data_into_a_map_of_data() -> None:
    services = key_prefix(Family.IPV4, S.SERVICES) + bytes(12)
    endpoints = key_prefix(Family.IPV4, S.ENDPOINTS) + bytes(16)
    with pytest.raises(TypeError):
        list(additions({services: bytes(8)}))
    with pytest.raises(TypeError):
        list(additions({endpoints: Verdict("drop")}))


def test_a_comment_that_is_no_text_is_read_all_the_same() -> None:
    key = key_prefix(Family.IPV4, S.SERVICES) + bytes(12)
    (message,) = additions({key: Verdict("drop", "shop/pay")})
    body = message.body.replace(b"shop/pay", b"shop/\xff\xfey")
    (found,) = decode_elements(Family.IPV4, S.SERVICES, body)
    assert found.value == Verdict(
        "drop", "shop/\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}y"
    )


@EACH_SET
def test_a_set_comes_back(family: Family, spec: SetSpec) -> None:
    found = decode_set(new_set(family, spec).body)
    assert (found.name, found.table) == (spec.id.set_name, TABLE)
    assert (found.flags, found.key_size) == (set_flags(spec), spec.key_size)
    assert found.data_size == spec.data_size


@pytest.mark.parametrize("family", Family)
def test_chains_and_rules_come_back(family: Family) -> None:
    layout = Layout(Shape(family, pod_cidrs=("10.244.0.0/16",) if family is Family.IPV4 else ()))
    for chain in layout.base_chains():
        # The kernel always tells a base chain's policy; what we do not say is accept.
        told = nl.be32(nl.NFTA_CHAIN_POLICY, 1)
        assert decode_chain(new_chain(family, chain).body + told) == (
            TABLE,
            chain.name,
            chain.base,
        )
        messages = list(new_rules(family, chain))
        assert len(messages) == len(chain.rules)
        for rule, message in zip(chain.rules, messages, strict=True):
            assert decode_rule(message.body) == (TABLE, chain.name, rule)


@pytest.mark.parametrize("family", Family)
def test_no_rule_passes_for_another(family: Family) -> None:
    layout = Layout(Shape(family))
    rules = {rule for chain in layout.base_chains() for rule in chain.rules}
    for rule in rules:
        assert [other for other in rules if rule_holds(rule, other)] == [rule]
        assert not rule_holds(rule[:-1], rule)
        assert not rule_holds(rule, rule[:-1])


@given(st.sampled_from(VMAPS), st.data())
def test_equal_verdicts_read_back_as_equal_values(
    at: tuple[Family, SetSpec], data: st.DataObject
) -> None:
    key, verdict = data.draw(keys_of(*at)), data.draw(verdicts)
    first, second = read_back([*additions({key: verdict}), *additions({key: verdict})])
    assert first == second
