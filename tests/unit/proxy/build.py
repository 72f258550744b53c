"""Which manifests and which mode do the tests of the proxy share?"""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping

from endpoints.names import ObjectName
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
    Plans,
    nothing,
)
from proxy.sources.base import Message

PAY = ObjectName("shop", "pay")
CART = ObjectName("shop", "cart")
BOTH = frozenset({PAY, CART})


def service(name: str = "pay", ip: str = "10.96.7.7", port: int = 80) -> str:
    """A Service of namespace shop in YAML."""
    return f"""\
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  clusterIP: {ip}
  ports:
  - name: http
    port: {port}
"""


def endpoints(*addresses: str, of: str = "pay", port: int = 8080) -> str:
    """An EndpointSlice of a Service in YAML, of node-a."""
    rows = "".join(f"- {{addresses: [{a}], nodeName: node-a}}\n" for a in addresses)
    return f"""\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {of}-1, namespace: shop, labels: {{kubernetes.io/service-name: {of}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints:
{rows or "  []"}
"""


def node(name: str = "node-a", ip: str = "192.168.0.11", zone: str = "eu-1a") -> str:
    """A Node in YAML."""
    return f"""\
apiVersion: v1
kind: Node
metadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {zone}}}}}
status: {{addresses: [{{type: InternalIP, address: {ip}}}]}}
"""


def together(*documents: str) -> str:
    """Several YAML documents in one file."""
    return "---\n".join(documents)


class MemoryMode:
    """A mode whose kernel is a dictionary; it can be told what to refuse.

    Like a real one it does nothing before `start`, and nothing by halves.
    """

    name = "memory"

    def __init__(self) -> None:
        self.table: dict[ObjectName, Plans] = {}
        self.calls: list[str] = []
        self.node: NodeView | None = None
        self.refuses: dict[ObjectName, str] = {}
        self.faults: list[KernelFault | EnvironmentFault | OSError] = []
        self.warnings: tuple[str, ...] = ()
        self.waits = 0.0
        self.closed = False
        self.tending: list[float | None] = []
        """What `tend` answers, in turn; None when there is nothing more."""
        self.glances: list[Glance] = []
        """What `glance` answers, in turn; nothing when there is nothing more."""
        self.drift = Drift()
        """What `verify` answers."""

    def start(self, node: NodeView) -> Adopted:
        self.calls.append("start")
        if self.faults and isinstance(self.faults[0], EnvironmentFault):
            raise self.faults.pop(0)
        self.node = node
        return Adopted(bool(self.table), len(self.table), "as it was", self.warnings)

    def replace(self, services: Mapping[ObjectName, Plans]) -> ApplyReport:
        assert self.node is not None
        return self._change("replace", dict(services), frozenset(self.table) - services.keys())

    def apply(self, delta: Delta[ObjectName, Plans]) -> ApplyReport:
        assert self.node is not None
        return self._change("apply", delta.upserts, delta.deletes)

    def _change(
        self, call: str, upserts: Mapping[ObjectName, Plans], deletes: frozenset[ObjectName]
    ) -> ApplyReport:
        names = [*sorted(map(str, upserts)), *(f"-{name}" for name in sorted(map(str, deletes)))]
        self.calls.append(" ".join((call, *names)))
        if self.faults:
            raise self.faults.pop(0)
        failed = {name: self.refuses[name] for name in upserts if name in self.refuses}
        taken = {name: plans for name, plans in upserts.items() if name not in failed}
        added = {name for name, plans in taken.items() if self.table.get(name) != plans}
        gone = deletes & self.table.keys()
        self.table = {n: p for n, p in {**self.table, **taken}.items() if n not in gone}
        return ApplyReport(
            added=len(added), deleted=len(gone), waited_seconds=self.waits, failed=failed
        )

    def tend(self) -> float | None:
        assert self.node is not None
        self.calls.append("tend")
        return self.tending.pop(0) if self.tending else None

    def read_ahead(self, done: Callable[[], None] = nothing) -> None:
        self.calls.append("read ahead")
        done()

    def verify(self, *, from_ahead: bool = False) -> Drift:
        self.calls.append("verify from ahead" if from_ahead else "verify")
        return self.drift

    def watch(self) -> ForeignWatch | None:
        return None

    def glance(self) -> Glance:
        self.calls.append("glance")
        return self.glances.pop(0) if self.glances else Glance()

    def retire(self, successor: str) -> float | None:
        self.calls.append(f"retire for {successor}")
        return None

    def cleanup(self) -> bool:
        held, self.table = bool(self.table), {}
        return held

    def close(self) -> None:
        self.closed = True


def drained(messages: queue.SimpleQueue[Message]) -> list[Message]:
    """All that is queued now."""
    return [messages.get_nowait() for _ in range(messages.qsize())]
