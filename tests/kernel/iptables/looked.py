"""What do tests apply that then look at what the kernel holds?"""

from __future__ import annotations

import msgspec

from endpoints.names import ObjectName
from endpoints.node import NodePortAddresses
from modes.base import ModeSettings, Plans
from modes.held import EVERYTHING, Difference, DifferenceKind, Held, Only
from modes.iptables import service_chains
from modes.iptables.looking import look
from modes.xtables.variant import Variant
from tests.kernel.rulesets import plans, services
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import (
    LOCAL,
    balancer,
    cluster_ip,
    external_ip,
    node_port,
    plan_of,
    pods,
)

MISSING, EXTRA, DIFFERENT = (
    DifferenceKind.MISSING,
    DifferenceKind.EXTRA,
    DifferenceKind.DIFFERENT,
)
NODE = msgspec.structs.replace(
    NODE_A, node_ports_v4=NodePortAddresses(match_all=True, addresses=("127.0.0.1",))
)
PAY = ObjectName("shop", "pay")
ENDS = pods("10.244.1.2", "10.244.2.2")
KNOWN: dict[ObjectName, Plans] = {
    **services(1, 2, 3, endpoints=3),
    ObjectName("shop", "none"): (plan_of(cluster_ip("10.96.9.9"), name=plans(9)[0].name),),
    PAY: (
        plan_of(
            cluster_ip("10.96.7.7"),
            external_ip("198.51.100.9", policy=LOCAL),
            balancer("198.51.100.4", policy=LOCAL, ranges=["203.0.113.0/24"]),
            node_port(30080, LOCAL),
            cluster=ENDS,
            affinity_seconds=90,
        ),
        plan_of(cluster_ip("fd00:10:96::7"), cluster=pods("fd00:10:244:1::2")),
    ),
}
(ONE, _) = KNOWN[ObjectName("shop", "s1")]
SVC = service_chains.cluster_chain(ONE.name)
SEPS = [service_chains.endpoint_chain(ONE.name, of) for of in ONE.cluster]
LAST = SEPS[-1]
S1, S2 = "shop/s1:http", "shop/s2:http"


def seen(variant: Variant, only: Only = EVERYTHING) -> Held:
    return look(only, ModeSettings(iptables_variant=variant))


def wrong(variant: Variant, only: Only = EVERYTHING) -> tuple[Difference, ...]:
    return seen(variant, only).differences(NODE, KNOWN)
