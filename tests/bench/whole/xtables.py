"""What do the chains of headgate and of kube-proxy in iptables mode hold of one Service? IPv4.

Both give them the same names. A rule in KUBE-SERVICES leads a cluster IP to the Service's chain;
that one leads to a chain for each endpoint, or holds the DNAT itself (headgate's, where there are
many endpoints).
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Mapping

from modes.iptables.service_chains import cluster_chain
from modes.nftables import netlink as nl
from modes.wire import words
from modes.xtables.names import MARK_MASQ, SERVICES, SVC, Table
from tests.bench import cluster
from tests.bench.whole import legacy
from tests.bench.whole.content import Wanted
from tests.bench.whole.lock import Lock
from tests.bench.whole.netlink import Asking, Attributes, verdict
from tests.bench.whole.translation import DNAT, Destination, address, destination, destinations

_ATTEMPTS = 5
_TARGET_NAME, _TARGET_REVISION, _TARGET_INFO = 1, 2, 3
_IMMEDIATE_DATA = 2
_NAME_SIZE = len(SVC) + 16
_LEADS_TO = re.compile(
    re.escape(struct.pack("=HH", 4 + _NAME_SIZE + 1, nl.NFTA_VERDICT_CHAIN))
    + rb"(KUBE-SVC-[A-Z2-7]{16})\0"
)
"""The verdict of a rule that leads to a Service's chain."""


class Nft:
    """iptables-nft, whose tables are tables of nf_tables; an `Observer`."""

    def __init__(self, _program: str) -> None:
        """Raises OSError."""
        self._kernel = Asking()
        self._generation = -1
        self._services: Mapping[str, list[bytes]] = {}
        """Of that generation: the rules of KUBE-SERVICES in nat, by the chain they lead to."""

    def mark(self) -> int:
        """The number of the ruleset."""
        return self._kernel.generation()

    def holds(self, wanted: Wanted) -> bool:
        """As an `Observer`; what is compared is of one commit.

        A ruleset that changes at each of several attempts counts as one that does not hold it: its
        mark has moved then, and the next look is due.
        """
        generation = self._kernel.generation()
        for _ in range(_ATTEMPTS):
            found = self._read(wanted, generation)
            now = self._kernel.generation()
            if now == generation:
                return found
            generation = now
        return False

    def commits(self) -> int:
        """Commits to this network namespace's ruleset since it was made, by whomever."""
        return self._kernel.generation()

    def close(self) -> None:
        """Close the socket."""
        self._kernel.close()

    def _read(self, wanted: Wanted, generation: int) -> bool:
        """The own chain first, where it is cheaper: most looks end there."""
        chain = cluster_chain(cluster.service_port(wanted.number))
        if not wanted.endpoints:
            is_there = wanted.endpoints is not None
            return not self._leads(wanted, chain, generation) and self._refuses(wanted) == is_there
        if generation == self._generation and chain not in self._services:
            return False
        return self._chooses(chain, destinations(wanted.endpoints)) and self._leads(
            wanted, chain, generation
        )

    def _leads(self, wanted: Wanted, chain: str, generation: int) -> bool:
        """Whether connections to the cluster IP get to this chain."""
        if generation != self._generation:
            services: dict[str, list[bytes]] = {}
            for rule in self._kernel.unread_rules(Table.NAT, SERVICES):
                for name in _LEADS_TO.findall(rule):
                    services.setdefault(name.decode(), []).append(rule)
            self._services, self._generation = services, generation
        compared = _compared(wanted)
        return any(compared in rule for rule in self._services.get(chain, ()))

    def _refuses(self, wanted: Wanted) -> bool:
        """Whether connections to the cluster IP are refused."""
        compared = _compared(wanted)
        return any(compared in rule for rule in self._kernel.unread_rules(Table.FILTER, SERVICES))

    def _chooses(self, chain: str, wanted: set[Destination]) -> bool:
        """Whether a chain leads to these destinations; chains of endpoints are asked for last."""
        found, chains = self._targets(chain)
        if len(found) + len(chains) != len(wanted):
            return False
        for name in chains:
            there, further = self._targets(name)
            if further:
                raise RuntimeError(f"chain {name} of an endpoint leads to {', '.join(further)}")
            found |= there
        return found == wanted

    def _targets(self, chain: str) -> tuple[set[Destination], set[str]]:
        """Where a chain sends connections, and to which other chains. Raises RuntimeError."""
        found: set[Destination] = set()
        chains: set[str] = set()
        for rule in self._kernel.unread_rules(Table.NAT, chain):
            name, held = _last_expression(rule)
            if name == "immediate":
                chains.add(verdict({nl.NFTA_ELEM_DATA: held[_IMMEDIATE_DATA]})[1])
            elif name == "target" and words(held[_TARGET_NAME]) == DNAT:
                revision = int.from_bytes(held[_TARGET_REVISION], "big")
                found.add(destination(revision, held[_TARGET_INFO]))
            else:
                raise RuntimeError(f"a rule of chain {chain} is not understood: {name}")
        return found, chains - {MARK_MASQ}


