"""What did the kernel hold of the iptables mode when it was looked at? Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from math import inf

import msgspec

from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from endpoints.nodeports import is_loopback
from endpoints.plan import ServicePlan
from modes.base import ModeSettings, Plans
from modes.held import EVERYTHING, Difference, DifferenceKind, DumpedService, Only
from modes.iptables import belonging
from modes.iptables.belonging import Found
from modes.iptables.differences import Said, Wrongs, told
from modes.iptables.dump import services_in
from modes.iptables.part import divided, forgive_others, part
from modes.iptables.rendering import Rendering
from modes.iptables.skeleton import skeleton
from modes.iptables.wanted import Wanted, abilities
from modes.xtables import adopt
from modes.xtables.chains import FIREWALL
from modes.xtables.compared import compared
from modes.xtables.names import Table
from modes.xtables.remembered import Remembered
from modes.xtables.rules import ChainName
from modes.xtables.script import Counted, read_counted

VERSION = 1


class Looked(msgspec.Struct, frozen=True):
    """What was read of a machine; the document of a snapshot."""

    variant: str
    """`nft` or `legacy`."""
    saved: Mapping[Family, str]
    """ what `iptables-save -c` printed, or as much of it as was asked for."""
    version: int = VERSION
    only: Only = EVERYTHING
    """What was asked for."""
    remembered: Mapping[str, tuple[Remembered, ...]] = {}
    """What lists of xt_recent held, by their names."""
    has_recent: bool = True
    """Whether the kernel had xt_recent."""
    drops_invalid: bool = True
    """Whether conntrack was strict (net.netfilter.nf_conntrack_tcp_be_liberal was 0)."""
    routes_localhost: bool = False
    """Whether net.ipv4.conf.all.route_localnet was 1."""
    unread: Mapping[Family, tuple[ChainName, ...]] = {}
    """Chains of Services that were there, and that nothing of those that were asked for leads to:
    what is in them was not looked at."""
    other_variant: str = ""
    """The other kind of iptables, if it held Service rules too."""


class IptablesHeld:
    """Tables of both families, and what they mean. A `Held`."""

    def __init__(
        self,
        looked: Looked,
        only: Only,
        settings: ModeSettings,
        counted: Mapping[Family, Counted] | None = None,
    ) -> None:
        """`counted`: the same as `looked.saved`, if somebody has read it already."""
        self._looked = looked
        self._settings = settings
        self._only = looked.only if only.all else only
        self._counted = counted or {
            family: read_counted(text) for family, text in looked.saved.items()
        }

    @cached_property
    def services(self) -> tuple[DumpedService, ...]:
        """What was held of those that were asked for, by Service; sorted by name."""
        return services_in(
            {family: of.chains for family, of in self._counted.items()},
            {family: of.packets for family, of in self._counted.items()},
            self._looked.remembered,
            self._only,
        )

    def differences(
        self, node: NodeView, services: Mapping[ObjectName, tuple[ServicePlan, ...]]
    ) -> tuple[Difference, ...]:
        """What should be otherwise, sorted: of those that were asked for, and of no Service."""
        said = [one for family in self._counted for one in self._said(family, node, services)]
        return told([*said, *self._of_the_machine(node)])

    def native(self) -> tuple[str, ...]:
        """The chains and rules of those that were asked for, as iptables-save prints them."""
        return tuple(line for family in self._counted for line in self._lines(family))

    def document(self) -> object:
        """All that was read, as values of JSON."""
        document: object = msgspec.to_builtins(self._looked)
        return document

    def _said(
        self, family: Family, node: NodeView, services: Mapping[ObjectName, Plans]
    ) -> Iterator[Said]:
        """What is wrong in one family."""
        found: Found = self._counted[family].chains
        able = abilities(found, has_recent=self._looked.has_recent)
        style = Rendering(able, self._settings.masquerade_bit)
        wanted = Wanted(family, node, style)
        frames = skeleton(
            node,
            family,
            style,
            drops_invalid=self._looked.drops_invalid,
            localnet_was_off=family is Family.IPV4 and self._localnet_was_off(node, found),
        )
        asked, others = divided(services, self._only, family)
        program = wanted.program(frames, asked, found)
        is_asked = self._is_asked(wanted)
        if not self._only.all:
            of_others = {one for plans in others.values() for one in wanted.shared(plans)}
            unread = frozenset(self._looked.unread.get(family, ()))
            found = part(program, found, is_asked, of_others, unread, is_named=able.comment)
        changes = adopt.difference(program, found, bulk=inf)
        if not self._only.all:
            changes = forgive_others(changes, found, family)
        wrongs = Wrongs(program, wanted, found, is_asked)
        yield from wrongs.said(changes, compared(changes, found))

    def _is_asked(self, wanted: Wanted) -> Callable[[str], bool]:
        """Whether a Service of this name is meant; of some rules the port is not known."""
        if self._only.all:
            return lambda _: True
        of_family = (of.name for of in self.services if of.family == wanted.family)
        names = {*wanted.names(), *of_family}
        names |= {belonging.object_of(name) for name in names}
        service = belonging.object_of(self._only.service)
        return lambda name: (
            name != "" and (name in names or name == service or self._only.names(name))
        )

    def _localnet_was_off(self, node: NodeView, found: Found) -> bool:
        return _serves_loopback(node) and (
            adopt.says_localnet_was_off(found) or not self._looked.routes_localhost
        )

    def _of_the_machine(self, node: NodeView) -> Iterator[Said]:
        if _serves_loopback(node) and not self._looked.routes_localhost:
            what = "net.ipv4.conf.all.route_localnet = 1, for NodePorts on 127.0.0.1,"
            yield Said("", DifferenceKind.MISSING, what, "sysctls")
        if self._looked.other_variant:
            what = f"Service rules beside those in iptables ({self._looked.variant})"
            place = f"iptables ({self._looked.other_variant})"
            yield Said("", DifferenceKind.EXTRA, what, place)

    def _lines(self, family: Family) -> Iterator[str]:
        found = self._counted[family].chains
        chosen: dict[ChainName, tuple[str, ...]] = {}
        if self._only.all:
            for chain, specs in found.items():
                if _is_of_a_proxy(chain):
                    chosen[chain] = tuple(specs)
                elif jumps := [one for one in specs if _is_jump(chain, one)]:
                    chosen[chain] = tuple(jumps)
        else:
            names = {of.name for of in self.services if of.family == family}
            names |= {belonging.object_of(name) for name in names}
            chosen |= belonging.selected(found, lambda name: name in names)
        for table in Table:
            of_table = {chain: of for chain, of in chosen.items() if chain.table is table}
            if of_table:
                yield from (f"# {family}", f"*{table}")
                yield from (f":{chain.name} {_policy(chain)} [0:0]" for chain in of_table)
                for chain, rules in of_table.items():
                    yield from (f"-A {chain.name} {one}" for one in rules)
                yield "COMMIT"


def recalled(document: object) -> Looked:
    """What `IptablesHeld.document` wrote down. Raises ValueError for one of another version."""
    version = document.get("version") if isinstance(document, dict) else None
    if version != VERSION:
        raise ValueError(f"tables of iptables of version {version!r}; this program reads {VERSION}")
    try:
        return msgspec.convert(document, Looked)
    except msgspec.ValidationError as fault:
        raise ValueError(f"tables of iptables cannot be read: {fault}") from None


def _is_of_a_proxy(chain: ChainName) -> bool:
    """Whether a chain is one of ours, or the one that we share with the kubelet."""
    return adopt.is_ours(chain) or chain == FIREWALL


def _is_jump(chain: ChainName, spec: str) -> bool:
    return _is_of_a_proxy(ChainName(chain.table, adopt.target(spec)))


def _policy(chain: ChainName) -> str:
    return "ACCEPT" if chain.name in adopt.BUILT_IN else "-"


def _serves_loopback(node: NodeView) -> bool:
    return any(map(is_loopback, node.node_ports_v4.addresses))
