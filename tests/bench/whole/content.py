"""What is in the cluster that the proxies are given, and what must the kernel then hold? Pure.

The clusters of `tests.bench.cluster`, with what only an API server has besides: namespaces, and the
node. One Service of ten prefers the endpoints of the node's zone, so that a node that changes its
zone changes a part of the rules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from tests.bench import cluster
from tests.bench.cluster import SETTINGS, ZONES, Json, Size

NODE_ADDRESS = "192.168.0.11"
HINTED = 10
"""Of so many Services one has hints."""
NOWHERE = ""
"""The zone of a node that has none: hints lead nowhere then. So it is at first, because kube-proxy
1.36 forgets now and then what zone it starts in."""


class Wanted(NamedTuple):
    """What the kernel's ruleset must hold of one Service, given by its number in the cluster.

    Its cluster IP is `cluster.cluster_ip(number)`, its one port `cluster.PORT` (TCP), the port of
    its pods `cluster.TARGET_PORT`.
    """

    number: int
    endpoints: frozenset[str] | None
    """The pods that its connections may go to, exactly; IPv4. None: there is no such Service."""


def node(zone: str) -> Json:
    """The node that the proxies run on."""
    labels = {"kubernetes.io/hostname": SETTINGS.name}
    if zone != NOWHERE:
        labels["topology.kubernetes.io/zone"] = zone
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": SETTINGS.name, "labels": labels},
        "spec": {"podCIDR": "10.128.0.0/24", "podCIDRs": ["10.128.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}]},
    }


def namespace(name: str) -> Json:
    """A namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def objects(of: Size) -> Iterator[Json]:
    """All Services and EndpointSlices; namespaces and the node not among them."""
    for number in range(of.services):
        yield service(of, number)
        yield from slices(of, number)


def is_hinted(of: Size, number: int) -> bool:
    """Tell whether a Service keeps to the node's zone: it has pods in each."""
    return number % HINTED == 0 and of.endpoints >= len(ZONES)


def service(of: Size, number: int) -> Json:
    """A Service."""
    document = cluster.service(number)
    if is_hinted(of, number):
        # Before Kubernetes 1.36 a Service had to ask for it; later ones go by the hints alone.
        document["metadata"]["annotations"]["service.kubernetes.io/topology-mode"] = "Auto"  # type: ignore[index]
    return document


def slices(of: Size, number: int, lacking: Collection[str] = ()) -> list[Json]:
    """Its EndpointSlices, without the pods of these addresses."""
    documents = cluster.slices(of, number)
    for document in documents:
        listed = document["endpoints"]
        assert isinstance(listed, list)
        listed[:] = [one for one in listed if one["addresses"][0] not in lacking]
        for one in listed:
            if is_hinted(of, number):
                one["hints"] = {"forZones": [{"name": one["zone"]}]}
    return documents


def wanted(of: Size, number: int, zone: str, lacking: Collection[str] = ()) -> Wanted:
    """What the kernel of a node in this zone must hold of a Service."""
    listed = [one for document in slices(of, number, lacking) for one in _endpoints(document)]
    near = [one for one in listed if one["zone"] == zone]
    chosen = near if is_hinted(of, number) and near else listed
    return Wanted(number, frozenset(_address(one) for one in chosen))


def _endpoints(document: Json) -> list[Json]:
    listed = document["endpoints"]
    assert isinstance(listed, list)
    return listed


def _address(endpoint: Json) -> str:
    addresses = endpoint["addresses"]
    assert isinstance(addresses, list)
    address: str = addresses[0]
    return address
