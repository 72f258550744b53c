"""What would the kernel make of what the IPVS mode tells it? As strict as it is, and watchful.

After each single command it is looked at what packets and a headgate that is started anew would
meet, for it may be killed there.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import msgspec

from endpoints.addresses import family as family_of
from endpoints.names import Family
from endpoints.node import NodeView
from modes.base import Drift, Foreign, IpvsSettings
from modes.ipvs import ipsets
from modes.ipvs.census import Census
from modes.ipvs.draining import entry
from modes.ipvs.ipsets import Element, Extra, FoundSet, Kind, SetChange, SetName, SetSpec
from modes.ipvs.ipsets import SetVerb as Say
from modes.ipvs.kernel import Ipset, Ipvs
from modes.ipvs.links import Link
from modes.ipvs.lookout import Counts
from modes.ipvs.machine import Machine
from modes.ipvs.program import bound, registered
from modes.ipvs.rules import Rules
from modes.ipvs.servers import Command, FoundReal, FoundServer, RealServer, ServerKey, Verb
from modes.wire import Refusal

Sets = dict[SetName, dict[Element, Extra]]


class Kernel:
    """All of it at once: IPVS, sets, the link."""

    def __init__(self) -> None:
        self.servers: dict[ServerKey, FoundServer] = {}
        self.sets: Sets = {}
        self.specs: dict[SetName, SetSpec] = {}
        self.link: set[str] = set()
        self.unbindable: set[str] = set()
        self.unbound: set[str] = set()
        """Addresses that were taken from the link, of which nobody has read yet."""
        self.foreign: set[ServerKey] = set()
        self.busy: set[RealServer] = set()
        """Real servers that have connections."""
        self.log: list[str] = []
        """What became reachable, in order: virtual servers, and addresses."""
        self.steps = 0
        self.watches = True
        self.stops_after: int | None = None
        """So many commands, and whoever gives them is killed."""

    def machine(self) -> Machine:
        """What the mode opens."""
        return Opened(
            cast("Ipvs", _Ipvs(self)),
            cast("Ipset", _Ipset(self)),
            cast("Link", _Link(self)),
            cast("Census", _Census(self)),
        )

    def stepped(self) -> None:
        """One command is done: is all well?"""
        if self.watches:
            self.watch()
        self.steps += 1
        if self.stops_after is not None and self.steps >= self.stops_after:
            raise Killed

    def watch(self) -> None:
        """What must be true whenever it is looked."""
        for key, server in self.servers.items():
            if key in self.foreign:
                continue
            if key.address:
                assert self.held(registered(key)), f"{key} is nobody's"
            for real, at in server.reals.items():
                if at.weight == 0:
                    assert self.held(entry(key, real)), f"{key} -> {real} would drain for ever"
        for address in self.link:
            assert self.held(bound(address)), f"{address} is nobody's"
            self._watch_ports(address)

    def _watch_ports(self, address: str) -> None:
        """What is let in at an address of the link finds a virtual server."""
        family = family_of(address)
        admitted = self.sets.get(SetName(Kind.VIRTUAL_SERVERS, family), {})
        refused = {
            *self.sets.get(SetName(Kind.NO_ENDPOINTS, family), {}),
            *self.sets.get(SetName(Kind.NO_LOCAL_ENDPOINTS, family), {}),
        }
        for one in admitted:
            key = ServerKey(family, one.protocol, one.address, one.port)  # type: ignore[arg-type]
            if one.address == address and one not in refused:
                assert key in self.servers, f"a process of the node would answer for {key}"

    def held(self, one: ipsets.Entry) -> bool:
        """Whether an element is in its set."""
        return one.element in self.sets.get(one.set, {})

    def command(self, command: Command) -> int:
        """The errno of one command."""
        key, real = command.key, command.real
        have = self.servers.get(key)
        match command.verb:
            case Verb.NEW_SERVER:
                if have:
                    return errno.EEXIST
                assert command.server
                self.servers[key] = FoundServer(command.server, {})
                self.log.append(key.address)
            case Verb.DELETE_SERVER:
                if not have:
                    return errno.ESRCH
                assert key not in self.foreign
                del self.servers[key]
            case Verb.SET_SERVER:
                if not have:
                    return errno.ESRCH
                assert command.server
                assert key not in self.foreign
                self.servers[key] = FoundServer(command.server, have.reals)
            case _:
                return self._real(command, have, real)
        return 0

    def _real(self, command: Command, have: FoundServer | None, real: RealServer | None) -> int:
        if not have:
            return errno.ESRCH
        assert real
        assert command.key not in self.foreign
        reals = dict(have.reals)
        if (real in reals) is (command.verb is Verb.NEW_REAL):
            return errno.EEXIST if real in reals else errno.ENOENT
        if command.verb is Verb.DELETE_REAL:
            del reals[real]
        else:
            reals[real] = FoundReal(command.weight, active=int(real in self.busy))
        self.servers[command.key] = FoundServer(have.server, reals)
        return 0


class Killed(BaseException):
    """kill -9."""


class Opened(Machine):
    """Without the settings of the real kernel."""

    def prepare(self, settings: IpvsSettings) -> list[str]:
        assert isinstance(settings, IpvsSettings)
        return []


class _Ipvs:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.messages = 0

    def send(self, commands: Sequence[Command]) -> list[Refusal]:
        refusals = []
        for index, command in enumerate(commands):
            self.messages += 1
            if error := self._kernel.command(command):
                refusals.append(Refusal(index, error, errno.errorcode[error]))
            self._kernel.stepped()
        return refusals

    def servers(self, *, counted: bool) -> dict[ServerKey, FoundServer]:  # noqa: ARG002
        return {
            key: msgspec.structs.replace(of, reals=self.reals(key))
            for key, of in self._kernel.servers.items()
        }

    def server(self, key: ServerKey) -> FoundServer | None:
        return self._kernel.servers.get(key)

    def holds(self, key: ServerKey) -> bool:
        return key in self._kernel.servers

    def reals(self, key: ServerKey) -> dict[RealServer, FoundReal]:
        of = self._kernel.servers.get(key)
        busy = self._kernel.busy
        found = of.reals if of else {}
        return {r: FoundReal(at.weight, active=int(r in busy)) for r, at in found.items()}

    def close(self) -> None:
        pass


class _Ipset:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.messages = 0

    def names(self) -> set[str]:
        return {str(name) for name in self._kernel.sets}

    def find(self, name: SetName) -> FoundSet | None:
        if name not in self._kernel.sets:
            return None
        return FoundSet(self._kernel.specs[name], dict(self._kernel.sets[name]))

    def create(self, name: SetName, spec: SetSpec) -> None:
        assert name not in self._kernel.sets
        self._kernel.sets[name] = {}
        self._kernel.specs[name] = spec
        self._kernel.stepped()

    def replace(
        self, name: SetName, spec: SetSpec, elements: Mapping[Element, Extra]
    ) -> list[Refusal]:
        self._kernel.sets[name] = dict(elements)
        self._kernel.specs[name] = spec
        self._kernel.stepped()
        return []

    def destroy(self, name: SetName) -> bool:
        if self._kernel.sets.pop(name, None) is not None:
            self._kernel.stepped()
        return True

    def destroy_temporary(self) -> None:
        pass

    def change(self, changes: Sequence[SetChange]) -> list[Refusal]:
        for verb, (name, element), extra in changes:
            self.messages += 1
            if verb is Say.ADD:
                self._kernel.sets[name][element] = extra
            else:
                self._kernel.sets[name].pop(element, None)
            self._kernel.stepped()
        return []

    def close(self) -> None:
        pass


class _Census:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def count(self) -> Counts:
        held = {str(name): len(of) for name, of in self._kernel.sets.items()}
        sets = {name: 0 if "DRAINING" in name else number for name, number in held.items()}
        lost = frozenset(self._kernel.unbound)
        self._kernel.unbound.clear()
        servers = sum(key.family is Family.IPV4 for key in self._kernel.servers)
        return Counts(servers, sets, 7, lost)

    def close(self) -> None:
        pass


class _Link:
    messages = 0

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def addresses(self) -> frozenset[str]:
        return frozenset(self._kernel.link)

    def bind(self, addresses: Iterable[str]) -> list[Refusal]:
        refusals = []
        for index, address in enumerate(addresses):
            if address in self._kernel.unbindable:
                refusals.append(Refusal(index, errno.EACCES, "Permission denied (EACCES)"))
                continue
            self._kernel.link.add(address)
            self._kernel.log.append(f"bound {address}")
            self._kernel.stepped()
        return refusals

    def unbind(self, addresses: Iterable[str]) -> list[Refusal]:
        for address in addresses:
            self._kernel.link.discard(address)
            self._kernel.unbound.add(address)
            self._kernel.stepped()
        return []

    def remove_if_empty(self) -> bool:
        return not self._kernel.link

    def close(self) -> None:
        pass


class NoRules:
    """iptables, which the laws about servers and sets do not need."""

    families = tuple(Family)
    are_of_another_mode = False
    whose = "ours"

    are_disturbed = False

    def look(self, *, again: bool) -> list[str]:
        assert isinstance(again, bool)
        return []

    def write(self, node: NodeView) -> int:
        assert isinstance(node, NodeView)
        return 0

    def glance(self) -> tuple[Foreign, ...]:
        return ()

    def drift(self) -> Drift:
        return Drift()


def no_rules() -> Rules:
    """Of the type that the mode wants."""
    return cast("Rules", NoRules())
