"""What of the rules concerns only some Services, and what concerns all? Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import ip_network

import msgspec

from endpoints.addresses import contains
from endpoints.names import Family, ObjectName
from endpoints.plan import ServicePlan
from modes.base import Plans
from modes.held import Only
from modes.iptables import belonging
from modes.iptables.belonging import Found
from modes.iptables.program import ServiceProgram
from modes.xtables import adopt, chains
from modes.xtables.delta import Changes
from modes.xtables.restore import Unreadable, parse
from modes.xtables.rules import ChainName

_EVERYTHING = {Family.IPV4: "0.0.0.0/0", Family.IPV6: "::/0"}


def divided(
    services: Mapping[ObjectName, Plans], only: Only, family: Family
) -> tuple[dict[ObjectName, Plans], dict[ObjectName, Plans]]:
    """The plans of one family that are asked for, and the other ones of the same Services."""
    asked: dict[ObjectName, Plans] = {}
    others: dict[ObjectName, Plans] = {}
    for name, plans in services.items():
        own = tuple(plan for plan in plans if plan.family is family)
        if meant := tuple(plan for plan in own if _is_meant(plan, only)):
            asked[name] = meant
            others[name] = tuple(plan for plan in own if plan not in meant)
    return asked, others


def _is_meant(plan: ServicePlan, only: Only) -> bool:
    """A NodePort is reached at any address."""
    if only.all:
        return True
    if only.service:
        return only.names(str(plan.name))
    return plan.name.protocol is only.protocol and any(
        frontend.port == only.port and frontend.address in (only.address, None)
        for frontend in plan.frontends
    )


def part(
    program: ServiceProgram,
    found: Found,
    is_asked: Callable[[str], bool],
    others: Collection[tuple[ChainName, str]],
    unread: Collection[ChainName],
    *,
    is_named: bool,
) -> dict[ChainName, Sequence[str]]:
    """What was found, without the rules of Services that are not asked for.

    What was not read is as it should be. Chains of Services go too if nobody can tell of which:
    they may be of any.

    `others`: rules of shared chains for other ports of the same Services, of which comments may
    not tell the port. `unread`: chains of Services to which nothing of those that are asked for
    leads. `is_named`: the kernel takes comments; then a rule whose Service cannot be told is
    nobody's.
    """
    known = {chain for of in program.fragments.values() for chain in of.chains}
    shared = {rule for of in program.fragments.values() for rule in of.shared}
    owners = defaultdict(str, belonging.owners(found))

    def stays(chain: ChainName, spec: str) -> bool:
        target = ChainName(chain.table, adopt.target(spec))
        owner = belonging.service_of(spec) or owners[target]
        return is_asked(owner) if owner else is_named and target not in unread

    kept: dict[ChainName, Sequence[str]] = {}
    for chain, specs in found.items():
        if chain in program.frames and program.frames[chain].is_shared:
            frame = {*program.frames[chain].head, *program.frames[chain].tail}
            kept[chain] = [
                one
                for one in specs
                if one in frame
                or (chain, one) in shared
                or ((chain, one) not in others and stays(chain, one))
            ]
        elif not belonging.is_of_a_service(chain) or chain in known or is_asked(owners[chain]):
            kept[chain] = specs
    for fragment in program.fragments.values():
        kept |= {chain: of for chain, of in fragment.chains.items() if chain in unread}
    return kept


def forgive_others(changes: Changes, found: Found, family: Family) -> Changes:
    """Let the network of all cluster IPs hold more than those that are asked for."""
    have = found.get(chains.UNKNOWN_PORTS, ())
    rewritten = [
        whole
        for whole in changes.rewritten
        if whole.chain != chains.UNKNOWN_PORTS or not _covers(have, whole.specs, family)
    ]
    return msgspec.structs.replace(changes, rewritten=rewritten)


def _covers(have: Sequence[str], wanted: Sequence[str], family: Family) -> bool:
    """Whether the only rule that is there does what the only one that is wanted does."""
    try:
        held, needed = ([parse(one, family) for one in of] for of in (have, wanted))
    except Unreadable:
        return False
    if len(held) != 1 or not needed:
        return len(held) == 1
    wide, narrow = held[0], needed[0]
    network = ip_network(narrow.destination)
    return msgspec.structs.replace(wide, destination=narrow.destination) == narrow and all(
        contains(wide.destination or _EVERYTHING[family], str(address))
        for address in (network.network_address, network.broadcast_address)
    )