def _compared(wanted: Wanted) -> bytes:
    """What is in a rule for a cluster IP: it is compared with the packet's destination."""
    return nl.attr(nl.NFTA_DATA_VALUE, address(wanted))


def _last_expression(rule: bytes) -> tuple[str, Attributes]:
    """What a rule does to packets that all of its matches let pass."""
    listed = dict(nl.attributes(rule))[nl.NFTA_RULE_EXPRESSIONS]
    *_, (_, last) = nl.attributes(listed)
    parts = dict(nl.attributes(last))
    return words(parts[nl.NFTA_EXPR_NAME]), dict(nl.attributes(parts[nl.NFTA_EXPR_DATA]))


class Legacy:
    """iptables-legacy, whose tables are read and replaced as a whole; an `Observer`.

    The kernel numbers no versions of a table. It tells how many entries it has and how large it
    is, for a microsecond; a table that is replaced by one just as large is found by the lock, which
    programs give back when they have written. Who writes without it may go unseen.
    """

    QUIET_SECONDS = 0.002
    """Who takes the lock again before that writes one table after another."""

    def __init__(self, _program: str) -> None:
        """Raises OSError."""
        self._lock = Lock()
        self._nat = legacy.Kernel(Table.NAT)
        self._filter = legacy.Kernel(Table.FILTER)
        self._size = self._nat.size()
        self._mark = 0
        self._read_at = -1
        """The mark at which the table was read."""
        self._table = legacy.NO_TABLE
        self._is_excused = False
        """Who holds the lock has made the change that moved the mark."""
        self._doubted: float | None = None
        """Since then the table may be another one, of the same size."""

    def mark(self) -> int:
        """How often the table nat was seen to have changed, or may have."""
        is_busy = self._look()
        doubted = self._doubted
        if doubted is not None and not is_busy and _since(doubted) >= self.QUIET_SECONDS:
            self._mark, self._doubted = self._mark + 1, None
        return self._mark

    def _look(self) -> bool:
        """Take note of what happened; whether somebody has the lock, or waits for it."""
        is_busy, given_back = self._lock.turns()
        size = self._nat.size()
        if size != self._size:
            self._mark, self._size, self._doubted = self._mark + 1, size, None
            self._is_excused = is_busy and not given_back
        elif given_back:
            if given_back > self._is_excused:
                self._doubted = time.monotonic()
            self._is_excused = False
        return is_busy

    def holds(self, wanted: Wanted) -> bool:
        """As an `Observer`."""
        table, to = self._current(), address(wanted)
        chain = table.chain(cluster_chain(cluster.service_port(wanted.number)))
        if chain is None or not table.leads(SERVICES, to, chain):
            is_there = wanted.endpoints is not None
            return not wanted.endpoints and self._filter.read().names(SERVICES, to) == is_there
        return table.destinations(chain) == destinations(wanted.endpoints or ())

    def _current(self) -> legacy.Blob:
        """The table as it is now."""
        self._look()
        if self._doubted is not None and self._read_at == self._mark:
            self._mark += 1
        self._doubted = None
        if self._read_at != self._mark:
            self._table, self._read_at = self._nat.read(), self._mark
        return self._table

    def commits(self) -> None:
        """The kernel counts none."""

    def close(self) -> None:
        """Close what asks the kernel."""
        self._lock.close()
        self._nat.close()
        self._filter.close()


def _since(then: float) -> float:
    return time.monotonic() - then
