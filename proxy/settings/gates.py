"""Which feature gates does kube-proxy know? Pure.

None of them changes what headgate does: what they once switched is always on here, or not built.
"""

from __future__ import annotations

from collections.abc import Mapping

KNOWN = frozenset(
    {
        "AllAlpha",
        "AllBeta",
        "AllowServiceLBStatusOnNonLB",
        "ClientsAllowCBOR",
        "ClientsPreferCBOR",
        "ComponentFlagz",
        "ComponentSLIs",
        "ComponentStatusz",
        "ContextualLogging",
        "EndpointSlice",
        "EndpointSliceProxying",
        "InformerResourceVersion",
        "IPv6DualStack",
        "KubeProxyDrainingTerminatingNodes",
        "KubeProxyIPVS",
        "KubeProxyNFTablesLocalhostNodePorts",
        "LoadBalancerIPMode",
        "LoggingAlphaOptions",
        "LoggingBetaOptions",
        "MinimizeIPTablesRestore",
        "MixedProtocolLBService",
        "MultiCIDRServiceAllocator",
        "NFTablesNetlink",
        "NFTablesProxyMode",
        "PreferSameTrafficDistribution",
        "ProxyTerminatingEndpoints",
        "SCTPSupport",
        "ServiceInternalTrafficPolicy",
        "ServiceTopology",
        "ServiceTrafficDistribution",
        "SupportIPVSProxyMode",
        "TopologyAwareHints",
        "WatchListClient",
        "WinDSR",
        "WinOverlay",
    }
)
"""Those that its releases up to 1.37 act on."""


def warnings(gates: Mapping[str, bool], origin: str) -> tuple[str, ...]:
    """What an operator should look at of the gates that were given there: a line, or none."""
    unknown = ",".join(gate for gate in gates if gate not in KNOWN)
    return (f"{origin}: {unknown}: ignored: kube-proxy has no such feature gates",) * bool(unknown)


def notes(gates: Mapping[str, bool], origin: str) -> tuple[str, ...]:
    """What else is to be said of them: a line, or none."""
    known = ",".join(f"{gate}={str(on).lower()}" for gate, on in gates.items() if gate in KNOWN)
    return (f"{origin}: {known}: ignored: headgate has no feature gates",) * bool(known)
