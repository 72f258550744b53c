"""Which rules should a kernel hold, in the words in which it holds them? Pure.

What depends on the host is read from the rules themselves, and a Service may be written in either
of two forms: which one was decided when it was written (decision 0008).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from endpoints.plan import ServicePlan
from modes.base import Plans
from modes.iptables.belonging import Found
from modes.iptables.fragment import count_endpoints, render
from modes.iptables.program import ServiceProgram, written
from modes.iptables.rendering import LARGE_CLUSTER, Rendering
from modes.xtables import chains
from modes.xtables.abilities import Abilities
from modes.xtables.adopt import is_ours
from modes.xtables.chains import Skeleton
from modes.xtables.delta import Written
from modes.xtables.rules import ChainName


def abilities(found: Found, *, has_recent: bool) -> Abilities:
    """What the host's iptables could when our rules were written.

    Where there are none, what most hosts can. `has_recent`: whether the kernel has xt_recent.
    """
    masquerading = [one for one in found.get(chains.POSTROUTING, ()) if "-j MASQUERADE" in one]
    counting = (chains.FORWARD, chains.NAT_NODEPORTS)
    ours = [one for chain, specs in found.items() if is_ours(chain) for one in specs]
    return Abilities(
        comment=not ours or any("--comment" in one for one in ours),
        recent=has_recent,
        random_fully=not masquerading or any("--random-fully" in one for one in masquerading),
        counters=any("--nfacct-name" in one for chain in counting for one in found.get(chain, ())),
    )


class Wanted:
    """The program of one family, and whose each part of it is."""

    def __init__(self, family: Family, node: NodeView, style: Rendering) -> None:
        """Without any Service; `style` says what the host can."""
        self.family = family
        self._node = node
        self._style = style
        self._styles: dict[ObjectName, Rendering] = {}
        self._plans: dict[ObjectName, Plans] = {}

    def program(
        self, skeleton: Skeleton, services: Mapping[ObjectName, Plans], found: Found
    ) -> ServiceProgram:
        """What the kernel should hold, each Service in the form that fits what was found best.

        `services` have plans of this family only.
        """
        self._plans = dict(services)
        total = sum(count_endpoints(plans, self.family) for plans in self._plans.values())
        usual = msgspec.structs.replace(self._style, large=total > LARGE_CLUSTER)
        program = ServiceProgram(self.family, skeleton)
        fragments: dict[ObjectName, Written] = {}
        for name, plans in self._plans.items():
            fragments[name] = self._fitting(name, plans, usual, found)
        program.commit(fragments)
        return program

    def names(self) -> Iterator[str]:
        """The Service ports: `namespace/name:port`."""
        return (str(plan.name) for plans in self._plans.values() for plan in plans)

    def plans(self) -> Iterator[ServicePlan]:
        """All of them."""
        return (plan for plans in self._plans.values() for plan in plans)

    def shared(self, plans: Plans) -> tuple[tuple[ChainName, str], ...]:
        """The rules of plans in chains that Services share, in whichever form."""
        return self._written(plans, self._style).shared

    def parts(self, name: ObjectName) -> Iterator[tuple[str, Written]]:
        """The fragment of a Service, port by port; some rules are of several."""
        for plan in self._plans.get(name, ()):
            yield str(plan.name), self._written((plan,), self._styles[name])

    def _fitting(self, name: ObjectName, plans: Plans, usual: Rendering, found: Found) -> Written:
        style, best = usual, self._written(plans, usual)
        if any(tuple(found.get(chain, ())) != specs for chain, specs in best.chains.items()):
            other = msgspec.structs.replace(usual, large=not usual.large)
            second = self._written(plans, other)
            if _agreement(second, found) > _agreement(best, found):
                style, best = other, second
        self._styles[name] = style
        return best

    def _written(self, plans: Plans, style: Rendering) -> Written:
        fragment = render(plans, self._node, {self.family: style}).get(self.family)
        return written(self.family, fragment)


def _agreement(of: Written, found: Found) -> int:
    """How many rules of the Service's own chains are as they were found."""
    return sum(
        (Counter(specs) & Counter(found.get(chain, ()))).total()
        for chain, specs in of.chains.items()
    )
