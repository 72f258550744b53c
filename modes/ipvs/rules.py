"""How do the constant rules of the IPVS mode come into iptables, and are they still there?"""

from __future__ import annotations

import msgspec

from endpoints.names import Family
from endpoints.node import NodeView
from modes.base import Drift, EnvironmentFault, Foreign, ForeignWatch, ModeSettings, Tell
from modes.ipvs import retiring
from modes.ipvs.adopt import OURS
from modes.ipvs.chains import skeleton, whose
from modes.ipvs.marks import Layout
from modes.xtables import adopt, trials
from modes.xtables.abilities import Abilities
from modes.xtables.adopt import Found
from modes.xtables.chains import IPVS_FILTER
from modes.xtables.cleanup import leave
from modes.xtables.delta import Program
from modes.xtables.host import host_variant
from modes.xtables.kernel import Kernel, installed, set_route_localnet
from modes.xtables.probe import abilities
from modes.xtables.script import read
from modes.xtables.transaction import Order, script
from modes.xtables.variant import Chosen, Variant
from modes.xtables.witness import Witness


class Rules:
    """The rules of both families, in the variant of iptables that this host uses."""

    def __init__(self, settings: ModeSettings, layout: Layout, tell: Tell) -> None:
        """Nothing is asked yet."""
        self._settings = settings
        self._layout = layout
        self._tell = tell
        self._kernel: Kernel | None = None
        self._found: dict[Family, Found] = {}
        self._abilities: dict[Family, Abilities] = {}
        self._programs: dict[Family, Program] = {}
        self._leaves_other = False
        self._witness = Witness()
        self._chosen: Chosen | None = None
        self._warnings: list[str] = []
        self._is_trusted = False
        self._is_drifted = False

    def watch(self) -> ForeignWatch | None:
        """What hears of changes of them; None where iptables-legacy holds them.

        Raises OSError and EnvironmentFault.
        """
        self._chosen = host_variant(self._settings.iptables_variant)
        return self._witness.listen(self._chosen.variant)

    def glance(self) -> tuple[Foreign, ...]:
        """What others did to them that `watch` does not hear."""
        return self._witness.glance(self._kernel.variant).foreign if self._kernel else ()

    @property
    def families(self) -> tuple[Family, ...]:
        """Those that iptables serves here."""
        return tuple(self._abilities)

    @property
    def are_of_another_mode(self) -> bool:
        """Whether the rules that were found, in either variant, translate without IPVS."""
        return self._leaves_other or any(
            adopt.holds_ours(f) and IPVS_FILTER not in f for f in self._found.values()
        )

    @property
    def whose(self) -> str:
        """Whose the rules are that were found: OURS, KUBE_PROXY, or nobody's."""
        if self._is_trusted:
            return OURS
        return whose(self._found.values())

    @property
    def are_disturbed(self) -> bool:
        """Whether anybody else may have changed them since they were written."""
        if self._kernel is None or not self._programs or self._is_drifted:
            return True
        return self._witness.is_disturbed(self._kernel.variant)

    def look(self, *, again: bool) -> list[str]:
        """See what is there. Returns what this host's iptables does not do, a sentence each.

        `again`: for the same node as before. Then the variant is that of before too, and rules that
        nobody disturbed are as they were written: none of the 30 programs is started that it takes
        to choose and to read. Raises EnvironmentFault.
        """
        if not again and self._programs:
            self._chosen = None
        self._is_trusted = again and not self.are_disturbed
        if not self._is_trusted:
            chosen = self._chosen or host_variant(self._settings.iptables_variant)
            self._chosen = None  # chosen anew the next time, unless this goes well
            self._warnings = self._look(chosen)
            # What the other variant holds of a proxy's, `write` removes.
            self._chosen = msgspec.structs.replace(chosen, both="")
        return self._warnings

    def _look(self, chosen: Chosen) -> list[str]:
        warnings = [chosen.both] if chosen.both else []
        self._leaves_other = bool(chosen.both)
        if self._kernel is None or self._kernel.variant is not chosen.variant:
            self._kernel = Kernel(chosen.variant, self._tell, witness=self._witness)
            self._abilities = {}
        self._witness.settle(chosen.variant)
        self._found = {}
        for family in Family:
            try:
                self._found[family] = read(self._kernel.save(family))
                if family not in self._abilities:
                    asked = trials.OPTIONAL_FOR_IPVS
                    self._abilities[family] = abilities(self._kernel, family, asked)
            except EnvironmentFault as fault:
                if family is Family.IPV4:
                    raise
                self._found.pop(family, None)
                self._abilities.pop(family, None)
                warnings.append(f"Services have no {family} here: {fault}")
        if not all(of.random_fully for of in self._abilities.values()):
            warnings.append(
                "source ports are drawn in order: MASQUERADE has no --random-fully here"
            )
        if not all(of.ipvs for of in self._abilities.values()):
            warnings.append(
                "what IPVS sends to an address of this node is judged again there: no xt_ipvs here"
            )
        return warnings

    def write(self, node: NodeView) -> int:
        """Make them as they shall be for this node; the sets that they ask are there.

        Rules of kube-proxy and of our other modes go with the same transactions. Returns how many
        lines that took. Raises KernelFault and EnvironmentFault.
        """
        lines = 0
        if self._is_trusted:
            self._is_trusted = False
            return lines
        kernel = self._asked()
        for family in self._abilities:
            program = self._program(node, family)
            found = self._found.pop(family, None)
            if found is None:
                found = read(kernel.save(family))
            changes = adopt.difference(program, found)
            if changes:
                in_blocks = kernel.variant is Variant.NFT
                text = script(program, changes, in_blocks=in_blocks, order=Order.BEFORE)
                kernel.restore(family, text.text)
                lines += text.lines
            retiring.remove(kernel, family, found)
            if adopt.says_localnet_was_off(found):
                set_route_localnet(on=False)
            self._programs[family] = program
            self._witness.expect(family, program.guests)
        self._is_drifted = False
        if self._leaves_other:
            self._leave_other()
        return lines

    def drift(self) -> Drift:
        """What differs from what was written, a rule each."""
        missing, extra, different = [], [], []
        for family, program in self._programs.items():
            found = read(self._asked().save(family))
            drift = adopt.drift(adopt.difference(program, found), found)
            missing += [f"{family} {rule}" for rule in drift.missing]
            extra += [f"{family} {rule}" for rule in drift.extra]
            different += [f"{family} {rule}" for rule in drift.different]
        self._is_drifted = bool(missing or extra or different)
        return Drift(tuple(missing), tuple(extra), tuple(different))

    def _leave_other(self) -> None:
        """Remove what a proxy left in the other variant; ours is in, so nothing waits for it."""
        self._leaves_other = False
        kernel = self._asked()
        other = Kernel(next(v for v in Variant if v is not kernel.variant), self._tell)
        for family in self._abilities:
            if installed(family, other.variant):
                leave(other, family, read(other.save(family)), guards_localhost=False)
        self._tell("Removed what a proxy left", routine=True, variant=other.variant)

    def _program(self, node: NodeView, family: Family) -> Program:
        return Program(family, skeleton(node, family, self._abilities[family], self._layout))

    def _asked(self) -> Kernel:
        if self._kernel is None:
            raise RuntimeError("look() comes first")
        return self._kernel
