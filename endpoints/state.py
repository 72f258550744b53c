"""What did the API say, and whom does news concern? Pure.

`ClusterState` is the only memory of the API's objects. It keeps of each object what planning
reads, so that news which says nothing new dirties nothing, and it never walks all Services unless
the node itself changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from endpoints.addresses import bracketed, family
from endpoints.conflicts import Claims, Tally
from endpoints.events import Delete, Event, Folded, Problem, Replace, Upsert
from endpoints.exposure import Claim, Exposure, expose
from endpoints.local_traffic import detector, pod_cidrs
from endpoints.names import Family, ObjectName
from endpoints.node import NodeSettings, NodeView
from endpoints.nodeports import primary_address, resolve
from endpoints.objects import (
    ZONE_LABEL,
    EndpointSlice,
    Kind,
    KubernetesObject,
    Node,
    Service,
    name_of,
)
from endpoints.plan import FrontendKind, ServicePlan
from endpoints.planning import plan
from endpoints.recorded import node_of, service_of, slice_of
from endpoints.slices import Contribution, contribution, triggered


class ClusterState:
    """The cluster as this node knows it.

    `settings` are the operator's; `local_addresses` are those that the kernel calls local, as
    canonical text, of both families. Raises ValueError if a setting is no CIDR or selector.
    """

    def __init__(
        self, settings: NodeSettings, local_addresses: frozenset[str] = frozenset()
    ) -> None:
        self._settings = settings
        self._local_addresses = local_addresses
        self._own_node: Node | None = None
        self._last_node: Node | None = None
        self._exposures: dict[ObjectName, Exposure] = {}
        self._slices: dict[ObjectName, Contribution] = {}
        self._slices_of: dict[ObjectName, tuple[Contribution, ...]] = {}
        self._claims = Claims()
        self._node = view(settings, None, local_addresses)

    def copy(self) -> ClusterState:
        """What is known now, in a state that is folded on its own; the objects are shared."""
        other = ClusterState(self._settings, self._local_addresses)
        other._own_node, other._last_node = self._own_node, self._last_node
        other._exposures = dict(self._exposures)
        other._slices = dict(self._slices)
        other._slices_of = dict(self._slices_of)
        other._claims = self._claims.copy()
        other._node = self._node
        return other

    @property
    def settings(self) -> NodeSettings:
        """The operator's."""
        return self._settings

    @property
    def local_addresses(self) -> frozenset[str]:
        """Those that the kernel calls local; empty where no kernel was asked."""
        return self._local_addresses

    @property
    def own_node(self) -> Node | None:
        """The Node object of this node; None if there is none, or it is not known yet."""
        return self._own_node

    @property
    def node(self) -> NodeView:
        """This node, resolved."""
        return self._node

    def recorded_services(self) -> tuple[Service, ...]:
        """Services that mean what those mean that are ours to serve."""
        return tuple(map(service_of, self._exposures.values()))

    def recorded_slices(self) -> tuple[EndpointSlice, ...]:
        """EndpointSlices that mean what the cluster's do."""
        return tuple(map(slice_of, self._slices.values()))

    def recorded_node(self) -> Node | None:
        """A Node that means what that one does by which this node plans, deleted or not."""
        return node_of(self._last_node) if self._last_node else None

    def services(self) -> Collection[ObjectName]:
        """The Services that are ours to serve."""
        return self._exposures.keys()

    def plans(self, service: ObjectName) -> tuple[ServicePlan, ...]:
        """What the Service means for this node; empty if it is unknown or not ours."""
        exposure = self._exposures.get(service)
        if exposure is None:
            return ()
        slices = self._slices_of.get(service, ())
        return plan(exposure, slices, self._node, self._claims.lost(service))

    def fold(self, event: Event) -> Folded:
        """Store what the event says; the cost is that of what it changes.

        The order of events does not matter for the plans: they depend on the last version of
        each object only. A Service that loses an address or port to an older one is reported
        when it happens.
        """
        tally = Tally()
        node_before = self._node
        match event:
            case Upsert(obj):
                self._put(obj, tally)
            case Delete(kind, name):
                self._remove(kind, name, tally)
            case Replace(kind, objects, unreadable):
                if before := list(self._known(kind)):
                    stay = {name_of(obj) for obj in objects} | unreadable
                    for name in [known for known in before if known not in stay]:
                        self._remove(kind, name, tally)
                for obj in objects:
                    self._put(obj, tally)
        return self._folded(tally, node_before)

    def observe_addresses(self, addresses: frozenset[str]) -> Folded:
        """The kernel's local addresses are these now."""
        node_before = self._node
        self._local_addresses = addresses
        self._node = view(self._settings, self._last_node, addresses)
        return self._folded(Tally(), node_before)

    def reconfigure(self, settings: NodeSettings) -> Folded:
        """The operator's settings are these now; the node's name is the same."""
        node_before = self._node
        self._settings = settings
        self._node = view(settings, self._last_node, self._local_addresses)
        return self._folded(Tally(), node_before)

    def _folded(self, tally: Tally, node_before: NodeView) -> Folded:
        node_changed = self._node != node_before
        dirty = frozenset(self._exposures) if node_changed else frozenset()
        lost = [self._problem(*key) for key, losses in tally.losses.items() if losses > 0]
        return Folded(
            dirty=dirty | tally.dirty,
            problems=tuple(dict.fromkeys(lost)),
            node_changed=node_changed,
            services=tally.services,
            slices=tally.slices,
            triggered=tuple(tally.triggered),
        )

    def _known(self, kind: Kind) -> Iterable[ObjectName]:
        if kind is Kind.SERVICE:
            return self._exposures
        if kind is Kind.ENDPOINT_SLICE:
            return self._slices
        return [name_of(self._own_node)] if self._own_node else []

    def _put(self, obj: KubernetesObject, tally: Tally) -> None:
        if isinstance(obj, Service):
            self._set_service(name_of(obj), expose(obj), tally)
        elif isinstance(obj, EndpointSlice):
            if self._set_slice(name_of(obj), contribution(obj, self._settings.name), tally):
                at = triggered(obj.metadata.annotations)
                tally.triggered += [] if at is None else [at]
        elif obj.metadata.name == self._settings.name:
            self._set_node(obj)

    def _remove(self, kind: Kind, name: ObjectName, tally: Tally) -> None:
        if kind is Kind.SERVICE:
            self._set_service(name, None, tally)
        elif kind is Kind.ENDPOINT_SLICE:
            self._set_slice(name, None, tally)
        elif name.name == self._settings.name:
            self._set_node(None)

    def _set_service(self, name: ObjectName, new: Exposure | None, tally: Tally) -> None:
        old = self._exposures.get(name)
        if old == new:
            return
        if new is None:
            del self._exposures[name]
        else:
            self._exposures[name] = new
        tally.dirty.add(name)
        tally.services += 1
        self._claims.change(old, new, tally)

    def _set_slice(self, name: ObjectName, new: Contribution | None, tally: Tally) -> bool:
        """Whether that is news of a Service that is ours."""
        old = self._slices.get(name)
        if old == new:
            return False
        if old:
            del self._slices[name]
            self._withdraw(old)
        if new:
            self._slices[name] = new
            service = new.service_name
            self._slices_of[service] = (*self._slices_of.get(service, ()), new)
        concerned = [c.service_name for c in (old, new) if c and c.service_name in self._exposures]
        tally.dirty.update(concerned)
        tally.slices += bool(concerned)
        return bool(concerned)

    def _withdraw(self, old: Contribution) -> None:
        service = old.service_name
        rest = tuple(c for c in self._slices_of[service] if c is not old)
        if rest:
            self._slices_of[service] = rest
        else:
            del self._slices_of[service]

    def _set_node(self, node: Node | None) -> None:
        """A machine whose Node object is deleted serves on as it did, with its pods and zone.

        As with kube-proxy, which ends then, and whose rules stay.
        """
        self._own_node = node
        if node is not None:
            self._last_node = node
            self._node = view(self._settings, node, self._local_addresses)

    def _problem(self, loser: ObjectName, claim: Claim) -> Problem:
        kind = next(row.kind for held, row in self._exposures[loser].claims() if held == claim)
        address, port, protocol = claim
        place = "" if kind is FrontendKind.NODE_PORT else f"{bracketed(address)}:"
        holder = self._claims.holder(claim)
        reason = f"Service {holder} has it: it is older, or as old and first by name"
        return Problem(f"Service {loser}", _FIELDS[kind], f"{place}{port}/{protocol}", reason)


