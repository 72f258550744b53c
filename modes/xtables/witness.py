"""Which changes of the host's iptables are ours, and which are others'?

The kernel tells of every commit to nf_tables; those of the programs that we start are left out by
their netlink port. Of iptables-legacy it tells nobody: there the sizes of the tables say whether
anybody else was at work since ours.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from endpoints.names import Family
from modes.base import Foreign, ForeignWatch, Glance
from modes.commits import Commit
from modes.listening import CommitWatch, chain_names, chains_of, rules_of
from modes.xtables import notices
from modes.xtables.names import Table
from modes.xtables.notices import Place, Size
from modes.xtables.rules import ChainName
from modes.xtables.variant import Variant

__all__ = [
    "LOOK_SECONDS",
    "VariantWatch",
    "Witness",
    "chains",
    "chains_of",
    "legacy_tables",
    "rules_of",
]

LOOK_SECONDS = 0.5

_TABLE_NAMES = {
    Family.IPV4: Path("/proc/thread-self/net/ip_tables_names"),
    Family.IPV6: Path("/proc/thread-self/net/ip6_tables_names"),
}
_OURS = frozenset(table.value for table in Table)
_GET_INFO = 64  # IPT_SO_GET_INFO, IP6T_SO_GET_INFO
_LEVEL = {
    Family.IPV4: (socket.AF_INET, socket.IPPROTO_IP),
    Family.IPV6: (socket.AF_INET6, socket.IPPROTO_IPV6),
}
_INFO = struct.Struct("=32sI5I5III")


class VariantWatch:
    """Hears of changes of our rules by others from when they lie in nf_tables on.

    The host may move from iptables-legacy to nft while we run. One thread waits, another one does
    all else.
    """

    def __init__(self) -> None:
        """Nothing is heard before `follow`."""
        self.commits: CommitWatch | None = None
        self._changed = threading.Condition()
        self._is_closed = False

    def follow(self, commits: CommitWatch) -> None:
        """Hear what this one hears."""
        with self._changed:
            self.commits = commits
            if self._is_closed:
                commits.close()
            self._changed.notify_all()

    def wait(self) -> tuple[Foreign, ...]:
        """Sleep until there is news; empty only after `close`. Raises OSError."""
        with self._changed:
            self._changed.wait_for(lambda: self.commits or self._is_closed)
            commits = None if self._is_closed else self.commits
        return commits.wait() if commits else ()

    def close(self) -> None:
        """Wake who waits, for good."""
        with self._changed:
            self._is_closed = True
            if self.commits:
                self.commits.close()
            self._changed.notify_all()


class Witness:
    """Knows what we did to iptables, in the network namespace of the threads that use it.

    One thread watches, another one does all else.
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._watch: VariantWatch | None = None
        self._jumps: dict[Place, Counter[str]] = {}
        self._noted: dict[tuple[Family, str], Size] = {}
        self._foreign: dict[Foreign, None] = {}
        self._is_disturbed = False
        self._libc = ctypes.CDLL(None, use_errno=True)

    def listen(self, variant: Variant) -> ForeignWatch:
        """Hear of changes of our rules by others, as soon as they lie in nf_tables.

        Raises OSError.
        """
        self._watch = VariantWatch()
        self._follow(variant)
        return self._watch

    def _follow(self, variant: Variant) -> None:
        if self._watch and not self._watch.commits and variant is Variant.NFT:
            commits = CommitWatch(notices.MARKS, notices.concerns, self._judge)
            self._watch.follow(commits)

    def expect(self, family: Family, guests: Iterable[tuple[ChainName, str]]) -> None:
        """Our rules in built-in chains are these."""
        others = {place: of for place, of in self._jumps.items() if place.family is not family}
        self._jumps = others | notices.jumps(family, guests)

    @contextmanager
    def knows(self, pid: int) -> Iterator[None]:
        """What this child of ours tells nf_tables while it lives is ours.

        To be entered before it is told what to do. Its first netlink socket has its process ID for
        a port, as it is in its own PID namespace; no other socket can have that one meanwhile.
        """
        watch = self._watch.commits if self._watch else None
        if watch is None:
            yield
            return
        watch.ignore(pid, on=True)
        try:
            yield
        finally:
            watch.ignore(pid, on=False)

    @contextmanager
    def legacy_change(self) -> Iterator[None]:
        """A change of ours to tables of iptables-legacy; what others did before it is not lost."""
        self.look(Variant.LEGACY)
        try:
            yield
        finally:
            self._noted = self._sizes()

    def look(self, variant: Variant) -> None:
        """See whether others have changed tables of iptables-legacy, if that is the variant.

        Each change is told once, by the next `glance`.
        """
        if variant is Variant.NFT:
            return
        found = self._sizes()
        differences = notices.differences(self._noted, found)
        if differences:
            self._is_disturbed = True
        self._foreign |= dict.fromkeys(differences)
        self._noted = found

    def is_disturbed(self, variant: Variant) -> bool:
        """Whether others have changed anything since `settle`, as far as it can be noticed."""
        self.look(variant)
        is_deaf = self._watch is None or self._watch.commits is None
        return self._is_disturbed or (variant is Variant.NFT and is_deaf)

    def settle(self, variant: Variant) -> None:
        """All rules will be read now: what was changed before is not to be told any more.

        From now on, what others do to this variant is heard. Raises OSError.
        """
        self._follow(variant)
        self.look(variant)
        self._foreign = {}
        self._is_disturbed = False

    def glance(self, variant: Variant) -> Glance:
        """What others did to the rules of this variant, as far as `listen` does not hear it."""
        if variant is Variant.NFT:
            return Glance()
        self.look(variant)
        found, self._foreign = tuple(self._foreign), {}
        return Glance(found, LOOK_SECONDS)

    def _judge(self, commit: Commit) -> tuple[Foreign, ...]:
        sure, places = notices.doubts(commit)
        lost: list[str] = []
        for place in sorted(places & self._jumps.keys()):
            wanted, rules = self._jumps[place], rules_of(*place)
            gone = dict.fromkeys(notices.lacking(wanted, rules), "deleted")
            behind = dict.fromkeys(notices.hidden(wanted, rules), "is behind one that takes all")
            where = f"rule of chain {place.table} {place.chain} ({place.family}) to"
            lost += [f"{where} {name} {what}" for name, what in (*gone.items(), *behind.items())]
        found = notices.news(commit, sure, lost)
        if found:
            self._is_disturbed = True
        return found

    def _sizes(self) -> dict[tuple[Family, str], Size]:
        return {
            (family, table): size
            for family in Family
            for table in legacy_tables(family)
            if table in _OURS and (size := self._size(family, table)) is not None
        }

    def _size(self, family: Family, table: str) -> Size | None:
        """None: there is no such table, or it went meanwhile."""
        domain, level = _LEVEL[family]
        told = ctypes.create_string_buffer(table.encode(), _INFO.size)
        length = ctypes.c_uint32(_INFO.size)
        with socket.socket(domain, socket.SOCK_DGRAM) as asked:
            pointers = ctypes.byref(told), ctypes.byref(length)
            if self._libc.getsockopt(asked.fileno(), level, _GET_INFO, *pointers):
                return None
        _, _, *hooks, entries, octets = _INFO.unpack(told.raw)
        return Size(entries, octets, tuple(hooks))


def legacy_tables(family: Family) -> tuple[str, ...]:
    """Asking about a table of legacy iptables makes it, with hooks that every packet then takes."""
    try:
        return tuple(_TABLE_NAMES[family].read_text().split())
    except OSError:
        return ()  # no module ip_tables, or not ours to read: then nothing of it can be read


def chains(family: Family) -> set[ChainName]:
    """The chains of our tables in nf_tables: the kernel tells their names alone. Raises OSError."""
    tables = {table.value: table for table in Table}
    return {
        ChainName(tables[table], name) for table, name in chain_names(family) if table in tables
    }
