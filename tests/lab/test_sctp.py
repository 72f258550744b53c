"""Do the lab's sockets speak SCTP, and what do refusals and silence look like to them?

Where a Service is needed, a plain rule of iptables in a node's namespace stands for it: nft cannot
translate addresses in the only kernel with SCTP that the tests boot (tests/uml).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from endpoints.names import Protocol
from tests.lab import topology
from tests.lab.lab import Lab
from tests.lab.probes import DROP_SECONDS, Answer, Outcome, Target
from tests.lab.protocols import spoken
from tests.lab.topology import NODES

if Protocol.SCTP not in spoken():
    pytest.skip(
        "this kernel has no SCTP sockets: tests/uml runs these tests in one that has",
        allow_module_level=True,
    )

pytestmark = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
VIPS = ("10.96.0.1", "fd00:10:96::1")
SCTP = Protocol.SCTP


@contextlib.contextmanager
def rule(lab: Lab, node: str, family: int, table: str, text: str) -> Iterator[None]:
    """A rule of a node's kernel while the body runs."""
    program = ("iptables-legacy", "ip6tables-legacy")[family]
    lab.exec(node, [program, "--table", table, "--append", *text.split()])
    try:
        yield
    finally:
        lab.exec(node, [program, "--table", table, "--delete", *text.split()])


def connect(lab: Lab, source: str, address: str, port: int = 8080) -> Answer:
    return lab.connect(source, address, port, SCTP)


def answered(by: str, saw: str) -> Answer:
    return Answer(Outcome.ANSWERED, by, saw)


def test_pods_nodes_and_the_client_reach_pods_with_their_own_address(lab: Lab, family: int) -> None:
    pod = lab.pods["pod-b1"].addresses[family]
    seen = {
        "pod-b2": lab.pods["pod-b2"].addresses[family],
        "pod-a1": lab.pods["pod-a1"].addresses[family],
        "node-a": NODES[0].addresses[family],
        "node-b": NODES[1].pod_gateways[family],
        "client": topology.CLIENT_ADDRESSES[family],
    }
    assert {source: connect(lab, source, pod) for source in seen} == {
        source: answered("pod-b1", address) for source, address in seen.items()
    }


def test_a_held_connection_is_answered_again_and_breaks_with_its_server(
    lab: Lab, family: int
) -> None:
    pod = lab.add_pod("node-a", f"pod-a{3 + family}")
    held = lab.hold("client", Target(pod.addresses[family], 8080, SCTP))
    with contextlib.closing(held):
        assert held.ask() == answered(pod.name, topology.CLIENT_ADDRESSES[family])
        lab.stop_serving(pod.name)
        assert held.hear().kind is Outcome.BROKEN
    lab.remove_pod(pod.name)


def test_a_virtual_address_leads_to_a_pod(lab: Lab, family: int) -> None:
    """The translated packet carries a checksum that the receiver verifies."""
    pod = lab.pods["pod-b1"].addresses[family]
    to = ("{}:8080", "[{}]:8080")[family].format(pod)
    text = f"--destination {VIPS[family]} -p sctp --dport 80 -j DNAT --to-destination {to}"
    with rule(lab, "node-a", family, "nat", f"PREROUTING {text}"):
        source = lab.pods["pod-a1"].addresses[family]
        assert connect(lab, "pod-a1", VIPS[family], 80) == answered("pod-b1", source)
    with rule(lab, "node-a", family, "nat", f"OUTPUT {text}"):
        saw = NODES[0].addresses[family]
        assert connect(lab, "node-a", VIPS[family], 80) == answered("pod-b1", saw)


def test_a_closed_port_refuses_at_once(lab: Lab, family: int) -> None:
    answer = connect(lab, "client", lab.pods["pod-a1"].addresses[family], 9999)
    assert answer.kind is Outcome.REFUSED


@pytest.mark.parametrize(("source", "chain"), [("client", "FORWARD"), ("node-a", "OUTPUT")])
def test_a_refusal_by_icmp_is_one(lab: Lab, family: int, source: str, chain: str) -> None:
    with rule(lab, "node-a", family, "filter", f"{chain} -p sctp --dport 8080 -j REJECT"):
        answer = connect(lab, source, lab.pods["pod-a1"].addresses[family])
    assert answer.kind is Outcome.REFUSED
    assert answer.seconds < DROP_SECONDS


@pytest.mark.parametrize(("source", "chain"), [("client", "FORWARD"), ("node-a", "OUTPUT")])
def test_silence_is_a_drop(lab: Lab, family: int, source: str, chain: str) -> None:
    with rule(lab, "node-a", family, "filter", f"{chain} -p sctp --dport 8080 -j DROP"):
        answer = connect(lab, source, lab.pods["pod-a1"].addresses[family])
    assert answer.kind is Outcome.TIMEOUT


def test_many_connections_at_once(lab: Lab, family: int) -> None:
    pod = lab.pods["pod-c1"].addresses[family]
    answers = lab.connect_many("client", pod, 8080, SCTP, count=300)
    assert answers == [answered("pod-c1", topology.CLIENT_ADDRESSES[family])] * 300
