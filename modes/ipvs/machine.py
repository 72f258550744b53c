"""How are steps carried out, and what does the kernel hold?

IPVS, its sets and its link together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from endpoints.names import Family, ObjectName
from modes.base import IpvsSettings, KernelFault
from modes.ipvs import ipsets, links
from modes.ipvs.adopt import Found
from modes.ipvs.census import Census
from modes.ipvs.ipsets import Element, Entry, Extra, FoundSet, Kind, SetChange, SetName
from modes.ipvs.kernel import Ipset, Ipvs
from modes.ipvs.links import Link
from modes.ipvs.program import Owned, Steps, bound
from modes.ipvs.servers import Command, ServerKey, Verb, VirtualServer
from modes.wire import Refusal


class Fault(NamedTuple):
    """Something that the kernel did not do."""

    errno: int
    reason: str
    owner: ObjectName | None = None
    command: Command | None = None
    entry: Entry | None = None
    """An element that could not be put into its set, or an address that could not be bound."""


class Machine:
    """IPVS, ipset and the link, in the network namespace of the thread that opened them."""

    def __init__(self, ipvs: Ipvs, ipset: Ipset, link: Link, census: Census) -> None:
        """They are this one's to close."""
        self.census = census
        self.ipvs = ipvs
        self.ipset = ipset
        self.link = link

    @classmethod
    def open(cls) -> Machine:
        """Open what is needed; nothing changes yet.

        Raises EnvironmentFault where the kernel lacks one of them, or we lack CAP_NET_ADMIN.
        """
        with ExitStack() as stack:
            ipvs = Ipvs()
            stack.callback(ipvs.close)
            ipset = Ipset()
            stack.callback(ipset.close)
            link = Link()
            stack.callback(link.close)
            census = Census()
            stack.pop_all()
        return cls(ipvs, ipset, link, census)

    def close(self) -> None:
        """Give the sockets back."""
        self.ipvs.close()
        self.ipset.close()
        self.link.close()
        self.census.close()

    @property
    def messages(self) -> int:
        """Netlink messages sent so far."""
        return self.ipvs.messages + self.ipset.messages + self.link.messages

    def observe(self) -> Found:
        """Everything: of others too, but for what went through virtual servers."""
        servers = self.ipvs.servers(counted=False)
        return Found(servers, self.sets(), self.link.addresses() or frozenset())

    def sets(self) -> dict[SetName, FoundSet]:
        """The sets that are there, with all that is in them."""
        there = self.ipset.names()
        wanted = [SetName(kind, family) for family in Family for kind in Kind]
        found = ((name, self.ipset.find(name)) for name in wanted if str(name) in there)
        return {name: of for name, of in found if of is not None}

    def prepare(self, settings: IpvsSettings) -> list[str]:
        """What must be there before the first virtual server: the reply path, and the link.

        Returns why a setting of the kernel could not be made, a sentence each. Raises KernelFault
        and EnvironmentFault.
        """
        lacking = set_sysctls(settings)
        self.ipvs.set_timeouts(
            settings.tcp_timeout_seconds,
            settings.tcpfin_timeout_seconds,
            settings.udp_timeout_seconds,
        )
        self.link.ensure()
        return lacking

    def make_sets(
        self,
        families: Iterable[Family],
        found: Found,
        entries: Collection[Entry],
        kinds: Collection[Kind] = tuple(Kind),
    ) -> int:
        """Make the sets that are not there; what cannot be used as it is, is replaced at once.

        `entries` are what they shall hold: a set is made as large as it must be. Returns how many
        were made. Raises KernelFault.
        """
        made = 0
        members: dict[SetName, list[Element]] = {}
        for name, element in entries:
            members.setdefault(name, []).append(element)
        for name in (SetName(kind, family) for family in families for kind in kinds):
            of = found.sets.get(name)
            spec = ipsets.spec(name, len(members.get(name, ())))
            if of is None:
                self.ipset.create(name, spec)
                made += 1
            elif not ipsets.fits(of.spec, name):
                # Its elements go on: what is not wanted of them is removed with all the rest.
                kept: dict[Element, Extra] = dict(of.elements) if of.spec else {}
                _require(self.ipset.replace(name, spec, kept))
                made += 1
        return made

    def admit(self, change: Steps) -> list[Fault]:
        """What must be in the sets before any virtual server changes."""
        return self._sets(change.additions)

    def serve(self, change: Steps) -> list[Fault]:
        """Addresses that nobody needs, virtual servers, new addresses."""
        faults = [self._not_held(change.unbind, r) for r in self._link(change.unbind, bind=False)]
        faults += self._commands(change.commands)
        faults += [self._not_held(change.bind, r) for r in self._link(change.bind, bind=True)]
        return faults

    def withdraw(self, change: Steps) -> list[Fault]:
        """What must leave the sets after that."""
        return self._sets(change.removals)

    def works(self, scheduler: str, mark: int) -> str:
        """Why IPVS has no such scheduler, shown by a virtual server that no packet meets.

        Empty: it has; its module is loaded then.
        """
        key = ServerKey(Family.IPV4, mark=mark)
        new = Command(Verb.NEW_SERVER, key, VirtualServer(scheduler))
        delete = Command(Verb.DELETE_SERVER, key)
        # First what is left of a trial whose headgate was killed.
        refusals = self.ipvs.send([delete, new, delete])
        return next((refusal.reason for refusal in refusals if refusal.index == 1), "")

    def _link(self, addresses: Sequence[str], *, bind: bool) -> Sequence[Refusal]:
        if not addresses:
            return ()
        return self.link.bind(addresses) if bind else self.link.unbind(addresses)

    def _not_held(self, addresses: Sequence[str], refusal: Refusal) -> Fault:
        return Fault(refusal.errno, refusal.reason, entry=bound(addresses[refusal.index]))

    def _sets(self, changes: Sequence[SetChange]) -> list[Fault]:
        if not changes:
            return []
        return [
            Fault(refusal.errno, refusal.reason, entry=changes[refusal.index].entry)
            for refusal in self.ipset.change(changes)
        ]

    def _commands(self, commands: Sequence[Owned]) -> list[Fault]:
        """Virtual servers before the real ones of new ones: one that is refused is another's."""
        made = {of.command.key for of in commands if of.command.verb is Verb.NEW_SERVER}
        filling = [of for of in commands if _fills(of.command, made)]
        faults = self._send([of for of in commands if not _fills(of.command, made)])
        refused = {f.command.key for f in faults if f.command and f.command.key in made}
        return faults + self._send([of for of in filling if of.command.key not in refused])

    def _send(self, commands: Sequence[Owned]) -> list[Fault]:
        if not commands:
            return []
        faults = []
        for refusal in self.ipvs.send([owned.command for owned in commands]):
            owner, command = commands[refusal.index]
            faults.append(Fault(refusal.errno, refusal.reason, owner, command))
        return faults


def _fills(command: Command, made: Collection[ServerKey]) -> bool:
    """Whether it gives a new virtual server its real ones."""
    return command.verb is Verb.NEW_REAL and command.key in made


def set_sysctls(settings: IpvsSettings) -> list[str]:
    """Set what IPVS needs of the network namespace; as `modes.ipvs.links.set_sysctls`."""
    return links.set_sysctls(strict_arp=settings.strict_arp, kernel_version=kernel_version())


def kernel_version() -> tuple[int, int]:
    """Major and minor, of releases like `6.1.0-28-amd64` and `6.12-rc1`."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _require(refusals: Sequence[object]) -> None:
    if refusals:
        raise KernelFault(f"a set cannot be filled: {refusals[0]}")
