"""What would `iptables-restore --noflush` make of a text? As strict as the kernel is.

Chains must exist before they are jumped to, be empty and unreferenced before they go, and a rule
that is deleted must be there. A block that fails changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from endpoints.node import NodeSettings, NodeView
from endpoints.state import ClusterState
from modes.xtables.names import Table
from modes.xtables.rules import ChainName

BUILT_IN = {
    Table.FILTER: ("INPUT", "FORWARD", "OUTPUT"),
    Table.MANGLE: ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    Table.NAT: ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
_TARGETS = {"ACCEPT", "DROP", "RETURN", "DNAT", "MARK", "MASQUERADE", "REJECT", "SET"}

Tables = dict[ChainName, list[str]]


class Strict:
    """The tables of one family."""

    def __init__(self) -> None:
        """As a new network namespace has them."""
        self.chains: Tables = {
            ChainName(table, name): [] for table, names in BUILT_IN.items() for name in names
        }
        self.blocks: list[Tables] = []
        """What packets met after each block."""

    def restore(self, text: str) -> None:
        """Take a text, block by block."""
        for table, lines in _blocks(text):
            after = {chain: list(rules) for chain, rules in self.chains.items()}
            for line in lines:
                _take(after, table, line)
            _check(after)
            self.chains = after
            self.blocks.append(after)


def _blocks(text: str) -> Iterator[tuple[Table, list[str]]]:
    lines: list[str] = []
    table: Table | None = None
    for line in text.splitlines():
        if line.startswith("*"):
            assert table is None, line
            table, lines = Table(line[1:]), []
        elif line == "COMMIT":
            assert table is not None
            yield table, lines
            table = None
        else:
            lines.append(line)
    assert table is None, "a block is not closed"


def _take(chains: Tables, table: Table, line: str) -> None:
    word, _, rest = line.partition(" ")
    if line.startswith(":"):
        chains[ChainName(table, word[1:])] = []
        return
    name, _, rule = rest.partition(" ")
    chain = ChainName(table, name)
    if word == "-A":
        chains[chain].append(rule)
    elif word == "-I":
        position, _, rule = rule.partition(" ")
        assert 1 <= int(position) <= len(chains[chain]) + 1, line
        chains[chain].insert(int(position) - 1, rule)
    elif word == "-D":
        chains[chain].remove(rule)
    elif word == "-X":
        assert not chains.pop(chain), f"{line}: not empty"
    else:
        raise AssertionError(line)


def _check(chains: Tables) -> None:
    for chain, rules in chains.items():
        for rule in rules:
            for target in re.findall(r"(?:^| )-j (\S+)", rule):
                there = ChainName(chain.table, target) in chains
                assert there or target in _TARGETS, f"{chain}: {rule}: no chain {target}"


def node_of(addresses: tuple[str, ...] = ("all",)) -> NodeView:
    """A node whose pods are known."""
    settings = NodeSettings(
        "node-a", cluster_cidrs=("10.244.0.0/16",), node_port_addresses=addresses
    )
    return ClusterState(settings, frozenset({"192.168.0.11", "127.0.0.1"})).node
