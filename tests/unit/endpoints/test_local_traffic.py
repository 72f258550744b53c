"""Which packets come from pods of this node?"""

from __future__ import annotations

import pytest

from endpoints.local_traffic import detector
from endpoints.names import Family
from endpoints.node import DetectLocalMode, LocalTraffic, NodeSettings
from endpoints.objects import Node, NodeSpec, ObjectMeta
from tests.unit.endpoints.build import node

CLUSTER = NodeSettings("node-a", cluster_cidrs=("10.244.0.0/16", "fd00:10:244::/48"))
CLUSTER_V4 = NodeSettings("node-a", cluster_cidrs=("10.244.0.0/16",))
NODE = NodeSettings("node-a", DetectLocalMode.NODE_CIDR, cluster_cidrs=("10.244.0.0/16",))
BRIDGE = NodeSettings("node-a", DetectLocalMode.BRIDGE_INTERFACE, pod_bridge_interface="cni0")
PREFIX = NodeSettings(
    "node-a", DetectLocalMode.INTERFACE_NAME_PREFIX, pod_interface_name_prefix="veth"
)

# settings, source, interface -> is it a local pod's?
PACKETS: list[tuple[NodeSettings, str, str | None, bool]] = [
    # ClusterCIDR: any pod of the cluster, by source address.
    (CLUSTER, "10.244.1.2", "eth0", True),
    (CLUSTER, "10.244.3.2", "eth0", True),
    (CLUSTER, "10.245.0.1", "cni0", False),
    (CLUSTER, "203.0.113.7", None, False),
    (CLUSTER, "fd00:10:244:1::2", None, True),
    (CLUSTER_V4, "fd00:10:244:1::2", None, False),
    # NodeCIDR: the node's own part of the pod network.
    (NODE, "10.244.1.2", None, True),
    (NODE, "10.244.2.2", None, False),
    (NODE, "fd00:10:244:1::2", None, True),
    # By interface, whatever the source.
    (BRIDGE, "203.0.113.7", "cni0", True),
    (BRIDGE, "10.244.1.2", "cni01", False),
    (BRIDGE, "10.244.1.2", None, False),
    (PREFIX, "203.0.113.7", "veth1234", True),
    (PREFIX, "10.244.1.2", "eth0", False),
    (PREFIX, "10.244.1.2", None, False),
]


@pytest.mark.parametrize(("settings", "source", "interface", "is_pod"), PACKETS)
def test_detection(
    settings: NodeSettings, source: str, interface: str | None, is_pod: bool
) -> None:
    assert detector(settings, node()).is_local_pod(source, interface) is is_pod


# settings, the Node as far as it is known -> known in IPv4, in IPv6
KNOWN: list[tuple[NodeSettings, Node | None, bool, bool]] = [
    (CLUSTER, None, True, True),
    (CLUSTER_V4, None, True, False),
    (NodeSettings("node-a"), node(), False, False),
    (NODE, node(), True, True),
    (NODE, node(pod_cidrs=["10.244.1.0/24"]), True, False),
    (NODE, node(pod_cidrs=[]), False, False),
    (NODE, None, False, False),
    (BRIDGE, None, True, True),
    (NodeSettings("node-a", DetectLocalMode.BRIDGE_INTERFACE), node(), False, False),
    (PREFIX, None, True, True),
    (NodeSettings("node-a", DetectLocalMode.INTERFACE_NAME_PREFIX), node(), False, False),
]


@pytest.mark.parametrize(("settings", "of", "v4", "v6"), KNOWN)
def test_whether_pods_can_be_told_apart(
    settings: NodeSettings,
    of: Node | None,
    v4: bool,
    v6: bool,
) -> None:
    found = detector(settings, of)
    assert (found.known(Family.IPV4), found.known(Family.IPV6)) == (v4, v6)


def test_the_first_cidr_of_each_family_counts_without_host_bits() -> None:
    settings = NodeSettings(
        "node-a", cluster_cidrs=("10.244.1.7/16", "fd00:10:244::/48", "10.9.0.0/16")
    )
    assert detector(settings, None) == LocalTraffic(
        DetectLocalMode.CLUSTER_CIDR, ("10.244.0.0/16", "fd00:10:244::/48")
    )


def test_pod_cidr_alone_counts_where_pod_cidrs_is_missing() -> None:
    old = Node(metadata=ObjectMeta(name="node-a"), spec=NodeSpec(pod_cidr="10.244.1.0/24"))
    assert detector(NODE, old).cidrs == ("10.244.1.0/24",)


def test_a_cluster_cidr_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"10\.244\.0\.0/33"):
        detector(NodeSettings("node-a", cluster_cidrs=("10.244.0.0/33",)), None)
