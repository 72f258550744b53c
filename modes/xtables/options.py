"""Which options of iptables does a rule understand, and what do their values say? Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from endpoints.addresses import canonical, network
from endpoints.names import Family
from modes.xtables.rules import CERTAIN, DNAT, MARK, MASQUERADE, REJECT, SET, Mark, SetMatch

ALL_BITS = 0xFFFFFFFF
_HIGHEST_PORT = 0xFFFF
PORT_UNREACHABLE = {
    Family.IPV4: "icmp-port-unreachable",
    Family.IPV6: "icmp6-port-unreachable",
}
WHOLE_ADDRESS = {Family.IPV4: "255.255.255.255", Family.IPV6: ":".join(["ffff"] * 8)}
CT_STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")
"""In the order in which they are printed."""
_PROTOCOLS = {
    "6": "tcp",
    "17": "udp",
    "132": "sctp",
    "1": "icmp",
    "58": "ipv6-icmp",
    "icmpv6": "ipv6-icmp",
    "0": "",
    "all": "",
}
_DIRECTIONS = ("src", "dst")
_ANYTHING = ("0.0.0.0/0", "::/0")


class Option(msgspec.Struct, frozen=True):
    """An option of iptables and where its value goes."""

    extension: str
    """The match or target that must be there; empty: none, it is of the header."""
    field: str
    """Of Rule; or one of NOTES, of which a rule remembers no more than that it fits."""
    read: Callable[[str, Family], object] | None = None
    """Raises ValueError; None: the option takes no value."""
    negated: tuple[str, object] | None = None
    """What a ! before it sets; None: Rule cannot hold that."""
    words: int = 1
    """How many the value has."""

    def value(self, words: Iterator[str], family: Family) -> object:
        """What the words that follow say. Raises ValueError, StopIteration."""
        if self.read is None:
            return True
        return self.read(" ".join([next(words) for _ in range(self.words)]), family)


def _text(value: str, _: Family) -> str:
    return value


def _network(value: str, family: Family) -> str:
    found = network(value)
    if (found.version == 6) is not (family is Family.IPV6):  # noqa: PLR2004 (IP version)
        raise ValueError(f"{value} is of another family")
    return "" if (text := str(found)) in _ANYTHING else text


def _interface(value: str, _: Family) -> str:
    return "" if value == "+" else value


def _protocol(value: str, _: Family) -> str:
    return _PROTOCOLS.get(value, value)


def _states(value: str, _: Family) -> tuple[str, ...]:
    states = value.split(",")
    for state in states:
        if state not in CT_STATES:
            raise ValueError(f"{state} is not a state")
    return tuple(sorted(states))


def _type(value: str, _: Family) -> str:
    if not value.isalpha():
        raise ValueError(f"{value} is not one type of addresses")
    return value


def _port(value: str, _: Family) -> int:
    return _between(1, int(value), _HIGHEST_PORT)


def _seconds(value: str, _: Family) -> int:
    return _between(1, int(value), ALL_BITS)


def _probability(value: str, _: Family) -> int:
    return _between(1, round(float(value) * CERTAIN), CERTAIN)


def _between(lowest: int, value: int, highest: int) -> int:
    if not lowest <= value <= highest:
        raise ValueError(f"{value} is not between {lowest} and {highest}")
    return value


def _set(value: str, _: Family) -> SetMatch:
    name, _space, directions = value.partition(" ")
    for direction in directions.split(","):
        if direction not in _DIRECTIONS:
            raise ValueError(f"{directions} is no list of src and dst")
    return SetMatch(name, directions)


def _destination(value: str, _: Family) -> str:
    """`10.244.1.2:8080`, `[fd00::2]:8080`; ranges of addresses or ports are none of ours."""
    address, colon, port = value.rpartition(":")
    if value.startswith("["):
        address = f"[{canonical(address[1:-1])}]"
    else:
        canonical(address)
    return f"{address}{colon}{_between(1, int(port), _HIGHEST_PORT)}"


def _expect(expected: str) -> Callable[[str, Family], object]:
    def read(value: str, family: Family) -> object:
        if value != (expected or WHOLE_ADDRESS[family]):
            raise ValueError(f"{value} is not known here")
        return True

    return read


def _mark(value: str, _: Family) -> Mark:
    number, _slash, mask = value.partition("/")
    bits = _between(0, int(mask, 0) if mask else ALL_BITS, ALL_BITS)
    return Mark(_between(0, int(number, 0), ALL_BITS), bits)


def _set_mark(value: str, family: Family) -> Mark:
    mark = _mark(value, family)
    return Mark(mark.value, mark.mask | mark.value)


def _or_mark(value: str, family: Family) -> Mark:
    bits = _mark(value, family).value
    return Mark(bits, bits)


def _xor_mark(value: str, family: Family) -> Mark:
    return Mark(_mark(value, family).value, 0)


def _and_mark(value: str, family: Family) -> Mark:
    return Mark(0, _mark(value, family).value ^ ALL_BITS)


WITH_PORTS = {"tcp", "udp", "sctp"}
PORTS = "ports"
CONDITIONS = {"addrtype", "conntrack", "ipvs", "mark", "set", "statistic", PORTS}
MATCHES = {"comment", "nfacct", "recent", *CONDITIONS - {PORTS}}
MATCHES |= WITH_PORTS
NOTES = {"rcheck", "set", "reap", "rsource", "mask", "random", "map_mark"}
WAYS: dict[str, tuple[frozenset[str], ...]] = {
    "recent": (
        frozenset({"recent", "set"}),
        frozenset({"recent", "rcheck", "recent_seconds", "reap"}),
    ),
    "statistic": (frozenset({"random", "probability"}),),
    DNAT: (frozenset({"to_destination"}),),
    MARK: (frozenset({"set_mark"}),),
    SET: (frozenset({"map_mark_of", "map_mark"}),),
    "set": (frozenset({"sets"}),),
}
"""What must be said of an extension, in one of these ways: Rule holds no other."""
OPTIONS = {
    "-s": Option("", "source", _network, ("inverted", "source")),
    "-d": Option("", "destination", _network, ("inverted", "destination")),
    "-i": Option("", "in_interface", _interface, ("inverted", "in_interface")),
    "-p": Option("", "protocol", _protocol),
    "-j": Option("", "target", _text),
    "-g": Option("", "target", _text),
    "--comment": Option("comment", "comment", _text),
    "--ctstate": Option("conntrack", "ct_state", _states, ("ct_state_inverted", True)),
    "--src-type": Option("addrtype", "src_type", _type),
    "--dst-type": Option("addrtype", "dst_type", _type),
    "--mark": Option("mark", "mark", _mark, ("mark_inverted", True)),
    "--dport": Option(PORTS, "destination_port", _port),
    "--ipvs": Option("ipvs", "is_by_ipvs"),
    "--match-set": Option("set", "sets", _set, words=2),
    "--mode": Option("statistic", "random", _expect("random")),
    "--probability": Option("statistic", "probability", _probability),
    "--name": Option("recent", "recent", _text),
    "--set": Option("recent", "set"),
    "--rcheck": Option("recent", "rcheck"),
    "--seconds": Option("recent", "recent_seconds", _seconds),
    "--reap": Option("recent", "reap"),
    "--mask": Option("recent", "mask", _expect("")),
    "--rsource": Option("recent", "rsource"),
    "--nfacct-name": Option("nfacct", "counter", _text),
    "--to-destination": Option(DNAT, "to_destination", _destination),
    "--reject-with": Option(REJECT, "reject_with", _text),
    "--set-xmark": Option(MARK, "set_mark", _mark),
    "--set-mark": Option(MARK, "set_mark", _set_mark),
    "--or-mark": Option(MARK, "set_mark", _or_mark),
    "--xor-mark": Option(MARK, "set_mark", _xor_mark),
    "--and-mark": Option(MARK, "set_mark", _and_mark),
    "--map-set": Option(SET, "map_mark_of", _set, words=2),
    "--map-mark": Option(SET, "map_mark"),
    "--random-fully": Option(MASQUERADE, "random_fully"),
}
