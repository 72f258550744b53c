"""What do Services want of IPVS, and who of them wants what? Pure.

As a mode that is started now would find out: with the marks that are in use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

import msgspec

from endpoints.names import Family
from endpoints.node import NodeView
from endpoints.plan import FrontendKind, ServicePlan, TrafficPolicy
from modes.base import IpvsSettings, ModeSettings
from modes.ipvs import schedulers
from modes.ipvs.adopt import Found, marks
from modes.ipvs.fragment import Choice, Fragment, render
from modes.ipvs.ipsets import PLAIN, Entry, Kind
from modes.ipvs.marks import Layout, Marks, Owner
from modes.ipvs.program import Goal
from modes.ipvs.servers import ServerKey, VirtualServer


class Wishes(msgspec.Struct, frozen=True):
    """Everything that some Services want."""

    goal: Goal
    names: dict[Entry, list[str]]
    """Who needs an entry: `namespace/name:port`."""
    holders: dict[str, list[str]]
    """Who needs an address on the link."""
    own: dict[tuple[str, Family], Fragment]
    """By name and family of a Service port."""


def wishes(
    plans: Iterable[ServicePlan],
    found: Found,
    node: NodeView,
    settings: ModeSettings,
    works: AbstractSet[str],
) -> Wishes:
    """What these plans want. `works`: the schedulers that the kernel is known to have."""
    plans = tuple(plans)
    layout = Layout(settings.masquerade_bit)
    in_use = {key.mark for key in found.servers}
    choice = Choice(
        Marks(layout, _marks(plans, found, layout), in_use).of,
        lambda plan: _server(plan, settings.ipvs, works),
    )
    goal, addresses = Goal(), set[str]()
    made = Wishes(goal, defaultdict(list), defaultdict(list), {})
    for plan in plans:
        fragment = render([plan], node, choice)
        name = str(plan.name)
        made.own[name, plan.family] = fragment
        goal.servers |= fragment.servers
        goal.silent |= fragment.silent
        goal.entries |= {**dict.fromkeys(fragment.shared, PLAIN), **fragment.entries}
        addresses |= fragment.addresses
        for one in (*fragment.entries, *fragment.shared):
            made.names[one].append(name)
        for address in fragment.addresses:
            made.holders[address].append(name)
    goal.addresses = addresses
    return made


def _server(plan: ServicePlan, settings: IpvsSettings, works: AbstractSet[str]) -> VirtualServer:
    """How a Service port chooses; as the node does, where the kernel has no such scheduler."""
    wanted = schedulers.asked(plan, settings)
    if wanted.scheduler in works:
        return wanted
    return schedulers.asked(msgspec.structs.replace(plan, scheduler=""), settings)


def _marks(plans: Iterable[ServicePlan], found: Found, layout: Layout) -> dict[Owner, int]:
    """The marks in use; one that no element names any more is known by its real servers."""
    entries = {
        Entry(name, element): extra
        for name, of in found.sets.items()
        if name.kind is Kind.LOCAL_BYPASS
        for element, extra in of.elements.items()
    }
    taken = marks(entries, layout)
    used = {(family, mark) for (family, _), mark in taken.items()}
    nameless = [
        key
        for key in found.servers
        if layout.is_ours(key.mark) and (key.family, key.mark) not in used
    ]
    for plan in plans if nameless else ():
        owner = plan.family, plan.name
        if owner not in taken and _is_bypassed(plan):
            key = next(_serving(plan, nameless, found), None)
            if key is not None:
                nameless.remove(key)
                taken[owner] = key.mark
    return taken


def _is_bypassed(plan: ServicePlan) -> bool:
    """Whether it has a frontend whose policy pods and the node itself bypass."""
    return any(
        frontend.policy is TrafficPolicy.LOCAL and frontend.kind is not FrontendKind.CLUSTER_IP
        for frontend in plan.frontends
    )


def _serving(plan: ServicePlan, keys: Iterable[ServerKey], found: Found) -> Iterator[ServerKey]:
    """The virtual servers that lead to all of a plan's endpoints."""
    wanted = {(endpoint.address, endpoint.port) for endpoint in plan.cluster}
    for key in keys:
        reals = found.servers[key].reals
        if key.family is plan.family and wanted == {(real.address, real.port) for real in reals}:
            yield key
