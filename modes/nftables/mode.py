"""How does the nftables mode keep the kernel equal to the plans?

Steps only: what to say is worked out in `elements`, `delta`, `adopt` and `affinity`, how to say
it in `codec`, and `kernel` says it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice

from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from endpoints.nodeports import is_loopback
from modes.base import (
    Adopted,
    ApplyReport,
    Delta,
    Drift,
    ForeignWatch,
    Glance,
    Plans,
    Tell,
    nothing,
    silence,
)
from modes.nftables import adopt, affinity, codec, delta, parts, ruleset
from modes.nftables import netlink as nl
from modes.nftables.adopt import Observed
from modes.nftables.ahead import NOTHING, Ahead, Raw, ask_again
from modes.nftables.blame import NODE, in_the_way, isolate, raise_any
from modes.nftables.dump import describe
from modes.nftables.elements import Elements, Fragment, render, render_node
from modes.nftables.kernel import (
    Kernel,
    Payloads,
    lookups_can_miss,
    route_loopback,
)
from modes.nftables.mend import mend
from modes.nftables.retire import deletions
from modes.nftables.shape import shape_of
from modes.nftables.skeleton import TABLE, Layout

_FORGOTTEN_AT_ONCE = 500
"""Clients."""


class NftablesMode:
    """The nftables back end; see README.md for the tables. One thread uses it.

    The socket is opened in the network namespace of the calling thread when first needed.
    """

    name = "nftables"

    def __init__(self, tell: Tell = silence) -> None:
        """Nothing is opened and nothing is known yet."""
        self._tell = tell
        self._open: Kernel | None = None
        self._node: NodeView | None = None
        self._layouts: dict[Family, Layout] = {}
        self._pick_refuses = False
        self._chains: set[tuple[Family, str]] = set()
        self._applied = delta.Applied()
        self._seen: tuple[int, Observed] | None = None
        self._ahead: Ahead | None = None

    @property
    def _kernel(self) -> Kernel:
        if self._open is None:
            self._open = Kernel()
        return self._open

    def close(self) -> None:
        """Close the socket; the rules stay."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def read_ahead(self, done: Callable[[], None] = nothing) -> None:
        """Begin to read all elements, as of a Mode; by a thread of its own."""
        self._ahead = Ahead(done)

    def start(self, node: NodeView) -> Adopted:
        """Look at what the kernel holds for this node. Changes no rule: `replace` does.

        Raises EnvironmentFault.
        """
        # Later there is a reason to look again: what was read before it came up is of the past.
        raw = NOTHING if self._applied.fragments else self._read()
        generation = self._kernel.generation()
        self._node = node
        can_miss = lookups_can_miss()
        self._pick_refuses = not can_miss
        shapes = [shape_of(node, family, lookups_can_miss=can_miss) for family in Family]
        self._layouts = {shape.family: Layout(shape) for shape in shapes}
        found = self._observe(raw.payloads if raw.generation == generation else None)
        self._seen = generation, found
        words = ", ".join(f"{family}: {reason}" for family, reason in found.rebuild.items())
        kept = not found.rebuild
        return Adopted(
            kept,
            len(found.elements),
            words or "their rules are those of this version",
            prepare(node),
        )

    def replace(self, services: Mapping[ObjectName, Plans]) -> ApplyReport:
        """Make the kernel hold exactly these Services, writing only what differs.

        Raises KernelFault if the kernel refuses and no Service is to blame.
        """
        if self._node is None:
            raise RuntimeError("start() comes before replace()")
        found = self._observed()
        fragments: dict[ObjectName, Fragment] = {NODE: render_node(self._node)}
        doubtful = list(delta.unlike(found.elements, fragments[NODE]))
        for name, plans in services.items():
            fragment = render(plans, found.elements, pick_refuses=self._pick_refuses)
            if fragment:
                fragments[name] = fragment
                # Now, while the processor has at hand what rendering looked at.
                doubtful += delta.unlike(found.elements, fragment)
        return self._reconcile(fragments, found, doubtful)

    def apply(self, delta_: Delta[ObjectName, Plans]) -> ApplyReport:
        """Apply a change in one transaction; the cost is that of the change.

        If the kernel refuses, what it holds is read and everything is reconciled with it; a
        Service that it still refuses stays as it was and is named in the report. Raises
        KernelFault if no Service is to blame.
        """
        updates: dict[ObjectName, Fragment] = {name: {} for name in delta_.deletes}
        for name, plans in delta_.upserts.items():
            before = self._applied.fragments.get(name, {})
            updates[name] = render(plans, before, pick_refuses=self._pick_refuses)
        changes = self._applied.changes(updates)
        if not changes:
            self._applied.commit(updates, changes)
            return ApplyReport()
        chains = delta.missing_chains(self._layouts, self._chains, changes)
        messages = delta.messages(self._layouts, chains, changes)
        sent = self._kernel.transact(messages)
        if sent.failures:
            wanted = {**self._applied.fragments, **updates}
            return self._reconcile({n: f for n, f in wanted.items() if f}, self._observe())
        self._applied.commit(updates, changes)
        self._chains.update(chains)
        self._forget_clients(changes)
        return _report(changes, len(messages), sent.size)

    def tend(self) -> float | None:
        """Nothing here depends on time alone."""
        return None

    def verify(self, *, from_ahead: bool = False) -> Drift:
        """Hold the kernel against what was applied; elements are told as an operator lists them.

        Clients may be many, and `replace` looks at them as well: here only if all else is right.
        """
        found = self._looked_at() if from_ahead else self._observe()
        wrong = {f: f"table {f} {TABLE}: {why}" for f, why in sorted(found.rebuild.items())}
        lost = tuple(said for family, said in wrong.items() if family not in found.present)
        other = tuple(said for family, said in wrong.items() if family in found.present)
        held = self._applied.elements()
        changes = delta.difference(found.elements, held)
        differs = changes.deletes & changes.adds.keys()
        lies = [] if wrong or changes else self._lies(found, held)
        return Drift(
            missing=lost + tuple(sorted(describe(k) for k in changes.adds.keys() - differs)),
            extra=tuple(sorted(describe(k) for k in [*(changes.deletes - differs), *lies])),
            different=other + tuple(sorted(describe(k) for k in differs)),
        )

    def watch(self) -> ForeignWatch | None:
        """What hears of every change of our tables by others."""
        return self._kernel.listen()

    def glance(self) -> Glance:
        """The kernel tells all."""
        return Glance()

    def retire(self, successor: str) -> float | None:
        """Remove our tables and kube-proxy's, which no connection lives on; ours stay for us."""
        self._kernel.check()
        leaving = deletions(self._kernel.tables(), keeps_ours=successor == self.name)
        if leaving:
            raise_any(self._kernel.transact(leaving).failures)
            self._tell("Removed what a proxy left", routine=True, mode=self.name)
        return None

    def cleanup(self) -> bool:
        """Remove our tables and only those; True if there were any."""
        self._kernel.check()
        ours = sorted(family for family, name in self._kernel.tables() if name == TABLE)
        self._applied = delta.Applied()
        self._chains = set()
        if ours:
            sent = self._kernel.transact([ruleset.delete_table(family) for family in ours])
            raise_any(sent.failures)
        return bool(ours)

    def _observed(self) -> Observed:
        """What `start` saw, if nobody changed anything since; it is forgotten, for it is large."""
        seen, self._seen = self._seen, None
        if seen is not None and seen[0] == self._kernel.generation():
            return seen[1]
        return self._observe()

    def _read(self) -> Raw:
        """What was read ahead, if anything was; each reading is used once."""
        ahead, self._ahead = self._ahead, None
        return NOTHING if ahead is None else ahead.result()

    def _looked_at(self) -> Observed:
        """What the kernel held when it was read ahead; what differs from what is held, as of now.

        So what we changed since is told as it is. What others changed after the reading came by is
        not, nor an element of others that it missed because we changed the set meanwhile.
        """
        raw = self._read()
        if not raw.payloads:
            return self._observe()
        found = self._observe(raw.payloads)
        if raw.generation == self._kernel.generation():
            return found
        sure = ask_again(self._kernel, found.elements, self._applied.elements())
        return found if sure else self._observe()

    def _observe(self, read: Payloads | None = None) -> Observed:
        """What the kernel holds of ours, and which tables must be made anew.

        What of the elements was `read` already is not read again.
        """
        elements: Elements = {}
        rebuild: dict[Family, str] = {}
        mends: dict[Family, adopt.Mend] = {}
        present: set[Family] = set()
        chains: set[tuple[Family, str]] = set()
        for family, layout in self._layouts.items():
            table = self._kernel.table(family)
            reason = adopt.misfit(table, layout)
            if reason:
                rebuild[family] = reason
            if table is None:
                continue
            present.add(family)
            how = mend(table, layout)
            if how:
                chains.update((family, name) for name in table.chains.keys() - how.foreign)
                elements.update(self._kernel.all_elements(family, read))
                if reason:
                    mends[family] = how
        return Observed(elements, rebuild, mends, frozenset(present), frozenset(chains))

    def _reconcile(
        self,
        fragments: dict[ObjectName, Fragment],
        found: Observed,
        doubtful: Iterable[bytes] | None = None,
    ) -> ApplyReport:
        """Bring the kernel from what was found to these fragments, without those it refuses.

        In one transaction, unless it is a large load: then in parts, or in one where it refuses a
        part, so that who is to blame is found as ever. `doubtful`: as of `delta.difference`.
        """
        before = self._applied.fragments
        failed: dict[ObjectName, str] = {}
        whole = False
        while True:
            wanted: Elements = {}
            for fragment in fragments.values():
                wanted.update(fragment)
            changes = delta.difference(found.elements, wanted, doubtful)
            doubtful = None
            chains = delta.missing_chains(self._layouts, set(found.chains), changes)
            count = size = 0
            if not whole and parts.suit(found, changes):
                count, size = self._load(chains, changes)
                if not count:
                    found, whole = self._observe(), True
                    continue
            elif messages := self._messages(found, chains, changes, wanted):
                sent = self._kernel.transact(messages)
                if sent.failures:
                    if not isolate(sent.failures, fragments, before, failed):
                        found = found.without(in_the_way(sent.failures, found))
                    continue
                count, size = len(messages), sent.size
            self._applied = delta.Applied(fragments)
            self._chains = set(found.chains).union(chains)
            self._forget_clients(changes, found.made_anew)
            self._forget(self._lies(found, wanted))
            return _report(changes, count, size, failed)

    def _load(
        self, chains: Sequence[tuple[Family, str]], changes: delta.Changes
    ) -> tuple[int, int]:
        """Write tables that are not there, part by part: how many messages, how many bytes.

        None at all if the kernel refuses a part. What was written before is removed then: no
        packet has met it.
        """
        count = size = 0
        for part in parts.divided(self._layouts, chains, changes):
            sent = self._kernel.transact(part)
            if sent.failures:
                # What else keeps the tables from going is found by the look that follows.
                self._kernel.transact([ruleset.delete_table(family) for family in self._layouts])
                return 0, 0
            count, size = count + len(part), size + sent.size
        return count, size

    def _messages(
        self,
        found: Observed,
        chains: Sequence[tuple[Family, str]],
        changes: delta.Changes,
        wanted: Elements,
    ) -> list[nl.Message]:
        """One transaction from what was found to what is wanted."""
        messages = self._rebuilding(found)
        messages += delta.messages(self._layouts, chains, changes)
        messages += [message for how in found.mends.values() for message in how.after]
        return messages + self._remembered_clients(found, wanted)

    def _rebuilding(self, found: Observed) -> list[nl.Message]:
        messages: list[nl.Message] = []
        for family in found.made_anew:
            messages += adopt.rebuilding(self._layouts[family], exists=family in found.present)
        return messages + [message for how in found.mends.values() for message in how.before]

    def _remembered_clients(self, found: Observed, wanted: Elements) -> list[nl.Message]:
        """What a table that is made anew takes over from the one before."""
        messages: list[nl.Message] = []
        for family in found.made_anew:
            for set_id, (_, policy) in affinity.MAPS.items():
                local = {element.key for element in self._kernel.elements(family, policy)}
                entries = self._kernel.elements(family, set_id)
                messages += affinity.carried_over(entries, local, wanted)
        return messages

    def _forget_clients(self, changes: delta.Changes, made_anew: Collection[Family] = ()) -> None:
        """Delete entries of the affinity maps that the change made untrue.

        A table that was made anew has taken over only what is true: to it all is news, not change.
        """
        for (family, set_id), doubt in affinity.doubts(changes).items():
            if family in made_anew:
                continue
            self._forget(affinity.stale(self._kernel.elements(family, set_id), doubt))

    def _lies(self, found: Observed, held: Elements) -> list[bytes]:
        """Remembered clients that no packet can have put there; a table made anew has none."""
        return [
            key
            for family in found.present.difference(found.made_anew)
            for set_id in affinity.MAPS
            for key in affinity.lies(self._kernel.elements(family, set_id), held)
        ]

    def _forget(self, keys: Iterable[bytes]) -> None:
        """Delete entries of the affinity maps.

        One transaction each where one of many does not go: an entry may run out between our look
        and the deletion, which must not keep the others.
        """
        rest = iter(keys)
        while some := list(islice(rest, _FORGOTTEN_AT_ONCE)):
            if not self._kernel.transact(list(codec.deletions(some))).failures:
                continue
            for key in some:
                sent = self._kernel.transact(list(codec.deletions([key])))
                raise_any([f for f in sent.failures if f.errno != errno.ENOENT])


def prepare(node: NodeView) -> tuple[str, ...]:
    """Set the sysctl that the mode needs, if it does; why that cannot be, in a sentence."""
    refusal = ""
    if any(map(is_loopback, node.node_ports_v4.addresses)):
        refusal = route_loopback()
    return (refusal,) if refusal else ()


def _report(
    changes: delta.Changes,
    messages: int,
    size: int,
    failed: Mapping[ObjectName, str] | None = None,
) -> ApplyReport:
    added, deleted = len(changes.adds), len(changes.deletes)
    return ApplyReport(added, deleted, messages, size, failed=failed or {})
