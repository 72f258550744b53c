"""How is the kernel told to trace a flow, and how is it heard?

The only file here that opens a socket. Nothing outlives the process: the table
belongs to a socket (NFT_TABLE_F_OWNER, Linux 5.12) and goes when that is closed, however that
happens; the kernel deletes it then.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

from modes.base import EnvironmentFault, KernelFault, Missing, NotPermitted
from modes.nftables import netlink as nl
from modes.nftables.kernel import NETLINK_NETFILTER, Kernel
from modes.tracing import events, program
from modes.tracing.counted import CountedRule, counted
from modes.tracing.following import RuleAt
from modes.tracing.program import Aim
from modes.tracing.programs import legacy_counts, nft_rules, would_fill_the_log
from modes.tracing.rules import RuleText, rule_at
from modes.wire import Reply, replies

_SOL_NETLINK, _ADD_MEMBERSHIP, _SO_RCVBUFFORCE = 270, 1, 33
_ROOM = 1 << 24
_DATAGRAM = 1 << 16
_AT_ONCE = 500
"""Datagrams between two looks at the clock."""
_CONNTRACK_GROUPS = (1, 2, 3)  # NFNLGRP_CONNTRACK_NEW, _UPDATE, _DESTROY
_NFPROTO = {"inet": 1, "ip": 2, "bridge": 7, "ip6": 10}


class Heard(NamedTuple):
    """What came since the last time."""

    datagrams: tuple[tuple[float, bytes], ...]
    """With the time at which each was read."""
    lost: bool = False
    """Whether there was more than there was room for."""


class Ear:
    """A socket in some multicast groups of netfilter, in the network namespace of its thread."""

    def __init__(self, groups: Sequence[int]) -> None:
        """Listen from now on. Raises NotPermitted, and Missing: no nfnetlink, or no such group."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        except OSError as fault:
            raise Missing(f"this kernel has no nfnetlink: {fault.strerror}") from fault
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(0)
            # Without privilege in the first user namespace the system's limit holds.
            with suppress(PermissionError):
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
            for group in groups:
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except PermissionError as fault:
            self._socket.close()
            raise NotPermitted(
                "the kernel does not tell us of packets: CAP_NET_ADMIN is missing (run as root)"
            ) from fault
        except OSError as fault:
            self._socket.close()
            raise Missing(f"this kernel does not tell of packets: {fault.strerror}") from fault

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def hear(self, seconds: float) -> Heard:
        """Wait so long for something, then take what is there, up to a number. Raises OSError."""
        if not select.select([self._socket], [], [], max(0.0, seconds))[0]:
            return Heard(())
        found: list[tuple[float, bytes]] = []
        lost = False
        while len(found) < _AT_ONCE:
            try:
                datagram = self._socket.recv(_DATAGRAM)
                found.append((clock(), datagram))
            except BlockingIOError:
                break
            except OSError as fault:
                if fault.errno != errno.ENOBUFS:
                    raise
                lost = True
        return Heard(tuple(found), lost)


class PacketTrace:
    """Lets the kernel tell of the packets of a flow for as long as it is open."""

    def __init__(self, aim: Aim) -> None:
        """Nothing is told yet. Raises Missing (no nf_tables) and NotPermitted."""
        self._family = aim.family
        self.is_quiet = would_fill_the_log(aim.family)
        """Whether rules of others are not told of, for the kernel's log would be."""
        self._kernel = Kernel()
        try:
            self._ear = Ear([events.GROUP])
        except EnvironmentFault:
            self._kernel.close()
            raise
        self.table = program.table_name(self._kernel.port)
        self._counts = legacy_counts(aim.family)
        self._texts: dict[tuple[str, str, str], dict[int, RuleText]] = {}
        try:
            self._make(aim)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """The trace."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()

    def close(self) -> None:
        """Let the kernel remove the table, with the socket that owns it."""
        self._kernel.close()
        self._ear.close()

    def _make(self, aim: Aim) -> None:
        self._kernel.check()
        messages = program.made([aim], self._family, self.table, quiet=self.is_quiet)
        for failure in self._kernel.transact(messages).failures:
            if failure.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT):
                raise Missing(
                    f"this kernel's nf_tables cannot hold the table of a trace for {self._family}"
                    f" (Linux 5.12, with nft_ct and nft_limit): {failure}"
                )
            raise KernelFault(f"the kernel refuses the table of the trace: {failure}")

    def narrow(self, aims: Sequence[Aim]) -> None:
        """Be told of these packets only, from now on. Raises KernelFault."""
        messages = program.narrowed(aims, self._family, self.table, quiet=self.is_quiet)
        for failure in self._kernel.transact(messages).failures:
            raise KernelFault(f"the kernel refuses other rules for the trace: {failure}")

    def hear(self, seconds: float) -> tuple[list[tuple[float, events.Event]], bool]:
        """What happened and when, after at most so long; and whether some of it was lost."""
        heard = self._ear.hear(seconds)
        told = [(when, event) for when, one in heard.datagrams for event in events.decode(one)]
        return told, heard.lost

    def counted(self) -> tuple[CountedRule, ...]:
        """Rules of iptables-legacy that dropped a packet since the trace began, whosever."""
        return counted(self._counts, legacy_counts(self._family))

    def rule(self, at: RuleAt) -> RuleText:
        """What a rule says, if it is there still. Raises KernelFault."""
        place = (at.family, at.table, at.chain)
        if place not in self._texts:
            self._texts[place] = self._rules(*place)
        return self._texts[place].get(at.handle, RuleText())

    def _rules(self, family: str, table: str, chain: str) -> dict[int, RuleText]:
        body = nl.text(nl.NFTA_RULE_TABLE, table) + nl.text(nl.NFTA_RULE_CHAIN, chain)
        answers = self._kernel.dump(nl.GETRULE, _NFPROTO.get(family, 0), body)
        found = dict(rule_at(answer.payload, self._family) for answer in answers)
        if any(not rule.text for rule in found.values()):
            for handle, text in nft_rules(family, table, chain).items():
                if handle in found:
                    found[handle] = RuleText(text, is_refusal=found[handle].is_refusal)
        return found


class FlowNews:
    """Lets conntrack tell of flows that are new, answered, or gone."""

    def __init__(self) -> None:
        """Listen from now on. Raises Missing and NotPermitted."""
        self._ear = Ear(_CONNTRACK_GROUPS)

    def close(self) -> None:
        """Give the socket back."""
        self._ear.close()

    def hear(self, seconds: float) -> Iterator[Reply]:
        """Messages of conntrack, after at most so long."""
        for _, one in self._ear.hear(seconds).datagrams:
            yield from replies(one)


def clock() -> float:
    """Seconds, of no particular beginning."""
    return time.monotonic()


def link_name(index: int) -> str:
    """An interface by its index, in the network namespace of the calling thread."""
    try:
        return socket.if_indextoname(index)
    except OSError:  # it is gone
        return f"interface {index}"
