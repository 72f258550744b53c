"""Are the rules of the Service in every textbook those that every textbook prints?

The golden texts follow REFERENCE A.2, iptables chains. In them `#` stands for the hash of the
Service port, `KUBE-SEP-1` to `KUBE-SEP-3` for the chains of the endpoints. The names themselves are
held to those that kube-proxy gives to the same objects.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from endpoints.names import Protocol, ServicePortName
from endpoints.plan import Endpoint
from modes.iptables import service_chains
from proxy.cli import main
from tests.lab import objects
from tests.lab.manifests import Document
from tests.lab.objects import Port, service, session_affinity, slices

Rules = dict[str, list[str]]
"""By table and chain: `nat KUBE-SERVICES`."""

CLUSTER_CIDR = "--cluster-cidr=10.244.0.0/16"
PODS = (
    objects.Endpoint(("10.244.1.2", "fd00:10:244:1::2"), "node-a"),
    objects.Endpoint(("10.244.2.3", "fd00:10:244:2::3"), "node-b"),
    objects.Endpoint(("10.244.3.4", "fd00:10:244:3::4"), "node-c"),
)
VIP, BALANCER = "10.96.7.7", "198.51.100.20"
PLACES = {
    "KUBE-SEP-1": "KUBE-SEP-WTYDPKVIVBO55WNA",
    "KUBE-SEP-2": "KUBE-SEP-ZPJKJONSLYDBTZZP",
    "KUBE-SEP-3": "KUBE-SEP-Q5WLIXBWKLR32DN4",
    "#": "VBGEIYV62G5OCDZY",
}

# What kube-proxy writes too.
DISPATCH = """
*nat
-A KUBE-SERVICES -d 10.96.7.7/32 -p tcp -m comment --comment "shop/pay:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-#
"""
MARK = """
*nat
-A KUBE-SVC-# ! -s 10.244.0.0/16 -d 10.96.7.7/32 -p tcp -m comment --comment "shop/pay:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
"""
CHOICE = """
*nat
-A KUBE-SVC-# -m comment --comment "shop/pay:http -> 10.244.1.2:8080" -m statistic --mode random --probability 0.33333333349 -j KUBE-SEP-1
-A KUBE-SVC-# -m comment --comment "shop/pay:http -> 10.244.2.3:8080" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-2
-A KUBE-SVC-# -m comment --comment "shop/pay:http -> 10.244.3.4:8080" -j KUBE-SEP-3
"""
HERE = """
*nat
-A KUBE-SEP-1 -s 10.244.1.2/32 -m comment --comment "shop/pay:http" -j KUBE-MARK-MASQ
-A KUBE-SEP-1 -p tcp -m comment --comment "shop/pay:http" -j DNAT --to-destination 10.244.1.2:8080
"""
# Nobody on this node is pod 2 or 3: they cannot reach themselves through it.
ELSEWHERE = """
*nat
-A KUBE-SEP-2 -p tcp -m comment --comment "shop/pay:http" -j DNAT --to-destination 10.244.2.3:8080
-A KUBE-SEP-3 -p tcp -m comment --comment "shop/pay:http" -j DNAT --to-destination 10.244.3.4:8080
"""
ENDPOINTS = HERE + ELSEWHERE
NODE_PORT = """
*nat
-A KUBE-NODEPORTS -p tcp -m comment --comment "shop/pay:http" -m tcp --dport 30080 -j KUBE-EXT-#
"""
BALANCED = """
*nat
-A KUBE-SERVICES -d 198.51.100.20/32 -p tcp -m comment --comment "shop/pay:http loadbalancer IP" -m tcp --dport 80 -j KUBE-EXT-#
"""
EXTERNAL_IP = """
*nat
-A KUBE-SERVICES -d 192.0.2.1/32 -p tcp -m comment --comment "shop/pay:http external IP" -m tcp --dport 80 -j KUBE-EXT-#
"""
RANGES = """
*filter
-A KUBE-PROXY-FIREWALL -d 198.51.100.20/32 -p tcp -m comment --comment "shop/pay:http traffic not accepted by KUBE-FW-#" -m tcp --dport 80 -j DROP
*nat
-A KUBE-SERVICES -d 198.51.100.20/32 -p tcp -m comment --comment "shop/pay:http loadbalancer IP" -m tcp --dport 80 -j KUBE-FW-#
-A KUBE-FW-# -s 192.168.0.0/24 -m comment --comment "shop/pay:http loadbalancer IP" -j KUBE-EXT-#
-A KUBE-FW-# -s 198.51.100.20/32 -m comment --comment "shop/pay:http loadbalancer IP" -j KUBE-EXT-#
-A KUBE-FW-# -s 203.0.113.0/24 -m comment --comment "shop/pay:http loadbalancer IP" -j KUBE-EXT-#
"""
EXTERNAL_CLUSTER = """
*nat
-A KUBE-EXT-# -m comment --comment "masquerade traffic for shop/pay:http external destinations" -j KUBE-MARK-MASQ
-A KUBE-EXT-# -j KUBE-SVC-#
"""
BYPASS = """
*nat
-A KUBE-EXT-# -s 10.244.0.0/16 -m comment --comment "pod traffic for shop/pay:http external destinations" -j KUBE-SVC-#
-A KUBE-EXT-# -m comment --comment "masquerade LOCAL traffic for shop/pay:http external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
-A KUBE-EXT-# -m comment --comment "route LOCAL traffic for shop/pay:http external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-#
"""
EXTERNAL_LOCAL = f"""{BYPASS}
-A KUBE-EXT-# -j KUBE-SVL-#
-A KUBE-SVL-# -m comment --comment "shop/pay:http -> 10.244.1.2:8080" -j KUBE-SEP-1
"""
HEALTH_CHECK = """
*filter
-A KUBE-NODEPORTS -p tcp -m comment --comment "shop/pay health check node port" -m tcp --dport 32000 -j ACCEPT
"""
REMEMBER = """
*nat
-A KUBE-SVC-# -m comment --comment "shop/pay:http -> 10.244.1.2:8080" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-1 --mask 255.255.255.255 --rsource -j KUBE-SEP-1
-A KUBE-SVC-# -m comment --comment "shop/pay:http -> 10.244.2.3:8080" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-2 --mask 255.255.255.255 --rsource -j KUBE-SEP-2
-A KUBE-SVC-# -m comment --comment "shop/pay:http -> 10.244.3.4:8080" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-3 --mask 255.255.255.255 --rsource -j KUBE-SEP-3
"""
STICKY_ENDPOINTS = """
*nat
-A KUBE-SEP-1 -s 10.244.1.2/32 -m comment --comment "shop/pay:http" -j KUBE-MARK-MASQ
-A KUBE-SEP-1 -p tcp -m comment --comment "shop/pay:http" -m recent --set --name KUBE-SEP-1 --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.1.2:8080
-A KUBE-SEP-2 -p tcp -m comment --comment "shop/pay:http" -m recent --set --name KUBE-SEP-2 --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.2.3:8080
-A KUBE-SEP-3 -p tcp -m comment --comment "shop/pay:http" -m recent --set --name KUBE-SEP-3 --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.3.4:8080
"""

# What kube-proxy does otherwise or not at all: modes/iptables/README.md has the list.
UNKNOWN_PORTS = """
*filter
-A KUBE-CLUSTER-IPS -d 10.96.7.7/32 -m comment --comment "shop/pay cluster IP" -j KUBE-REFUSE
-A KUBE-UNKNOWN-PORTS -d 10.96.7.7/32 -j KUBE-CLUSTER-IPS
"""
REFUSED = """
*filter
-A KUBE-SERVICES -d 10.96.7.7/32 -p tcp -m comment --comment "shop/pay:http has no endpoints" -m tcp --dport 80 -j REJECT --reject-with tcp-reset
-A KUBE-EXTERNAL-SERVICES -d 198.51.100.20/32 -p tcp -m comment --comment "shop/pay:http has no endpoints" -m tcp --dport 80 -j REJECT --reject-with tcp-reset
-A KUBE-EXTERNAL-NODEPORTS -p tcp -m comment --comment "shop/pay:http has no endpoints" -m tcp --dport 30080 -j REJECT --reject-with tcp-reset
"""
DROPPED = """
*filter
-A KUBE-EXTERNAL-SERVICES -d 198.51.100.20/32 -p tcp -m comment --comment "shop/pay:http has no local endpoints" -m tcp --dport 80 -j DROP
-A KUBE-EXTERNAL-NODEPORTS -p tcp -m comment --comment "shop/pay:http has no local endpoints" -m tcp --dport 30080 -j DROP
"""
TWO = """
*nat
-A KUBE-SVC-# -m comment --comment "shop/pay:http -> 10.244.2.3:8080" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-2
-A KUBE-SVC-# -m comment --comment "shop/pay:http -> 10.244.3.4:8080" -j KUBE-SEP-3
"""
INTERNAL_LOCAL = """
*nat
-A KUBE-SERVICES -d 10.96.7.7/32 -p tcp -m comment --comment "shop/pay:http cluster IP" -m tcp --dport 80 -j KUBE-SVL-#
-A KUBE-SVL-# ! -s 10.244.0.0/16 -d 10.96.7.7/32 -p tcp -m comment --comment "shop/pay:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVL-# -m comment --comment "shop/pay:http -> 10.244.1.2:8080" -j KUBE-SEP-1
"""
INTERNAL_DROPPED = """
*filter
-A KUBE-SERVICES -d 10.96.7.7/32 -p tcp -m comment --comment "shop/pay:http has no local endpoints" -m tcp --dport 80 -j DROP
"""
MARK_ALL = MARK.replace("! -s 10.244.0.0/16 ", "")
MARK_BRIDGE = MARK_ALL.replace("/32 -p tcp", "/32 ! -i cni0 -p tcp")
MARK_PREFIX = MARK_ALL.replace("/32 -p tcp", "/32 ! -i veth+ -p tcp")

ON_CLUSTER_IP = (Port(80, "http"),)
ON_NODE_PORT = (Port(80, "http", node_port=30080),)
CLUSTER_IP = DISPATCH + MARK + CHOICE + ENDPOINTS
EXTERNALLY_LOCAL = {"externalTrafficPolicy": "Local"}
INTERNALLY_LOCAL = {"internalTrafficPolicy": "Local"}


def pay(
    spec: Mapping[str, object] | None = None,
    pods: Iterable[objects.Endpoint] = PODS,
    *,
    ports: Sequence[Port] = ON_CLUSTER_IP,
    ingress: Sequence[str] = (),
) -> list[Document]:
    """The Service of the textbook and its endpoints."""
    made = service("shop/pay", [VIP], ports, spec=spec, ingress=ingress)
    return [made, slices("shop/pay", ports, pods)[0]]


def balanced(
    spec: Mapping[str, object] | None = None, pods: Iterable[objects.Endpoint] = PODS
) -> list[Document]:
    return pay(spec, pods, ports=ON_NODE_PORT, ingress=[BALANCER])


TEXTBOOK: dict[str, tuple[list[Document], str]] = {
    "ClusterIP": (pay(), CLUSTER_IP),
    "NodePort": (pay(ports=ON_NODE_PORT), CLUSTER_IP + NODE_PORT + EXTERNAL_CLUSTER),
    "LoadBalancer": (balanced(), CLUSTER_IP + NODE_PORT + BALANCED + EXTERNAL_CLUSTER),
    "external IP": (
        pay({"externalIPs": ["192.0.2.1"]}),
        CLUSTER_IP + EXTERNAL_IP + EXTERNAL_CLUSTER,
    ),
    "externalTrafficPolicy Local": (
        balanced({"healthCheckNodePort": 32000, **EXTERNALLY_LOCAL}),
        CLUSTER_IP + NODE_PORT + BALANCED + EXTERNAL_LOCAL + HEALTH_CHECK,
    ),
    "externalTrafficPolicy Local, none here": (
        balanced(EXTERNALLY_LOCAL, PODS[1:]),
        DISPATCH + MARK + TWO + ELSEWHERE + NODE_PORT + BALANCED + BYPASS + DROPPED,
    ),
    "source ranges, one of them the node's": (
        balanced({"loadBalancerSourceRanges": ["203.0.113.0/24", "192.168.0.0/24"]}),
        CLUSTER_IP + NODE_PORT + RANGES + EXTERNAL_CLUSTER,
    ),
    "affinity": (
        pay(session_affinity(10800)),
        DISPATCH + MARK + REMEMBER + CHOICE + STICKY_ENDPOINTS,
    ),
    "no endpoints": (balanced(pods=[]), REFUSED),
    "internalTrafficPolicy Local": (pay(INTERNALLY_LOCAL), INTERNAL_LOCAL + HERE),
    "internalTrafficPolicy Local, none here": (
        pay(INTERNALLY_LOCAL, PODS[1:]),
        INTERNAL_DROPPED,
    ),
}
DETECTORS = {
    "nothing": ([], ""),
    "masquerade all": ([CLUSTER_CIDR, "--masquerade-all"], MARK_ALL),
    "the cluster CIDR": ([CLUSTER_CIDR], MARK),
    "the node's CIDR": (
        ["--detect-local-mode=NodeCIDR"],
        MARK.replace("10.244.0.0/16", "10.244.1.0/24"),
    ),
    "a bridge": (
        ["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0"],
        MARK_BRIDGE,
    ),
    "a prefix": (
        ["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth"],
        MARK_PREFIX,
    ),
}


@pytest.fixture
def render(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Renderer:
    return Renderer(tmp_path, capsys)


class Renderer:
    """`headgate render --mode iptables` on node-a, IPv4."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys

    def __call__(self, documents: Iterable[Document], flags: Sequence[str]) -> Rules:
        texts = map(json.dumps, [*objects.nodes(), *documents])
        (self._folder / "cluster.yaml").write_text("\n---\n".join(texts))
        arguments = ["--mode=iptables", "--node=node-a", f"--manifests={self._folder}", *flags]
        assert main(["render", *arguments]) == 0
        return rules(self._capsys.readouterr().out.partition("# IPv6\n")[0])

    def service(self, documents: Iterable[Document], flags: Sequence[str]) -> Rules:
        """What there is for these objects only."""
        frame = self([], flags)
        whole = self(documents, flags)
        assert not [rule for at, of in frame.items() for rule in of if rule not in whole[at]]
        own = {at: [r for r in of if r not in frame.get(at, ())] for at, of in whole.items()}
        return {at: of for at, of in own.items() if of}


