"""Is the answer of `headgate explain` the one that an operator can act on?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.cli import main
from tests.unit.proxy.configured import HEAD

SHOP = """\
apiVersion: v1
kind: Node
metadata: {name: worker-2, labels: {topology.kubernetes.io/zone: eu-1a}}
spec: {podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"]}
status: {addresses: [{type: InternalIP, address: 192.168.0.11}]}
---
apiVersion: v1
kind: Service
metadata: {name: pay, namespace: shop}
spec:
  type: LoadBalancer
  clusterIP: 10.96.7.7
  externalTrafficPolicy: Local
  loadBalancerSourceRanges: [203.0.113.0/24]
  ports: [{name: http, port: 80, nodePort: 30080}]
status: {loadBalancer: {ingress: [{ip: 198.51.100.20}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: pay-1, namespace: shop, labels: {kubernetes.io/service-name: pay}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.244.1.2], nodeName: worker-2, zone: eu-1a, hints: {forZones: [{name: eu-1a}]}}
- {addresses: [10.244.2.9], nodeName: worker-7, zone: eu-1a, hints: {forZones: [{name: eu-1a}]}}
- {addresses: [10.244.3.4], nodeName: worker-9, zone: eu-1b, hints: {forZones: [{name: eu-1b}]}}
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: shop}
spec: {clusterIP: 10.96.7.8, externalTrafficPolicy: Local, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: away, namespace: shop}
spec: {clusterIP: 10.96.7.9, internalTrafficPolicy: Local, sessionAffinity: ClientIP, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: away-1, namespace: shop, labels: {kubernetes.io/service-name: away}}
addressType: IPv4
ports: [{name: "", port: 8080}]
endpoints: [{addresses: [10.244.2.9], nodeName: worker-7}]
---
apiVersion: v1
kind: Service
metadata: {name: wide, namespace: shop}
spec: {clusterIP: 10.96.7.10, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: wide-1, namespace: shop, labels: {kubernetes.io/service-name: wide}}
addressType: IPv4
ports: [{name: "", port: 8080}]
endpoints:
"""
WIDE = "".join(f"- {{addresses: [10.244.9.{n}], nodeName: worker-9}}\n" for n in range(1, 13))


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP + WIDE)
    return path


@pytest.fixture
def explained(manifests: Path, capsys: pytest.CaptureFixture[str]) -> Explained:
    return Explained(manifests, capsys)


class Explained:
    """Runs the command."""

    def __init__(self, manifests: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._base = [
            f"--manifests={manifests}",
            "--node=worker-2",
            "--cluster-cidr=10.244.0.0/16,fd00:10:244::/64",
        ]
        self._capsys = capsys

    def text(self, *arguments: str) -> str:
        assert main(["explain", *arguments, *self._base]) == 0
        out, err = self._capsys.readouterr()
        assert err == ""
        return out

    def headline(self, *arguments: str) -> str:
        return self.text(*arguments).splitlines()[0]

    def refusal(self, *arguments: str) -> str:
        assert main(["explain", *arguments, *self._base]) == 2
        out, err = self._capsys.readouterr()
        assert out == ""
        return err


def test_a_pod_to_a_cluster_ip(explained: Explained) -> None:
    assert (
        explained.text("10.96.7.7:80", "--from", "10.244.1.9")
        == """\
FORWARD   shop/pay:http -> 10.244.1.2:8080 (50%) or 10.244.2.9:8080 (50%); source stays 10.244.1.9
  1  prerouting    10.96.7.7:80/TCP is the cluster IP of shop/pay:http, policy Cluster
  2  pick-2        one of 2 endpoints, uniformly
  3  postrouting   10.244.1.9 is a local pod (clusterCIDR 10.244.0.0/16): not masqueraded
  reply            goes to 10.244.1.9, and must come through this node, whose conntrack entry makes it one of 10.96.7.7:80
  not used         10.244.3.4:8080   ready, but hinted for zone eu-1b; this node is in eu-1a
  Not looked at: this machine, its rules, routes and conntrack; --check does.
"""
    )


def test_a_client_outside_the_source_ranges(explained: Explained) -> None:
    assert (
        explained.text("198.51.100.20:80", "--from=192.0.2.8")
        == """\
DROP   shop/pay:http does not accept 192.0.2.8
  1  prerouting   198.51.100.20:80/TCP is a load balancer address of shop/pay:http, policy Local
  2  lb-check     loadBalancerSourceRanges allows 203.0.113.0/24 only: 192.0.2.8 is outside -> drop
  not used        10.244.3.4:8080   ready, but hinted for zone eu-1b; this node is in eu-1a
  A client inside the range would reach 10.244.1.2:8080 (100%), externalTrafficPolicy Local, client address kept.
  Not looked at: this machine, its rules, routes and conntrack; --check does.
"""
    )


@pytest.mark.parametrize(
    ("arguments", "headline"),
    [
        ("10.96.7.8:80", "REJECT   shop/empty has no endpoints"),
        ("10.96.7.7:81", "REJECT   no Service has 10.96.7.7:81/TCP"),
        ("10.96.7.7:80/udp", "REJECT   no Service has 10.96.7.7:80/UDP"),
        ("10.96.7.9:80", "DROP   shop/away has no endpoint on this node that it may use"),
        ("192.0.2.1:53/UDP", "PASS   192.0.2.1:53/UDP is left alone"),
        ("[2001:db8::1]:80/sctp", "PASS   [2001:db8::1]:80/SCTP is left alone"),
        (
            "192.168.0.11:30080 --from 203.0.113.7",
            "FORWARD   shop/pay:http -> 10.244.1.2:8080 (100%); source stays 203.0.113.7",
        ),
        (
            "192.168.0.11:30080 --from 192.168.0.11",
            "FORWARD   shop/pay:http -> 10.244.1.2:8080 (50%) or 10.244.2.9:8080 (50%); source becomes the node's",
        ),
        (
            "10.96.7.7:80 --from 10.244.1.2",
            "FORWARD   shop/pay:http -> 10.244.1.2:8080 (50%) or 10.244.2.9:8080 (50%); source stays 10.244.1.2, for 10.244.1.2:8080 it becomes the node's",
        ),
        (
            "10.96.7.10:80 --from 10.244.1.2",
            "FORWARD   shop/wide -> one of 12 endpoints (8.33% each); source stays 10.244.1.2",
        ),
    ],
)
def test_headlines(explained: Explained, arguments: str, headline: str) -> None:
    assert explained.headline(*arguments.split()) == headline


def test_of_many_candidates_the_first_are_named(explained: Explained) -> None:
    lines = explained.text("10.96.7.10:80", "--from", "10.244.1.2").splitlines()
    assert lines[4] == "  candidate        10.244.9.1:8080"
    assert lines[-3] == "                   and 2 more: -o json has all"
    assert lines[-2].startswith("  reply            goes to 10.244.1.2, ")
    assert len([line for line in lines if ":8080" in line]) == 10


@pytest.mark.parametrize(
    ("arguments", "assumed"),
    [
        # A cluster IP is for pods: one of this node that does not serve it itself, or a stand-in.
        ("10.96.7.10:80", "10.244.1.2, a pod of this node"),
        (
            "10.96.7.7:80",
            "10.244.255.254, standing for a pod of this node in 10.244.0.0/16",
        ),
        ("198.51.100.20:80", "203.0.113.1, a client outside the cluster"),
        ("192.168.0.11:30080", "203.0.113.1, a client outside the cluster"),
        ("[2001:db8::5]:80", "2001:db8::1, a client outside the cluster"),
        ("10.96.7.7:80 --via output", "192.168.0.11, this node itself"),
        ("[2001:db8::5]:80 --via=output", "::1, this node itself"),
    ],
)
def test_an_assumed_source_is_told(explained: Explained, arguments: str, assumed: str) -> None:
    last = explained.text(*arguments.split()).splitlines()[-1]
    assert last == f"  Without --from, the source is assumed: {assumed}."


def test_without_any_address_of_a_pod_the_source_is_outside(
    manifests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "[fd00::7]:80", f"--manifests={manifests}", "--node=worker-2"]) == 0
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .endswith("2001:db8::1, a client outside the cluster.")
    )
    (slices := manifests.with_name("b.yaml")).write_text(
        manifests.read_text()
        .replace("10.244.1.2", "10.244.2.2")
        .replace("nodeName: worker-2", "nodeName: worker-8")
    )
    assert main(["explain", "10.96.7.7:80", f"--manifests={slices}", "--node=worker-2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "  Without --from, the source is assumed: 203.0.113.1, a client outside the cluster, as"
        " nothing here says which addresses pods have."
    )


def test_a_source_of_the_node_itself_leaves_by_output(explained: Explained) -> None:
    assert "  1  output " in explained.text("10.96.7.7:80", "--from", "192.168.0.11")
    text = explained.text("10.96.7.7:80", "--from", "192.168.0.11", "--via", "prerouting")
    assert "  1  prerouting " in text


def test_by_which_interface_a_pod_comes(explained: Explained) -> None:
    bridge = ["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0"]
    known = explained.text("10.96.7.10:80", "--from=10.244.1.2", *bridge)
    assert "is a local pod (interface cni0, arrived on cni0)" in known
    stranger = explained.text("10.96.7.10:80", "--from=10.244.1.77", *bridge)
    assert "is not a local pod (interface cni0, arrived on none)" in stranger
    told = explained.text("10.96.7.10:80", "--from=10.244.1.77", "--interface=cni0", *bridge)
    assert "is a local pod (interface cni0, arrived on cni0)" in told
    prefix = ["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=cali"]
    assert "arrived on cali0" in explained.text("10.96.7.10:80", "--from=10.244.1.2", *prefix)


def test_json(explained: Explained) -> None:
    found = json.loads(explained.text("10.96.7.7:80", "--from=10.244.1.2", "-o=json"))
    assert found["verdict"] == "FORWARD"
    assert found["service"] == "shop/pay:http"
    assert found["packet"]["hook"] == "prerouting"
    assert found["candidates"] == [
        {
            "endpoint": "10.244.1.2:8080",
            "node": "worker-2",
            "zone": "eu-1a",
            "probability": 0.5,
            "masqueraded": True,
        },
        {
            "endpoint": "10.244.2.9:8080",
            "node": "worker-7",
            "zone": "eu-1a",
            "probability": 0.5,
            "masqueraded": False,
        },
    ]
    assert [step["place"] for step in found["steps"]] == [
        "prerouting",
        "pick-2",
        "postrouting",
        "postrouting",
    ]
    assert [of["endpoint"] for of in found["unused"]] == ["10.244.3.4:8080"]
    assert found["assumed"] == ""


def test_the_chains_and_the_defaults_of_a_mode(explained: Explained) -> None:
    """Of itself the iptables mode serves NodePorts on all addresses, 127.0.0.1 among them."""
    aim = ("127.0.0.1:30080", "--from=127.0.0.1")
    assert explained.headline(*aim).startswith("PASS   127.0.0.1:30080/TCP is left alone")
    lines = explained.text(*aim, "--mode=iptables").splitlines()
    assert lines[0].startswith("FORWARD   shop/pay:http -> 10.244.1.2:8080 (50%)")
    assert [line.split()[1] for line in lines[1:4]] == [
        "OUTPUT",
        "KUBE-SVC-VBGEIYV62G5OCDZY",
        "KUBE-POSTROUTING",
    ]
    without = "--iptables-localhost-nodeports=false"
    assert explained.headline(*aim, "--mode=iptables", without).startswith("PASS")
    outside = ("198.51.100.20:80", "--from=192.0.2.8", "--mode=iptables")
    assert "  2  KUBE-FW-VBGEIYV62G5OCDZY   load" in explained.text(*outside)
    assert explained.headline(*outside) == "DROP   shop/pay:http does not accept 192.0.2.8"


def test_what_a_file_says(
    manifests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.conf"
    base = [f"--config={file}", f"--manifests={manifests}", "--node=worker-2"]

    def told(body: str, *arguments: str) -> list[str]:
        file.write_text(HEAD + body)
        assert main(["explain", *arguments, *base]) == 0
        return capsys.readouterr().out.splitlines()

    pod = ("10.96.7.7:80", "--from=10.244.1.9")
    assert "not masqueraded" in told("clusterCIDR: 10.244.0.0/16", *pod)[3]
    assert told("clusterCIDR: 10.244.0.0/16", *pod)[1].split()[1] == "prerouting"
    assert told("mode: iptables", *pod)[1].split()[1] == "PREROUTING"
    assert told("mode: iptables", *pod, "--mode=nftables")[1].split()[1] == "prerouting"
    assert told("mode: auto", *pod)[1].split()[1] == "prerouting"
    assert "node's" in told("nftables: {masqueradeAll: true}", *pod)[0]
    node_port = ("192.168.0.11:30080", "--from=203.0.113.9")
    assert told("nodePortAddresses: [10.0.0.0/8]", *node_port)[0].startswith("PASS")
    assert told("", *node_port)[0].startswith("FORWARD")


def test_json_names_who_it_is_not_for(explained: Explained) -> None:
    found = json.loads(explained.text("192.0.2.1:80", "--output", "json"))
    assert found["verdict"] == "PASS"
    assert found["service"] is None
    assert found["candidates"] == []
    outside = "203.0.113.1, a client outside the cluster"
    assert found["assumed"] == f"Without --from, the source is assumed: {outside}."


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ("pod", "10.244.255.254, standing for a pod of this node in 10.244.0.0/16"),
        ("node", "192.168.0.11, this node itself"),
        ("outside", "203.0.113.1, a client outside the cluster"),
    ],
)
def test_a_sender_may_be_named_by_a_word(explained: Explained, who: str, said: str) -> None:
    last = explained.text("10.96.7.7:80", "--from", who).splitlines()[-1]
    assert last == f"  --from {who} is taken to be {said}."


@pytest.mark.parametrize(
    ("scheduler", "words", "ends"),
    [
        ("rr", "in turn", "10.244.1.2:8080 (50%) or 10.244.2.9:8080 (50%)"),
        ("sh", "by the client's address", "10.244.1.2:8080 or 10.244.2.9:8080"),
        ("xyz", "by scheduler xyz", "10.244.1.2:8080 or 10.244.2.9:8080"),
    ],
)
def test_in_ipvs_mode_a_scheduler_chooses(
    explained: Explained, scheduler: str, words: str, ends: str
) -> None:
    told = explained.text("10.96.7.7:80", "--mode=ipvs", f"--ipvs-scheduler={scheduler}")
    assert f"one of 2 endpoints, {words}\n" in told
    assert told.startswith(f"FORWARD   shop/pay:http -> {ends}; ")


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        ("10.96.7.7", "ADDR:PORT[/PROTO]: 10.96.7.7: must be an address and a port"),
        ("10.96.7.7:http", "ADDR:PORT[/PROTO]: 10.96.7.7:http: must be an address and a port"),
        (
            "fd00::1:80",
            "ADDR:PORT[/PROTO]: fd00::1:80: must be an address and a port (IPv6 is written [fd00::1]:80)",
        ),
        ("10.96.7.7:0", "ADDR:PORT[/PROTO]: 10.96.7.7:0: port must be 1-65535"),
        ("10.96.7.7:65536", "ADDR:PORT[/PROTO]: 10.96.7.7:65536: port must be 1-65535"),
        (
            "10.96.7.7:80/icmp",
            "ADDR:PORT[/PROTO]: 10.96.7.7:80/icmp: protocol must be one of TCP, UDP, SCTP",
        ),
        ("10.96.7.777:80", "ADDR:PORT[/PROTO]: 10.96.7.777: is no IP address"),
        (":80", 'ADDR:PORT[/PROTO]: "": is no IP address'),
        ("10.96.7.7:80 --from pod-a", "--from: pod-a: is no IP address"),
        ("10.96.7.7:80 --from fd00::1", "--from: fd00::1: is IPv6, but 10.96.7.7 is IPv4"),
        ("10.96.7.7:80 --via input", "--via: input: must be one of prerouting, output"),
        ("10.96.7.7:80 -o yaml", "-o: yaml: must be text or json"),
        ("10.96.7.7:80 --manifests /missing", "--manifests: /missing: does not exist"),
    ],
)
def test_refusals(explained: Explained, arguments: str, refusal: str) -> None:
    assert explained.refusal(*arguments.split()) == f"headgate: {refusal}\n"


def test_what_is_wrong_with_the_manifests_is_told_beside_the_answer(
    manifests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = manifests.with_name("zz.yaml")
    bad.write_text(
        "kind: Service\nmetadata: {name: x}\nspec: {clusterIP: 10.96.0.9, ports: [{port: 0}]}\n"
    )
    arguments = ["10.96.7.8:80", f"--manifests={manifests.parent}", "--node=worker-3"]
    assert main(["explain", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("REJECT   shop/empty has no endpoints\n")
    assert err.splitlines() == [
        f"headgate: {bad}:1: Service default/x: spec.ports[0].port: 0: must be 1-65535",
        "headgate: Node worker-3: is not among the objects that were read: its zone and its addresses are not known",
    ]