_FIELDS = {
    FrontendKind.CLUSTER_IP: "spec.clusterIPs",
    FrontendKind.EXTERNAL_IP: "spec.externalIPs",
    FrontendKind.LOAD_BALANCER: "status.loadBalancer.ingress",
    FrontendKind.NODE_PORT: "spec.ports[].nodePort",
}


def view(settings: NodeSettings, node: Node | None, local_addresses: frozenset[str]) -> NodeView:
    """This node, resolved from the operator's settings, its Node object and the kernel's addresses.

    Where no kernel is asked (`local_addresses` is empty: `headgate render`), the Node's InternalIPs
    and loopback stand for the kernel's addresses. IPv6 link-local addresses are left out: every
    pod's interface brings one, and nobody reaches a Service by them.
    """
    listed = node.status.addresses if node and node.status else None
    internal = frozenset(a.address for a in listed or () if a.type == "InternalIP")
    addresses = local_addresses or internal | {"127.0.0.1", "::1"}
    addresses = frozenset(a for a in addresses if not a.startswith("fe80:"))
    pods = (*pod_cidrs(node), *settings.cluster_cidrs)
    primary = {of: primary_address(of, node, addresses, pods) for of in Family}
    if settings.bind_address:
        primary[family(settings.bind_address)] = settings.bind_address
    node_ports = {
        of: resolve(settings.node_port_addresses, of, addresses, primary[of], settings.loopback)
        for of in Family
    }
    labels = (node.metadata.labels if node else None) or {}
    return NodeView(
        name=settings.name,
        zone=labels.get(ZONE_LABEL) or None,
        addresses=addresses,
        primary=frozenset(filter(None, primary.values())),
        node_ports_v4=node_ports[Family.IPV4],
        node_ports_v6=node_ports[Family.IPV6],
        local_traffic=detector(settings, node),
        masquerade_all=settings.masquerade_all,
        holds_addresses=settings.holds_addresses,
    )
