"""Is an answer known again, and is none taken for it that is another?"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from modes.ipvs import ipset_messages as ip
from modes.ipvs.channel import Channel
from modes.ipvs.inbox import MOST, NOTHING, Letters
from modes.ipvs.kernel import Ipset
from modes.wire import NLM_F_DUMP, NLMSG_DONE, message, replies

NETFILTER = 12
QUESTION = message(ip.kind(ip.LIST), NLM_F_DUMP, 0, ip.list_headers(""))


def make(*sets: str) -> None:
    lines = "".join(f"create {name} hash:ip\n" for name in sets)
    subprocess.run(["ipset", "restore"], input=lines, text=True, check=True)


def told(letters: Letters | None) -> dict[str, int]:
    assert letters is not None
    *found, end = [one for datagram in letters.datagrams() or () for one in replies(datagram)]
    assert end.kind == NLMSG_DONE
    return dict(ip.decode_header(answer.payload) for answer in found)


@pytest.fixture
def channel(ipset: Ipset) -> Iterator[Channel]:
    assert ipset.names() == set()
    with closing(Channel(NETFILTER)) as opened:
        yield opened


def test_the_same_answer_is_none(channel: Channel) -> None:
    make("A", "B")
    known = channel.repeat(QUESTION, NOTHING)
    assert told(known) == {"A": 0, "B": 0}
    assert known is not None
    sends = channel.sends
    assert [channel.repeat(QUESTION, known) for _ in range(3)] == [None] * 3
    assert channel.sends - sends == 3


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("add A 10.96.0.1", {"A": 1, "B": 0}),
        ("destroy A", {"B": 0}),
        ("rename A C", {"C": 0, "B": 0}),
        ("create C hash:ip", {"A": 0, "B": 0, "C": 0}),
    ],
)
def test_another_one_is_read(channel: Channel, change: str, left: dict[str, int]) -> None:
    make("A", "B")
    known = channel.repeat(QUESTION, NOTHING)
    assert known is not None
    subprocess.run(["ipset", *change.split()], check=True)
    found = channel.repeat(QUESTION, known)
    assert told(found) == left
    assert found is not None
    assert channel.repeat(QUESTION, found) is None


def test_a_part_of_an_answer_is_in_nobodys_way(channel: Channel) -> None:
    make(*(f"S{number}" for number in range(MOST + 10)))
    found = channel.repeat(QUESTION, NOTHING)
    assert found is not None
    datagrams = found.datagrams()
    assert datagrams is not None
    assert len(datagrams) == MOST
    subprocess.run(["ipset", "destroy"], check=True)
    assert told(channel.repeat(QUESTION, NOTHING)) == {}