def rules(text: str) -> Rules:
    """The rules of a text of iptables-save, each chain's in their order."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            found[f"{table} {chain}"].append(rule)
    return dict(found)


def golden(text: str) -> Rules:
    for place, name in PLACES.items():
        text = text.replace(place, name)
    return rules(text)


@pytest.mark.parametrize(("documents", "text"), TEXTBOOK.values(), ids=TEXTBOOK)
def test_the_textbook(render: Renderer, documents: list[Document], text: str) -> None:
    assert render.service(documents, [CLUSTER_CIDR]) == golden(text + UNKNOWN_PORTS)


@pytest.mark.parametrize(("flags", "mark"), DETECTORS.values(), ids=DETECTORS)
def test_who_is_masqueraded(render: Renderer, flags: list[str], mark: str) -> None:
    expected = golden(DISPATCH + mark + CHOICE + ENDPOINTS + UNKNOWN_PORTS)
    assert render.service(pay(), flags) == expected


def test_pods_bypass_policy_local_only_where_they_can_be_told(render: Renderer) -> None:
    without = "\n".join(line for line in BYPASS.splitlines() if "pod traffic" not in line)
    found = render.service(balanced(EXTERNALLY_LOCAL), [])
    external = golden(without + "\n-A KUBE-EXT-# -j KUBE-SVL-#")
    assert found["nat KUBE-EXT-" + PLACES["#"]] == external["nat KUBE-EXT-" + PLACES["#"]]


FRAME = """
*filter
-A INPUT -m comment --comment "kubernetes load balancer firewall" -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m comment --comment "kubernetes service portals" -m conntrack --ctstate NEW -j KUBE-SERVICES
-A INPUT -m comment --comment "kubernetes externally-visible service portals" -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "kubernetes load balancer firewall" -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m comment --comment "kubernetes service portals" -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m comment --comment "kubernetes externally-visible service portals" -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m comment --comment "kubernetes load balancer firewall" -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A OUTPUT -m comment --comment "kubernetes service portals" -m conntrack --ctstate NEW -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes externally-visible service portals" -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-PROXY-FIREWALL -m conntrack --ctstate DNAT -j RETURN
-A KUBE-SERVICES -m conntrack --ctstate DNAT -j RETURN
-A KUBE-EXTERNAL-SERVICES -m conntrack --ctstate DNAT -j RETURN
-A KUBE-EXTERNAL-SERVICES -j KUBE-UNKNOWN-PORTS
-A KUBE-EXTERNAL-SERVICES -d 127.0.0.1/32 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --src-type LOCAL -j KUBE-EXTERNAL-NODEPORTS
-A KUBE-EXTERNAL-SERVICES ! -d 127.0.0.0/8 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-EXTERNAL-NODEPORTS
-A KUBE-REFUSE -p tcp -j REJECT --reject-with tcp-reset
-A KUBE-REFUSE -j REJECT --reject-with icmp-port-unreachable
*nat
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 127.0.0.1/32 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --src-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SERVICES ! -d 127.0.0.0/8 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
"""


def test_what_is_there_without_any_service(render: Renderer) -> None:
    assert render([], [CLUSTER_CIDR]) == golden(FRAME)


def test_rules_that_must_be_first_or_last_are(render: Renderer) -> None:
    found = render(balanced(), [CLUSTER_CIDR])
    assert found["nat KUBE-SERVICES"][-1].endswith("--dst-type LOCAL -j KUBE-NODEPORTS")
    found = render(balanced(pods=[]), [CLUSTER_CIDR])
    assert found["filter KUBE-EXTERNAL-SERVICES"][-1].endswith("-j KUBE-EXTERNAL-NODEPORTS")
    assert "-j KUBE-UNKNOWN-PORTS" in found["filter KUBE-EXTERNAL-SERVICES"][-3:]
    for chain in ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"):
        assert found[f"filter {chain}"][0] == "-m conntrack --ctstate DNAT -j RETURN"


TCP, UDP = Protocol.TCP, Protocol.UDP
# Seen on clusters and in kube-proxy's own tests.
KUBE_PROXY = {
    ServicePortName("default", "kubernetes", "https", TCP): "NPX46M4PTMTKRN6Y",
    ServicePortName("kube-system", "kube-dns", "dns", UDP): "TCOU7JCQXEZGVUNU",
    ServicePortName("kube-system", "kube-dns", "dns-tcp", TCP): "ERIFXISQEP7F7OF4",
    ServicePortName("kube-system", "kube-dns", "metrics", TCP): "JD5MR3NA4I4DYORP",
    ServicePortName("ingress-nginx", "ingress-nginx-controller", "http", TCP): "CG5I4G2RS3ZVWGLK",
    ServicePortName("ns1", "svc1", "p80", TCP): "XPGD46QRK7WJZT7O",
    ServicePortName("ns2", "svc2", "p80", TCP): "GNZBNJ2PO5MGZ6GT",
    ServicePortName("ns5", "svc5", "p80", TCP): "NUKIZ6OKUXPJNT4C",
    # A port without a name.
    ServicePortName("default", "nginx-mlb-l2-service", "", TCP): "W47NQ5DDJKUWFTVY",
}
KUBE_PROXY_ENDPOINTS = {
    (ServicePortName("ns1", "svc1", "p80", TCP), "10.180.0.1", 80): "SXIVWICOYRO3J4NJ",
    (ServicePortName("ns1", "svc1", "p80", TCP), "10.180.0.2", 80): "LXVODXWDISEETFEF",
    (ServicePortName("ns2", "svc2", "p80", TCP), "10.180.0.2", 80): "RS4RBKLTHTF2IUXJ",
    (ServicePortName("ns4", "svc4", "p80", TCP), "10.180.0.5", 80): "C6EBXVWJJZMIWKLZ",
    (ServicePortName("kube-system", "kube-dns", "dns", UDP), "10.85.0.4", 53): "WAIILD3LBHUAKL5L",
    (
        ServicePortName("default", "kubernetes", "https", TCP),
        "10.65.94.238",
        6443,
    ): "5MZSX7EQJ56C6NAG",
    (
        ServicePortName("default", "nginx-mlb-l2-service", "", TCP),
        "10.42.0.25",
        8080,
    ): "H3SFLVALEZ5LECV3",
}


@pytest.mark.parametrize(("name", "known"), KUBE_PROXY.items(), ids=str)
def test_chains_of_services_are_called_as_kube_proxy_calls_them(
    name: ServicePortName, known: str
) -> None:
    assert service_chains.cluster_chain(name) == f"KUBE-SVC-{known}"
    assert service_chains.local_chain(name) == f"KUBE-SVL-{known}"
    assert service_chains.external_chain(name) == f"KUBE-EXT-{known}"
    assert service_chains.firewall_chain(name) == f"KUBE-FW-{known}"


@pytest.mark.parametrize(("of", "known"), KUBE_PROXY_ENDPOINTS.items(), ids=str)
def test_chains_of_endpoints_are_called_as_kube_proxy_calls_them(
    of: tuple[ServicePortName, str, int], known: str
) -> None:
    name, address, port = of
    assert service_chains.endpoint_chain(name, Endpoint(address, port)) == f"KUBE-SEP-{known}"
