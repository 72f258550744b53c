"""Is it known what does not belong to us in a table of ours, and how it goes?"""

from __future__ import annotations

import pytest

from endpoints.names import Family
from modes.nftables import adopt
from modes.nftables import netlink as nl
from modes.nftables.adopt import TableFound
from modes.nftables.mend import mend
from modes.nftables.ruleset import FoundSet, set_flags
from modes.nftables.sets import set_specs
from modes.nftables.shape import Shape
from modes.nftables.skeleton import Layout
from modes.nftables.strangers import (
    Stranger,
    decode_flowtable,
    decode_object,
    flag_words,
    is_anonymous,
    is_bound,
    ownership,
    removal,
)

V4 = Family.IPV4
COUNTER = nl.text(1, "headgate") + nl.text(2, "cc") + nl.be32(3, 1)
FLOWTABLE = nl.text(1, "headgate") + nl.text(2, "ft")


def healthy(*strangers: Stranger) -> tuple[TableFound, Layout]:
    """A table as we make it, but for these."""
    layout = Layout(Shape(V4))
    chains = {chain.name: chain for chain in layout.base_chains()}
    sets = {
        spec.id.set_name: FoundSet(
            spec.id.set_name, set_flags(spec), spec.key_size, spec.data_size, "headgate"
        )
        for spec in set_specs(V4)
    }
    return TableFound(chains, sets, 0, strangers), layout


def test_an_object_is_read_and_named() -> None:
    table, stranger = decode_object(COUNTER)
    assert (table, stranger, str(stranger)) == ("headgate", Stranger("cc", 1), "counter cc")
    assert str(Stranger("new", 99)) == "object new"


def test_a_flowtable_is_read_and_named() -> None:
    table, stranger = decode_flowtable(FLOWTABLE)
    assert (table, stranger, str(stranger)) == ("headgate", Stranger("ft", 0), "flowtable ft")


@pytest.mark.parametrize(
    ("stranger", "kind", "body"),
    [(Stranger("cc", 1), nl.DELOBJ, COUNTER), (Stranger("ft", 0), nl.DELFLOWTABLE, FLOWTABLE)],
)
def test_it_is_deleted_by_what_it_is_known_by(stranger: Stranger, kind: int, body: bytes) -> None:
    assert removal(V4, stranger) == nl.Message(kind, 0, V4, body)


def test_a_table_with_strangers_is_mended_by_deleting_them_only() -> None:
    table, layout = healthy(Stranger("ft", 0), Stranger("cc", 1))
    assert adopt.misfit(table, layout) == "there is a flowtable ft"
    how = mend(table, layout)
    assert how is not None
    assert (how.before, [message.kind for message in how.after]) == (
        [],
        [nl.DELFLOWTABLE, nl.DELOBJ],
    )
    assert adopt.misfit(*healthy()) == ""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (1, "dormant"),
        (2, "owner"),
        (6, "owner,persist"),
        (3, "dormant,owner"),
        (17, "dormant,0x10"),
    ],
)
def test_flags_are_told_in_nft_s_words(flags: int, words: str) -> None:
    table, layout = healthy()
    assert flag_words(flags) == words
    assert adopt.misfit(table._replace(flags=flags), layout) == f"the table has flags: {words}"


def test_parts_of_rules_are_told_from_what_stands_alone() -> None:
    assert is_anonymous(FoundSet("__set0", 0x3, 4, 0, "headgate"))
    assert not is_anonymous(FoundSet("cluster-ips", 0, 4, 0, "headgate"))
    assert is_bound(nl.text(3, "__chain0") + nl.be32(10, 0x4))
    assert not is_bound(nl.text(3, "prerouting") + nl.be32(10, 0x1))
    assert not is_bound(nl.text(3, "masq"))


def test_an_owner_is_named() -> None:
    owned = nl.text(1, "headgate") + nl.be32(2, 2) + nl.be32(7, 4711)
    name, owner = ownership(V4, owned)
    assert name == "headgate"
    assert owner.startswith("table ip headgate belongs to another program (flags owner, netlink ")
    assert "4711" in owner
    assert ownership(V4, nl.text(1, "headgate") + nl.be32(2, 1)) == ("headgate", "")
