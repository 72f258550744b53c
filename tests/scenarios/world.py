"""What does the specification say of a story's packets? Pure.

One ClusterState per node, fed as a running headgate is: a full list first, then the changes from
step to step. A packet is judged by the nodes that it passes: the sender's own, and then, if that
lets it pass, the one that has the destination address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from endpoints.decode import TYPE_OF
from endpoints.documents import from_documents
from endpoints.events import Delete, Event, Problem, Replace, Upsert
from endpoints.explain import Explanation, Forward, Hook, Packet, Pass, walk
from endpoints.names import ObjectName
from endpoints.objects import Kind, KubernetesObject
from endpoints.plan import ServicePlan
from endpoints.state import ClusterState
from tests.lab import objects
from tests.lab.manifests import Document
from tests.scenarios.model import Key, Row, Settings
from tests.scenarios.places import (
    BRIDGE,
    NODES,
    UPLINK,
    local_addresses,
    owner_of,
)


class Judgement(msgspec.Struct, frozen=True):
    """The verdict on a row, and on which node it fell."""

    node: str
    explanation: Explanation

    @property
    def hops(self) -> frozenset[tuple[str, int, bool]]:
        """Address, port and whether masqueraded of each endpoint that may answer."""
        verdict = self.explanation.verdict
        if not isinstance(verdict, Forward):
            return frozenset()
        return frozenset((h.endpoint.address, h.endpoint.port, h.masqueraded) for h in verdict.hops)

    def __str__(self) -> str:
        """The way of the packet, a line each."""
        steps = "".join(f"\n  {step.place}: {step.text}" for step in self.explanation.steps)
        return f"{self.explanation.verdict} on {self.node}{steps}"


class World:
    """What every node knows. `refused` is what of the stories' objects could not be decoded."""

    def __init__(self, settings: Settings, *, holds_addresses: bool = False) -> None:
        """The cluster without any Service yet; `holds_addresses`: as the IPVS mode does.

        A verdict may then be another one than the story's: what it lets pass may be refused.
        """
        self._states = {
            name: ClusterState(
                settings.of(name, holds_addresses=holds_addresses), local_addresses(name)
            )
            for name in NODES
        }
        self._objects: dict[Key, Document] = {}
        self._plans: dict[str, tuple[ServicePlan, ...]] = {}
        self.refused: list[Problem] = []
        nodes = self._decoded(objects.nodes())
        for kind in Kind:
            mine = tuple(node for node in nodes if isinstance(node, TYPE_OF[kind]))
            self._fold(Replace(kind, mine))

    def become(self, wanted: Mapping[Key, Document]) -> None:
        """Make these all the Services and slices there are, by the changes that this takes."""
        for key in self._objects.keys() - wanted.keys():
            kind, namespace, name = key
            self._fold(Delete(Kind(kind), ObjectName(namespace, name)))
        changed = [doc for key, doc in wanted.items() if self._objects.get(key) != doc]
        for decoded in self._decoded(changed):
            self._fold(Upsert(decoded))
        self._objects = dict(wanted)

    def judge(self, row: Row) -> Judgement:
        """The verdict on a packet."""
        hook = Hook.OUTPUT if row.sender.is_node else Hook.PREROUTING
        interface = None if row.sender.is_node else BRIDGE if row.sender.node else UPLINK
        first = self._walk(row.via, row, hook, interface)
        owner = owner_of(row.destination)
        if isinstance(first.explanation.verdict, Pass) and owner not in (None, row.via):
            return self._walk(str(owner), row, Hook.PREROUTING, UPLINK)
        return first

    def _walk(self, node: str, row: Row, hook: Hook, interface: str | None) -> Judgement:
        packet = Packet(row.source, row.destination, row.port, row.protocol, hook, interface)
        return Judgement(node, walk(self._plans_on(node), self._states[node].node, packet))

    def _plans_on(self, node: str) -> tuple[ServicePlan, ...]:
        if node not in self._plans:
            state = self._states[node]
            plans = (plan for service in state.services() for plan in state.plans(service))
            self._plans[node] = tuple(plans)
        return self._plans[node]

    def _decoded(self, documents: Iterable[Document]) -> tuple[KubernetesObject, ...]:
        named = ((document, str(document["metadata"])) for document in documents)
        decoded, problems = from_documents(named)
        self.refused.extend(problems)
        return decoded

    def _fold(self, event: Event) -> None:
        self._plans.clear()
        for state in self._states.values():
            state.fold(event)
