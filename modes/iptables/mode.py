"""How does the iptables mode keep the kernel equal to the plans?

Steps only: what to write is worked out in `fragment`, `delta` and `adopt`, how to write it in
`restore` and `transaction`, and `kernel` has it written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from modes.base import (
    Adopted,
    ApplyReport,
    Delta,
    Drift,
    EnvironmentFault,
    ForeignWatch,
    Glance,
    KernelFault,
    ModeSettings,
    Plans,
    Tell,
    nothing,
    total,
)
from modes.iptables.fragment import count_endpoints, render
from modes.iptables.localnet import Localnet, serves_loopback
from modes.iptables.program import ServiceProgram, written
from modes.iptables.rendering import LARGE_CLUSTER, Rendering, lacking
from modes.iptables.skeleton import skeleton
from modes.xtables import adopt
from modes.xtables.adopt import Found
from modes.xtables.chains import ROUTE_LOCALNET_WAS_OFF, Skeleton
from modes.xtables.cleanup import clean_up, leave
from modes.xtables.delta import BULK, EVERYTHING, NOTHING, Changes, Written
from modes.xtables.host import host_variant
from modes.xtables.kernel import (
    Kernel,
    Refused,
    drops_invalid,
    installed,
)
from modes.xtables.probe import abilities
from modes.xtables.retire import IN_IPTABLES, give_way
from modes.xtables.script import Script, read
from modes.xtables.transaction import Order, script
from modes.xtables.variant import Chosen, Variant
from modes.xtables.witness import Witness


class IptablesMode:
    """The iptables back end; see README.md for the chains. One thread uses it.

    Programs are started in the network namespace of the calling thread.
    """

    name = "iptables"

    def __init__(self, settings: ModeSettings, tell: Tell) -> None:
        """Nothing is asked and nothing is known yet."""
        self._settings = settings
        self._tell = tell
        self._witness = Witness()
        self._chosen: Chosen | None = None
        self._using: Kernel | None = None
        self._node: NodeView | None = None
        self._styles: dict[Family, Rendering] = {}
        self._skeletons: dict[Family, Skeleton] = {}
        self._programs: dict[Family, ServiceProgram] = {}
        self._found: dict[Family, Found] = {}
        self._leaves_other = False
        self._localnet = Localnet()

    @property
    def _kernel(self) -> Kernel:
        if self._using is None:
            raise RuntimeError("start() comes first")
        return self._using

    @property
    def _other(self) -> Kernel:
        """The variant that this host does not use."""
        return Kernel(next(v for v in Variant if v is not self._kernel.variant), self._tell)

    def close(self) -> None:
        """Forget what was found; the rules stay."""
        self._found = {}

    def read_ahead(self, done: Callable[[], None] = nothing) -> None:
        """Nothing is read ahead: iptables-save must see no table that we write meanwhile."""
        done()

    def start(self, node: NodeView) -> Adopted:
        """Look at what the kernel holds for this node. Writes nothing that stays: `replace` does.

        Raises EnvironmentFault.
        """
        chosen = self._chosen or host_variant(self._settings.iptables_variant)
        self._chosen = None
        if self._using is None or self._using.variant is not chosen.variant:
            self._using = Kernel(chosen.variant, self._tell, witness=self._witness)
            self._styles = {}
        warnings = [chosen.both] if chosen.both else []
        self._leaves_other = bool(chosen.both)
        self._node = node
        self._found = {}
        self._witness.settle(chosen.variant)
        for family in Family:
            try:
                self._found[family] = self._observe(family)
                self._styles.setdefault(family, self._style(family))
            except EnvironmentFault as fault:
                if family is Family.IPV4:
                    raise
                for known in (self._found, self._styles, self._programs):
                    known.pop(family, None)
                warnings.append(f"Services have no {family} here: {fault}")
        self._localnet.look(noted=self._says_localnet_was_off())
        self._skeletons = {family: self._skeleton(family) for family in self._found}
        warnings += lacking(style.abilities for style in self._styles.values())
        ours = {family for family, found in self._found.items() if adopt.holds_ours(found)}
        rules = sum(
            len(specs)
            for found in self._found.values()
            for chain, specs in found.items()
            if adopt.is_ours(chain)
        )
        kept = bool(ours) and ours == set(self._found)
        return Adopted(kept, rules, f"{chosen.variant}: {chosen.reason}", tuple(warnings))

    def replace(self, services: Mapping[ObjectName, Plans]) -> ApplyReport:
        """Make the kernel hold exactly these Services, writing only what differs.

        Raises KernelFault if the kernel refuses and no Service is to blame.
        """
        wanted = self._rendered(services)
        reports = []
        for family in self._skeletons:
            found = self._found.pop(family, None)
            reports.append(self._reconcile(family, wanted.pop(family), found))
        for refusal in self._localnet.settle(self._node):
            self._tell("Degraded", mode=self.name, reason=refusal)
        if self._leaves_other:
            self._leave_other()
        return total(reports)

    def apply(self, delta: Delta[ObjectName, Plans]) -> ApplyReport:
        """Apply a change; its cost is that of the change, and of iptables itself.

        If iptables refuses, what the kernel holds is read and everything is reconciled with it; a
        Service that it still refuses stays as it was and is named in the report. Raises
        KernelFault if no Service is to blame.
        """
        return total(
            self._apply(family, program, delta) for family, program in self._programs.items()
        )

    def tend(self) -> float | None:
        """Nothing here depends on time alone."""
        return None

    def verify(self, *, from_ahead: bool = False) -> Drift:  # noqa: ARG002 (as of a Mode)
        """Hold the kernel against what was applied; rules are told as an operator lists them."""
        missing, extra, different = [], [], []
        for family, program in self._programs.items():
            found = self._observe(family)
            drift = adopt.drift(adopt.difference(program, found), found)
            missing += [f"{family} {rule}" for rule in drift.missing]
            extra += [f"{family} {rule}" for rule in drift.extra]
            different += [f"{family} {rule}" for rule in drift.different]
        return Drift(tuple(missing), tuple(extra), tuple(different))

    def watch(self) -> ForeignWatch:
        """What hears of changes of our rules; of those in iptables-legacy nobody hears.

        Raises EnvironmentFault too.
        """
        self._chosen = host_variant(self._settings.iptables_variant)
        return self._witness.listen(self._chosen.variant)

    def glance(self) -> Glance:
        """Look at the sizes of the tables, where iptables-legacy holds our rules."""
        return self._witness.glance(self._using.variant) if self._using else Glance()

    def retire(self, successor: str) -> float | None:
        """Remove the rules of both variants, but for the successor's; no connection lives on them.

        What we left in the other variant, `replace` has removed.
        """
        if successor != self.name:
            give_way(self._tell, stay=successor in IN_IPTABLES)
        return None

    def cleanup(self) -> bool:
        """Remove our rules of both variants, and only those; True if there were any.

        Raises EnvironmentFault if there is no iptables, or if we may not use it.
        """
        self._programs = {}
        return clean_up(self._tell)

    def _leave_other(self) -> None:
        """Remove what a proxy left in the other variant; ours is in, so nothing waits for it."""
        self._leaves_other = False
        other = self._other
        try:
            for family in self._skeletons:
                if installed(family, other.variant):
                    found = read(other.save(family))
                    leave(other, family, found, guards_localhost=False)
        except KernelFault as fault:
            self._tell("Not removed", variant=other.variant, reason=str(fault))
        else:
            self._tell("Removed what a proxy left", routine=True, variant=other.variant)

    def _observe(self, family: Family) -> Found:
        return read(self._kernel.save(family))

    def _style(self, family: Family) -> Rendering:
        return Rendering(abilities(self._kernel, family), self._settings.masquerade_bit)

    def _skeleton(self, family: Family) -> Skeleton:
        if self._node is None:
            raise RuntimeError("start() comes first")
        is_first = family is Family.IPV4
        return skeleton(
            self._node,
            family,
            self._styles[family],
            drops_invalid=drops_invalid(),
            localnet_was_off=is_first and self._localnet.was_off and self._serves_loopback(),
        )

    def _serves_loopback(self) -> bool:
        return self._node is not None and serves_loopback(self._node)

    def _says_localnet_was_off(self) -> bool:
        """Whether we were the first to route localhost, as our rules in either variant note."""
        if adopt.says_localnet_was_off(self._found[Family.IPV4]):
            return True
        note = ROUTE_LOCALNET_WAS_OFF
        return self._leaves_other and self._other.holds(Family.IPV4, note.table, note.name)

    def _rendered(
        self, services: Mapping[ObjectName, Plans]
    ) -> dict[Family, dict[ObjectName, Written]]:
        """All fragments; begun anew once it shows that the cluster is a large one."""
        self._styles = {
            family: msgspec.structs.replace(style, large=False)
            for family, style in self._styles.items()
        }
        while True:
            wanted: dict[Family, dict[ObjectName, Written]] = {f: {} for f in self._skeletons}
            endpoints = dict.fromkeys(self._skeletons, 0)
            for name, plans in services.items():
                for family, of in self._written(plans).items():
                    wanted[family][name] = of
                    endpoints[family] += of.endpoints
                if self._grew_large(endpoints):
                    break
            else:
                return wanted

    def _grew_large(self, endpoints: Mapping[Family, int]) -> bool:
        grown = {
            family: msgspec.structs.replace(self._styles[family], large=True)
            for family, count in endpoints.items()
            if count > LARGE_CLUSTER and not self._styles[family].large
        }
        self._styles |= grown
        return bool(grown)

    def _written(self, plans: Plans) -> dict[Family, Written]:
        if self._node is None:
            raise RuntimeError("start() comes first")
        plans = tuple(plan for plan in plans if plan.family in self._styles)
        fragments = render(plans, self._node, self._styles)
        return {
            family: written(family, fragment, count_endpoints(plans, family))
            for family, fragment in fragments.items()
        }

    def _apply(
        self, family: Family, program: ServiceProgram, delta: Delta[ObjectName, Plans]
    ) -> ApplyReport:
        before = program.fragments
        endpoints = program.endpoints
        for name in (*delta.upserts, *delta.deletes):
            endpoints += count_endpoints(delta.upserts.get(name, ()), family)
            endpoints -= before.get(name, NOTHING).endpoints
        style = self._styles[family]
        self._styles[family] = msgspec.structs.replace(style, large=endpoints > LARGE_CLUSTER)
        updates: dict[ObjectName, Written] = dict.fromkeys(delta.deletes, NOTHING)
        for name, plans in delta.upserts.items():
            of_family = tuple(plan for plan in plans if plan.family is family)
            updates[name] = self._written(of_family).get(family, NOTHING)
        changes = program.changes(updates)
        if not changes:
            program.commit(updates)
            return ApplyReport()
        text = self._script(program, changes)
        try:
            waited = self._kernel.restore(family, text.text)
        except Refused:
            wanted = {**before, **updates}
            return self._reconcile(family, {n: w for n, w in wanted.items() if w != NOTHING})
        program.commit(updates)
        return _report(program, changes, text, waited)

    def _script(
        self, program: ServiceProgram, changes: Changes, found: Found | None = None
    ) -> Script:
        order = Order.AROUND if found is None or adopt.translates(found) else Order.AFTER
        in_blocks = self._kernel.variant is Variant.NFT
        return script(program, changes, in_blocks=in_blocks, order=order)

    def _reconcile(
        self,
        family: Family,
        wanted: dict[ObjectName, Written],
        found: Found | None = None,
        bulk: int = BULK,
    ) -> ApplyReport:
        """Bring the kernel from what it holds to these fragments, without those it refuses.

        A refusal that names no line is traced to a Service by trying halves. What was found some
        time ago may be wrong by now: nobody is to blame if the first attempt is refused. Where no
        Service is to blame, shared chains are written anew: iptables-nft may misread rules of nft,
        and then it finds none like them to delete.
        """
        before = self._programs[family].fragments if family in self._programs else {}
        program = ServiceProgram(family, self._skeletons[family])
        program.commit(wanted)
        failed: dict[ObjectName, str] = {}
        reports: list[ApplyReport] = []
        trials: list[adopt.Trial] = [None]
        while trials:
            trial = trials.pop()
            is_fresh = found is None
            found = self._observe(family) if found is None else found
            changes = adopt.part(program, found, trial, bulk)
            text = self._script(program, changes, found)
            found = None
            if not changes:
                continue
            try:
                waited = self._kernel.restore(family, text.text)
            except Refused as refusal:
                if not is_fresh:
                    trials.append(trial)
                    continue
                suspects = changes.owners()
                culprit = text.owner_of(refusal.line) if refusal.line else None
                if culprit is None and trial is not None and len(suspects) == 1:
                    culprit = suspects[0]
                if culprit is not None:
                    back = NOTHING if culprit in failed else before.get(culprit, NOTHING)
                    failed[culprit] = f"{family}: {refusal}"
                    program.commit({culprit: back})
                    trials.append(trial)
                elif suspects:
                    trials += adopt.narrower(trial, suspects)
                elif bulk == BULK:
                    return self._reconcile(family, wanted, bulk=EVERYTHING)
                else:
                    raise
            else:
                reports.append(_report(program, changes, text, waited))
        self._programs[family] = program
        self._witness.expect(family, program.guests)
        return total([*reports, ApplyReport(failed=failed, tables=program.tables(Changes()))])


def _report(
    program: ServiceProgram, changes: Changes, text: Script, waited_seconds: float
) -> ApplyReport:
    return ApplyReport(
        added=changes.added_rules(),
        deleted=len(changes.deleted) + len(changes.gone),
        messages=text.lines,
        bytes_sent=len(text.text),
        waited_seconds=waited_seconds,
        tables=program.tables(changes),
    )
