"""Which text stands for whole tables? Pure.

What `iptables-save` prints is read, what `iptables-restore --noflush` reads is written; the text of
one rule is made in `restore`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from endpoints.names import ObjectName
from modes.base import KernelFault
from modes.xtables.names import Table
from modes.xtables.rules import ChainName

_ESCAPED = re.compile(r"\\.", re.DOTALL)
_TABLES = {table.value: table for table in Table}
_RULES = ("-A ", "[")
"""How rules begin; with counters: `[5:300] -A …`."""


class Counted(NamedTuple):
    """What `iptables-save -c` printed."""

    chains: dict[ChainName, list[str]]
    """As `read` has them."""
    packets: dict[ChainName, list[int]]
    """How many each rule counted, in the same order; 0 where the text does not tell."""


def read(saved: str) -> dict[ChainName, list[str]]:
    """What `iptables-save` printed: every chain of our tables with the specs of its rules.

    Built-in chains too; counters are left out, and so are tables that no mode writes. Raises
    KernelFault for a rule of a chain that was not declared.
    """
    return read_counted(saved).chains


def read_counted(saved: str) -> Counted:
    """The same with counters, if the text has them. Raises as `read`."""
    found = Counted({}, {})
    chains: dict[str, tuple[list[str], list[int]]] | None = None
    table = Table.NAT
    for line in lines(saved):
        if line.startswith("*"):
            chains = {} if line[1:] in _TABLES else None
            table = _TABLES.get(line[1:], table)
        elif chains is None:
            continue
        elif line.startswith(_RULES):
            counted, _, rule = line.partition("-A ")
            name, _, rule = rule.partition(" ")
            if name not in chains:
                raise KernelFault(f"{line!r}: there is no such chain in {table}")
            rules, packets = chains[name]
            rules.append(rule)
            packets.append(int(counted[1 : counted.index(":")]) if counted else 0)
        elif line.startswith(":"):
            name = line[1:].partition(" ")[0]
            chain = ChainName(table, name)
            chains[name] = found.chains[chain], found.packets[chain] = [], []
    return found


def sections(saved: str) -> dict[str, str]:
    """The text of each table."""
    found: dict[str, list[str]] = {}
    table: list[str] = []
    for line in lines(saved):
        if line.startswith("*"):
            table = found[line[1:]] = []
        table.append(line)
    return {name: "\n".join([*of, ""]) for name, of in found.items()}


def lines(saved: str) -> Iterator[str]:
    """The lines of what `iptables-save` printed; a rule whose comment spans lines is one."""
    open_rule = ""
    for part in saved.split("\n"):
        line = f"{open_rule}\n{part}" if open_rule else part
        open_rule = line if line.startswith(_RULES) and _is_open(line) else ""
        if not open_rule:
            yield line
    if open_rule:
        yield open_rule


def _is_open(line: str) -> bool:
    """Whether a quotation goes on in the next line."""
    return '"' in line and _ESCAPED.sub("", line).count('"') % 2 == 1


class Script:
    """Input for `iptables-restore --noflush`, for one family. False as long as it says nothing.

    Remembers for whom each line stands there: a line that iptables refuses is known by number.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._owners: list[ObjectName | None] = []
        self._table: Table | None = None
        self._is_open = False

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._lines)

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join([*self._lines, ""])

    @property
    def lines(self) -> int:
        """How many lines `text` has."""
        return len(self._lines)

    def owner_of(self, line_number: int) -> ObjectName | None:
        """The Service that a line is there for, counted from 1; None: all, or no such line."""
        return self._owners[line_number - 1] if 0 < line_number <= len(self._owners) else None

    def section(self, table: Table) -> None:
        """What follows is for this table. Nothing is written for one that nothing follows."""
        self._table = table

    def commit(self) -> None:
        """Ends the section: everything in it happens, or nothing."""
        if self._is_open:
            self._add("COMMIT", None)
        self._table, self._is_open = None, False

    def chain(self, name: str, owner: ObjectName | None = None) -> None:
        """Creates a chain, or empties it."""
        self._add(f":{name} - [0:0]", owner)

    def append(self, chain: str, rule: str, owner: ObjectName | None = None) -> None:
        """Adds a rule, by its spec, at the end."""
        self._add(f"-A {chain} {rule}", owner)

    def insert(self, chain: str, position: int, rule: str, owner: ObjectName | None = None) -> None:
        """Adds a rule where it will be the one of that number, from 1."""
        self._add(f"-I {chain} {position} {rule}", owner)

    def delete(self, chain: str, rule: str, owner: ObjectName | None = None) -> None:
        """Removes the first rule with this spec."""
        self._add(f"-D {chain} {rule}", owner)

    def remove_chain(self, name: str, owner: ObjectName | None = None) -> None:
        """Removes a chain that is empty and that nothing refers to."""
        self._add(f"-X {name}", owner)

    def _add(self, line: str, owner: ObjectName | None) -> None:
        if not self._is_open:
            if self._table is None:
                raise ValueError(f"{line!r} belongs to no section")
            self._lines.append(f"*{self._table}")
            self._owners.append(None)
            self._is_open = True
        self._lines.append(line)
        self._owners.append(owner)
