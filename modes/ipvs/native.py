"""What would the kernel's own tools print of what was found? Pure.

In the notation of `listing`, with all that the kernel says: weights, deadlines, sizes of sets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from endpoints.names import Family
from modes.ipvs import listing
from modes.ipvs.belonging import Belonging
from modes.ipvs.dump import NOBODYS
from modes.ipvs.ipsets import Entry, Extra, Kind, at
from modes.ipvs.marks import as_address
from modes.ipvs.seen import Seen
from modes.ipvs.servers import FoundServer, ServerKey
from modes.xtables.adopt import is_ours, jumps
from modes.xtables.rules import ChainName
from modes.xtables.script import lines, read


def native(seen: Seen, asked: Collection[tuple[str, Family]] | None) -> Iterator[str]:
    """The lines. `asked`: Service ports by name and family; None: all that was found, and rules."""
    part = _Part(seen, asked)
    yield "# ipvsadm -Sn"
    for key, server in part.servers.items():
        reals = [(real, of.weight, of.method) for real, of in sorted(server.reals.items())]
        yield from listing.server_lines(key, server.server, reals)
    yield "# ipset save"
    yield from part.sets()
    yield "# ip"
    yield from map(listing.address_line, sorted(part.addresses()))
    if asked is None:
        yield "# iptables-save, ip6tables-save"
        for family, saved in seen.rules.saved.items():
            yield from _rules(family, saved)


class _Part:
    """What of all that was found is asked for."""

    def __init__(self, seen: Seen, asked: Collection[tuple[str, Family]] | None) -> None:
        self._seen = seen
        self._asked = asked
        self._belonging = Belonging()
        self._belonging.learn(seen.sets)
        self.servers: dict[ServerKey, FoundServer] = {
            key: seen.servers[key]
            for key in sorted(seen.servers)
            if self._is_asked(self._belonging.of_server(key), key.family)
        }
        self._hairpins = {
            at(real.address, real.port, key.protocol, real.address)
            for key, of in self.servers.items()
            for real in of.reals
        }
        self._places = self._named() | {key.address for key in self.servers}
        self._marks = {as_address(key.mark, key.family) for key in self.servers if key.mark}

    def _is_asked(self, name: str, family: Family) -> bool:
        return self._asked is None or (name or NOBODYS, family) in self._asked

    def sets(self) -> Iterator[str]:
        """Every set, or those that hold any of it."""
        for name, of in self._seen.sets.items():
            held = {e: x for e, x in of.elements.items() if self._holds(Entry(name, e), x)}
            if of.spec is not None and (held or self._asked is None):
                yield f"create {name} {listing.spec_words(of.spec)}"
                yield from listing.element_lines(str(name), held)

    def _holds(self, one: Entry, extra: Extra) -> bool:
        (kind, family), element = one
        if self._asked is None:
            return True
        if kind is Kind.LOOP_BACK:
            return element in self._hairpins
        if kind is Kind.IPVS_IPS:
            return element.address in self._places
        if kind is Kind.DRAINING and element.address in self._marks:
            return True
        name = self._belonging.of_entry(one, extra)
        return bool(name) and self._is_asked(name, family)

    def _named(self) -> set[str]:
        """The addresses that elements have of those who are asked for."""
        return {
            element.address
            for name, of in self._seen.sets.items()
            for element, extra in of.elements.items()
            if extra.comment and self._is_asked(extra.comment, name.family)
        }

    def addresses(self) -> Iterator[str]:
        """What the link holds of it."""
        held = self._seen.addresses or frozenset()
        yield from held if self._asked is None else held & self._places


def _rules(family: Family, saved: str) -> Iterator[str]:
    """What iptables-save printed of chains of ours, and of rules that lead there."""
    found = read(saved)
    ours = {chain for chain in found if is_ours(chain)}
    leading = {(placed.chain, placed.spec) for placed in jumps(family, found, ours)}
    yield f"# {family}"
    tables = {chain.table.value: chain.table for chain in found}
    table = None
    shown: list[str] = []
    for line in lines(saved):
        if line.startswith("*"):
            table, shown = tables.get(line[1:]), [line]
        elif line == "COMMIT" and len(shown) > 1:
            yield from (*shown, line)
        elif table is not None and line[:1] in {":", "-", "["}:
            name, _, spec = _after_counters(line).removeprefix(":").partition(" ")
            chain = ChainName(table, name)
            if chain in ours or (line[0] != ":" and (chain, spec) in leading):
                shown.append(line)


def _after_counters(line: str) -> str:
    """Of `[3:180] -A INPUT -j KUBE-NODE-PORT` or `-A …` what follows the -A."""
    return line if line.startswith(":") else line.partition("-A ")[2]
