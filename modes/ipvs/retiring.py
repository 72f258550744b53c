"""Which rules does IPVS need while connections live on it and another mode serves?

Chains of their own name, which no mode takes for its own: whoever serves may write all others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from endpoints.names import Family
from modes.base import ModeSettings, Tell
from modes.ipvs.adopt import KUBE_PROXY, OURS
from modes.ipvs.chains import ASKED
from modes.ipvs.ipsets import Kind, SetName
from modes.xtables import adopt, trials
from modes.xtables.abilities import Abilities
from modes.xtables.adopt import Found
from modes.xtables.chains import IPVS_FILTER, Chain, Guest, Skeleton, reject, remark
from modes.xtables.delta import Changes, Gone, Placed, Program
from modes.xtables.host import host_variant
from modes.xtables.kernel import Kernel
from modes.xtables.names import Table
from modes.xtables.probe import abilities
from modes.xtables.retire import observed
from modes.xtables.rules import ACCEPT, MASQUERADE, RETURN, ChainName, Rule, SetMatch
from modes.xtables.transaction import script

NAME = "KUBE-RETIRING"
FILTER, NAT = ChainName(Table.FILTER, NAME), ChainName(Table.NAT, NAME)

_PING = {Family.IPV4: "icmp", Family.IPV6: "ipv6-icmp"}


def skeleton(family: Family, able: Abilities) -> Skeleton:
    """The chains and jumps of one family."""
    rules = tuple(_filter(family, able))
    note = remark(able, "the node itself, from an address that it holds for services")
    held = (SetMatch(str(SetName(Kind.IPVS_IPS, family)), "src"),)
    masquerade = Rule(MASQUERADE, comment=note, sets=held, random_fully=able.random_fully)
    note = remark(able, "what another mode has taken the place of")

    def jump(base: str, to: ChainName, *states: str) -> Guest:
        return Guest(ChainName(to.table, base), Rule(to.name, ct_state=states, comment=note))

    return Skeleton(
        {FILTER: Chain(rules), NAT: Chain((masquerade,))},
        (
            jump("INPUT", FILTER, "NEW"),
            jump("OUTPUT", FILTER, "NEW"),
            jump("FORWARD", FILTER, "ESTABLISHED", "RELATED"),
            jump("POSTROUTING", NAT),
        ),
    )


def _filter(family: Family, able: Abilities) -> Iterator[Rule]:
    """New connections have been translated by who serves now; what comes here was not.

    Unless it goes to the node itself: nothing in the set of what is refused is an address of that.
    """

    def to(kind: Kind, directions: str = "dst,dst") -> tuple[SetMatch, ...]:
        return (SetMatch(str(SetName(kind, family)), directions),)

    def refuse(sets: tuple[SetMatch, ...], text: str) -> Iterator[Rule]:
        note = remark(able, text)
        for protocol in ("tcp", ""):
            yield msgspec.structs.replace(reject(family, protocol), comment=note, sets=sets)

    note = remark(able, "answers of connections that IPVS has")
    yield Rule(ACCEPT, ct_state=("ESTABLISHED", "RELATED"), comment=note)
    yield Rule(RETURN, protocol=_PING[family])
    yield from refuse(to(Kind.NO_ENDPOINTS), "virtual servers that take no new connections")
    yield Rule(RETURN, sets=to(Kind.VIRTUAL_SERVERS))
    text = "no process of the node answers for services"
    yield from refuse(to(Kind.IPVS_IPS, "dst"), text)


class RetiringRules:
    """These chains, in the variant of iptables that this host uses."""

    def __init__(self, settings: ModeSettings, tell: Tell) -> None:
        """Nothing is asked yet."""
        self._settings = settings
        self._tell = tell

    def whose(self) -> str:
        """Whose servers and sets are left: OURS, or KUBE_PROXY where nothing says that.

        Raises KernelFault and EnvironmentFault.
        """
        for _, _, found in observed(self._tell):
            if FILTER in found or any(ASKED in rule for rule in found.get(IPVS_FILTER, ())):
                return OURS
        return KUBE_PROXY

    def write(self, families: Collection[Family]) -> None:
        """Make them; the sets that they ask are there. Raises KernelFault and EnvironmentFault."""
        variant = host_variant(self._settings.iptables_variant).variant
        for kernel, family, found in observed(self._tell):
            if kernel.variant is not variant or family not in families:
                continue
            able = abilities(kernel, family, (trials.COMMENT, trials.RANDOM_FULLY))
            program = Program(family, skeleton(family, able))
            led = {placed.chain for placed in adopt.jumps(family, found, (FILTER, NAT))}
            guests = [Placed(None, *one) for one in program.guests if one[0] not in led]
            changes = Changes(new=program.whole(program.frames), guests=guests)
            kernel.restore(family, script(program, changes, in_blocks=False).text)

    def remove(self) -> None:
        """Remove them from both variants. Raises KernelFault and EnvironmentFault."""
        for kernel, family, found in observed(self._tell):
            remove(kernel, family, found)


def remove(kernel: Kernel, family: Family, found: Found) -> None:
    """Remove them from where they were found, if they were. Raises KernelFault."""
    there = [chain for chain in (FILTER, NAT) if chain in found]
    if there:
        deleted = adopt.jumps(family, found, there)
        changes = Changes(deleted=deleted, gone=[Gone(None, chain) for chain in there])
        program = Program(family, Skeleton({}, ()))
        kernel.restore(family, script(program, changes, in_blocks=False).text)
