"""Is the short way of reading elements taken where it may be, and does it read the same?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.names import Family
from modes.nftables import codec, ruleset
from modes.nftables import netlink as nl
from modes.nftables.elements import Elements, key_prefix
from modes.nftables.kernel import Kernel
from modes.nftables.sets import S, SetSpec
from modes.nftables.skeleton import TABLE
from modes.nftables.uniform import columns

SETS = [(family, set_id) for family in Family for set_id in (S.ENDPOINTS, S.HAIRPIN, S.CLUSTER_IPS)]
PREFIX = b"\7"
EACH_SET = pytest.mark.parametrize(("family", "set_id"), SETS)


def element(key: bytes, data: bytes, *others: bytes) -> bytes:
    """An element as the kernel dumps it."""
    parts = [nl.attr(nl.NFTA_ELEM_KEY, nl.attr(nl.NFTA_DATA_VALUE, key))]
    if data:
        parts.append(nl.attr(nl.NFTA_ELEM_DATA, nl.attr(nl.NFTA_DATA_VALUE, data)))
    return nl.attr(nl.NFTA_LIST_ELEM, b"".join([*parts, *others]))


def rows(spec: SetSpec, prefix: bytes, listed: bytes) -> list[tuple[bytes, bytes, int, int]] | None:
    """What was read, element by element."""
    found = columns(spec, prefix, listed)
    return None if found is None else list(zip(*found, strict=True))


def timed(timeout: int, expiration: int) -> list[bytes]:
    """How long an element lives, and how long still."""
    return [
        nl.be64(nl.NFTA_ELEM_TIMEOUT, timeout),
        nl.be64(nl.NFTA_ELEM_EXPIRATION, expiration),
    ]


@EACH_SET
@given(st.data())
def test_what_is_read_is_what_was_listed(family: Family, set_id: S, data: st.DataObject) -> None:
    spec = codec.spec_of(family, set_id)
    key = st.binary(min_size=spec.key_size, max_size=spec.key_size)
    value = st.binary(min_size=spec.data_size, max_size=spec.data_size)
    listed = data.draw(st.lists(st.tuples(key, value), min_size=1, max_size=5))
    found = rows(spec, PREFIX, b"".join(element(*row) for row in listed))
    assert found is not None
    assert list(found) == [(PREFIX + key, value, 0, 0) for key, value in listed]


@pytest.mark.parametrize("family", Family)
@given(st.data())
def test_clients_are_read_with_their_times(family: Family, data: st.DataObject) -> None:
    spec = codec.spec_of(family, S.AFFINITY)
    key = st.binary(min_size=spec.key_size, max_size=spec.key_size)
    value = st.binary(min_size=spec.data_size, max_size=spec.data_size)
    time = st.integers(0, 1 << 63)
    row = st.tuples(key, value, time, time)
    listed = data.draw(st.lists(row, min_size=1, max_size=5))
    run = b"".join(element(key, value, *timed(*times)) for key, value, *times in listed)
    found = rows(spec, PREFIX, run)
    assert found is not None
    assert list(found) == [(PREFIX + key, *rest) for key, *rest in listed]
    assert rows(spec, PREFIX, run + element(listed[0][0], listed[0][1], *timed(1, 1)[::-1])) is None
    assert rows(spec, PREFIX, element(listed[0][0], listed[0][1])) is None


@EACH_SET
@pytest.mark.parametrize(
    "other", [nl.be64(nl.NFTA_ELEM_TIMEOUT, 1000), nl.attr(nl.NFTA_ELEM_USERDATA, b"\0\2a\0")]
)
@pytest.mark.parametrize("position", [0, 1])
def test_an_element_with_more_to_it_is_read_the_long_way(
    family: Family, set_id: S, other: bytes, position: int
) -> None:
    spec = codec.spec_of(family, set_id)
    plain = element(bytes(spec.key_size), bytes(spec.data_size))
    listed = [plain] * 9
    listed[position] = element(bytes(spec.key_size), bytes(spec.data_size), other)
    for end in range(1, len(listed) + 1):
        run = b"".join(listed[:end])
        assert (rows(spec, PREFIX, run) is None) == (position < end)


def test_verdicts_are_read_the_long_way() -> None:
    spec = codec.spec_of(Family.IPV4, S.SERVICES)
    verdict = nl.attr(nl.NFTA_DATA_VERDICT, nl.be32(nl.NFTA_VERDICT_CODE, 0))
    listed = element(bytes(spec.key_size), b"", nl.attr(nl.NFTA_ELEM_DATA, verdict))
    assert rows(spec, PREFIX, listed) is None


@pytest.mark.parametrize("family", Family)
def test_the_kernel_lists_clients_alike(family: Family) -> None:
    spec = codec.spec_of(family, S.AFFINITY)
    prefix = key_prefix(family, S.AFFINITY)
    wanted = [
        codec.Found(
            prefix + bytes([n]) * spec.key_size, bytes([n]) * spec.data_size, 1 << 40, 1 << 39
        )
        for n in (128, 3, 4)
    ]
    kernel = Kernel()
    messages = [ruleset.new_table(family), ruleset.new_set(family, spec)]
    for entry in wanted:
        body = nl.element_list(TABLE, S.AFFINITY.set_name, [codec.encode_timed(entry)])
        messages.append(nl.Message(nl.NEWSETELEM, nl.NLM_F_CREATE, family, body, [entry.key]))
    assert not kernel.transact(messages).failures
    try:
        body = nl.element_list(TABLE, S.AFFINITY.set_name, ())
        answers = kernel.dump(nl.GETSETELEM, nl.NFPROTO[family], body)
        lists = [
            listed
            for answer in answers
            for kind, listed in nl.attributes(answer.payload)
            if kind == nl.NFTA_ELEM_LIST_ELEMENTS and listed
        ]
        assert lists
        assert all(rows(spec, PREFIX, listed) is not None for listed in lists)
        found = {entry.key: entry for entry in kernel.elements(family, S.AFFINITY)}
        assert {key: entry.value for key, entry in found.items()} == {
            entry.key: entry.value for entry in wanted
        }
        assert {entry.timeout_ms for entry in found.values()} == {1 << 40}
        assert all(0 <= (1 << 39) - entry.expiration_ms < 60_000 for entry in found.values())
    finally:
        kernel.transact([ruleset.delete_table(family)])
        kernel.close()


@EACH_SET
def test_the_kernel_lists_elements_alike(family: Family, set_id: S) -> None:
    spec = codec.spec_of(family, set_id)
    prefix = key_prefix(family, set_id)
    wanted: Elements = {
        prefix + bytes([n]) * spec.key_size: bytes([n]) * spec.data_size for n in range(3)
    }
    kernel = Kernel()
    messages = [ruleset.new_table(family), ruleset.new_set(family, spec), *codec.additions(wanted)]
    assert not kernel.transact(messages).failures
    try:
        body = nl.element_list(TABLE, set_id.set_name, ())
        answers = kernel.dump(nl.GETSETELEM, nl.NFPROTO[family], body)
        lists = [
            listed
            for answer in answers
            for kind, listed in nl.attributes(answer.payload)
            if kind == nl.NFTA_ELEM_LIST_ELEMENTS and listed  # a dump may end with an empty list
        ]
        assert lists
        assert all(rows(spec, PREFIX, listed) is not None for listed in lists)
        found = {element.key: element.value for element in kernel.elements(family, set_id)}
        assert found == wanted
    finally:
        kernel.transact([ruleset.delete_table(family)])
        kernel.close()
