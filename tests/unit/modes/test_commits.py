"""Is it read right who changed what in nf_tables?"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.names import Family
from modes import commits
from modes.commits import Change, Reading, brief, described, only_of
from modes.wire import HEADER, attr, be32, nested, text

V4, V6 = Family.IPV4, Family.IPV6


def told(kind: int, *attributes: bytes, nfproto: int = 2, port: int = 77) -> bytes:
    """A message of nf_tables, as the kernel tells it to who listens."""
    body = struct.pack("!BBH", nfproto, 0, 1) + b"".join(attributes)
    return HEADER.pack(HEADER.size + len(body), 10 << 8 | kind, 0, 1, port) + body


DELETED = told(commits.DELTABLE, text(1, "headgate"))
ELEMENTS = told(
    commits.DELELEMENT,
    text(1, "headgate"),
    text(2, "services"),
    nested(3, nested(1, attr(1, b"1234")), nested(1, attr(1, b"1235"))),
)
END = told(commits.NEWGEN, be32(1, 9), be32(2, 4711), text(3, "nft"), nfproto=0)


def reading() -> Reading:
    return Reading([b"headgate\0"], lambda change: change.table == "headgate")


def test_a_commit_is_what_comes_before_its_end() -> None:
    read = reading()
    assert read.take(DELETED + ELEMENTS) is None
    commit = read.take(END)
    assert commit is not None
    assert commit.changes == (
        Change(commits.DELTABLE, V4, "headgate"),
        Change(commits.DELELEMENT, V4, "headgate", "services", 2),
    )
    assert (commit.author, commit.pid) == ("nft", 4711)
    assert read.take(END) is None


def test_what_is_of_others_is_passed_over() -> None:
    read = reading()
    assert read.take(told(commits.DELTABLE, text(1, "nat"))) is None
    assert read.take(told(commits.NEWCHAIN, text(1, "nat"), text(3, "headgate"))) is None
    assert read.take(told(commits.DELTABLE, text(1, "headgate"), nfproto=1)) is None  # inet
    assert not read.is_pending


def test_without_an_end_there_is_no_author() -> None:
    read = reading()
    read.take(DELETED)
    assert read.is_pending
    assert read.rest() == commits.Commit((Change(commits.DELTABLE, V4, "headgate"),))


@given(st.binary(max_size=80) | st.tuples(st.integers(0, 200), st.binary(max_size=4)))
def test_no_datagram_is_too_odd(odd: bytes | tuple[int, bytes]) -> None:
    datagram = odd
    if isinstance(datagram, tuple):
        at, other = datagram
        whole = DELETED + ELEMENTS
        datagram = whole[:at] + other + whole[at + len(other) :]
    read = reading()
    read.take(datagram + b"headgate\0")
    read.take(END)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([Change(commits.DELRULE, V4, "nat", "KUBE-X")], "1 rule of chain ip nat KUBE-X deleted"),
        ([Change(commits.DELCHAIN, V6, "nat", "KUBE-X")], "chain ip6 nat KUBE-X deleted"),
        ([Change(commits.DELSET, V6, "headgate", "x")], "set ip6 headgate x deleted"),
        ([Change(commits.DELOBJECT, V4, "headgate", "c")], "object ip headgate c deleted"),
        (
            [Change(commits.NEWFLOWTABLE, V4, "headgate", "f")],
            "flowtable ip headgate f added or changed",
        ),
        (
            [Change(commits.DELCHAIN, V4, "nat", "x"), Change(commits.DELTABLE, V4, "nat")],
            "table ip nat deleted",
        ),
        (
            [Change(commits.DELCHAIN, V4, "nat", str(number)) for number in range(12)],
            "chain ip nat 0 deleted, chain ip nat 1 deleted, chain ip nat 2 deleted, and 9 more",
        ),
        (
            [Change(commits.DELCHAIN, V4, "nat", str(number)) for number in range(4)],
            ", ".join(f"chain ip nat {number} deleted" for number in range(4)),
        ),
    ],
)
def test_an_operator_reads(changes: list[Change], words: str) -> None:
    assert brief(described(changes)) == words


def passes(program: list[tuple[int, int, int, int]], datagram: bytes) -> bool:
    """What the kernel does with classic BPF, as far as we use it."""
    at = loaded = 0
    while True:
        code, if_true, if_false, constant = program[at]
        at += 1
        if code == 0x20:
            loaded = int.from_bytes(datagram[constant : constant + 4], "big")
        elif code == 0x15:
            at += if_true if loaded == constant else if_false
        else:
            return bool(constant)


@given(st.sets(st.integers(1, 2**32 - 1), max_size=20), st.integers(0, 2**32 - 1))
def test_only_what_our_own_ports_cause_is_dropped(ports: set[int], port: int) -> None:
    for one in (port, *ports):
        datagram = told(commits.DELTABLE, text(1, "x"), port=one)
        assert passes(only_of(ports), datagram) == (one not in ports)
