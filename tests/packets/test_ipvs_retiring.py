"""What do packets meet while IPVS keeps its connections and a mode without chains of its own serves?

No kernel of ours has both IPVS and what the nftables mode needs. So DNAT rules of nobody's stand in
for it: before IPVS, and without a masquerade of what the node sends from an address that it holds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from itertools import islice

import pytest

from endpoints.addresses import bracketed
from modes import registry
from modes.base import IpvsSettings, ModeSettings
from modes.ipvs.draining import LOOK_SECONDS
from tests.lab import namespaces, topology
from tests.lab.daemons import PATIENCE_SECONDS
from tests.lab.lab import Lab
from tests.lab.objects import Endpoint, Port, nodes, service, slices
from tests.lab.probes import Outcome, Target
from tests.packets import ipvs
from tests.packets.holding import Held
from tests.packets.test_ipvs_takeover import (
    COMMANDS,
    NODE,
    NODE_PORT,
    SENDER,
    VIPS,
    leave_what_kube_proxy_leaves,
)

PORTS = [Port(80, node_port=NODE_PORT)]
SERVER, ELSEWHERE = "pod-b1", "pod-c1"
"""Who answers IPVS's connections, and the stand-in's; both on other nodes."""
OPEN, CLOSED = 8080, 8081
"""Where processes of the node listen, and Services whose load balancer has the address of it."""
CLOSED_VIPS = ("10.96.7.8", "fd00:10:96::8")
FAMILIES = (0, 1)
STRANGER = "-t 203.0.113.50:443"
Place = tuple[str, int]
"""Address and port."""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as built:
        yield built


def flows(lab: Lab) -> list[tuple[str, Target]]:
    """From a pod, from outside and from the node itself."""
    assert lab.pods
    found = []
    for family in FAMILIES:
        found += [(source, Target(VIPS[family], 80)) for source in (SENDER, NODE.name)]
        found.append((topology.CLIENT, Target(NODE.addresses[family], NODE_PORT)))
    return found


def serve_by_ipvs(lab: Lab) -> None:
    """Headgate serves, and ends."""
    endpoint = Endpoint.of(lab.pods[SERVER])
    lab.apply(*nodes(), service("shop/pay", VIPS, PORTS), *slices("shop/pay", PORTS, [endpoint]))
    lab.start_headgate(NODE.name, mode="ipvs")
    lab.wait_synced()
    lab.stop_headgate(NODE.name)


def serve_by_another(lab: Lab) -> None:
    """DNAT to another pod, before IPVS; pods and clients from outside are masqueraded there too."""
    for family in FAMILIES:
        pod = lab.pods[ELSEWHERE].addresses[family]
        to = (pod, 8080)
        translate(lab, family, {(VIPS[family], 80): to, (NODE.addresses[family], NODE_PORT): to})
        client = topology.CLIENT_ADDRESSES[family]
        masquerade = ["POSTROUTING", "-s", client, "-d", pod, "-j", "MASQUERADE"]
        lab.exec(NODE.name, [COMMANDS[family], "-t", "nat", "-A", *masquerade])


def translate(lab: Lab, family: int, places: Mapping[Place, Place]) -> None:
    """DNAT of one place to another, before IPVS."""
    rules = ["*nat", ":STAND-IN - [0:0]"]
    rules += [f"-I {base} 1 -j STAND-IN" for base in ("PREROUTING", "OUTPUT")]
    rules += [
        f"-A STAND-IN -d {address} -p tcp --dport {port} -j DNAT --to {bracketed(to)}:{target}"
        for (address, port), (to, target) in places.items()
    ]
    text = "\n".join([*rules, "COMMIT", ""])
    lab.exec(NODE.name, [f"{COMMANDS[family]}-restore", "--noflush"], text)


def retiring(lab: Lab) -> Iterator[float | None]:
    """Let IPVS give way as a headgate would that was started anew: look by look, and its answer."""
    settings = ModeSettings(iptables_variant="legacy", ipvs=IpvsSettings(drain_seconds=600))
    with closing(registry.create("ipvs", settings)) as mode:
        while True:
            with namespaces.inside(lab.network[NODE.name]):
                answer = mode.retire("nftables")
            yield answer


def chains(lab: Lab) -> set[str]:
    saved = "".join(lab.exec(NODE.name, [f"{command}-save"]) for command in COMMANDS)
    return set(re.findall(r"^:(KUBE-\S+)", saved, re.MULTILINE))


def until_retired(lab: Lab) -> None:
    looks = retiring(lab)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while next(looks) is not None:
        assert time.monotonic() < deadline, lab.exec(NODE.name, ["ipvsadm", "-Ln"])
        lab.connect_many(SENDER, VIPS[0], 80, count=20)  # time passes


@pytest.mark.parametrize("before", ["headgate", "kube-proxy"])
def test_ipvs_keeps_its_connections_and_takes_no_others(lab: Lab, before: str) -> None:
    if before == "headgate":
        serve_by_ipvs(lab)
    else:
        leave_what_kube_proxy_leaves(lab)
    lab.exec(NODE.name, ["ipvsadm", "-A", *STRANGER.split(), "-s", "wlc"])
    lab.exec(NODE.name, ["ip", "address", "add", "203.0.113.50/32", "dev", ipvs.LINK])
    lab.exec(NODE.name, ["ipvsadm", "--set", "900", "3", "3"])
    with Held(lab) as held:
        held.open("by IPVS", flows(lab))
        serve_by_another(lab)
        # Until the first look is over, nobody masquerades what the node sends: see above.
        with lab.load(*(flow for flow in flows(lab) if flow[0] != NODE.name)) as load:
            assert list(islice(retiring(lab), 2)) == [LOOK_SECONDS] * 2
        with lab.load(*flows(lab)) as later:
            later.wait_for(60)
        failures = [*load.failures, *later.failures]
        assert not failures, "\n".join(map(str, failures))
        assert {*load.answered_by, *later.answered_by} == {ELSEWHERE}
        held.ask_all()
        assert not held.cut, held.cut
        assert chains(lab) == {"KUBE-RETIRING"}
        assert not ipvs.taking(lab, NODE.name)
        assert {*VIPS} <= {address.partition("/")[0] for address in ipvs.addresses(lab, NODE.name)}
        # Nobody else answers at the addresses, not even the node itself.
        lab.serve(NODE.name, [81], called="own")
        for family in FAMILIES:
            answer = lab.connect(SENDER, VIPS[family], 81)
            assert answer.kind is Outcome.REFUSED, answer
        assert held.count == len(flows(lab))
    until_retired(lab)
    assert ipvs.servers(lab, NODE.name).keys() == {STRANGER}
    assert ipvs.addresses(lab, NODE.name) == {"203.0.113.50/32"}
    assert not chains(lab)
    assert "KUBE-" not in lab.exec(NODE.name, ["ipset", "save"])
    answers = lab.connect_all(SENDER, [target for _, target in flows(lab)])
    assert {answer.by for answer in answers} == {ELSEWHERE}


def test_a_process_of_the_node_is_reached_where_a_load_balancer_has_the_nodes_address(
    lab: Lab,
) -> None:
    """Whoever serves lets packets go there, as they are or translated; IPVS comes after that."""
    lab.serve(NODE.name, [OPEN, CLOSED])
    itself = Endpoint(NODE.addresses, NODE.name)
    ports = {OPEN: [Port(OPEN)], CLOSED: [Port(CLOSED)]}
    lab.apply(
        *nodes(),
        service("shop/open", VIPS, ports[OPEN], ingress=NODE.addresses),
        *slices("shop/open", ports[OPEN], [itself, Endpoint.of(lab.pods[SERVER])]),
        service("shop/closed", CLOSED_VIPS, ports[CLOSED], ingress=NODE.addresses),
    )
    here = [Target(NODE.addresses[family], OPEN) for family in FAMILIES]
    there = [Target(VIPS[family], port) for family in FAMILIES for port in (OPEN, CLOSED)]
    asked = {topology.CLIENT: here, SENDER: [*here, *there], NODE.name: [*here, *there]}
    lab.start_headgate(NODE.name, mode="ipvs")
    lab.wait_synced()
    lab.stop_headgate(NODE.name)
    with ExitStack() as opened:
        opening = [
            (source, target)
            for source, targets in asked.items()
            for target in targets
            if target.port == OPEN
            for _ in range(2)  # by turns
        ]
        held = [opened.enter_context(closing(lab.hold(*flow))) for flow in opening]
        by = [one.ask().by for one in held]
        assert {*by} == {NODE.name, SERVER}
        for family in FAMILIES:
            own = NODE.addresses[family]
            translate(lab, family, {(VIPS[family], p): (own, p) for p in (OPEN, CLOSED)})
        for _ in islice(retiring(lab), 2):
            for source, targets in asked.items():
                answers = lab.connect_all(source, targets)
                assert {answer.by for answer in answers} == {NODE.name}, (source, answers)
            assert [one.ask().by for one in held] == by
        # The node needs no IPVS for what goes to its own address, and stays there.
        left = [
            one
            for one, (_, target), name in zip(held, opening, by, strict=True)
            if target in here and name == NODE.name
        ]
        for one in held:
            if one not in left:
                one.close()
        until_retired(lab)
        assert not ipvs.servers(lab, NODE.name)
        assert not chains(lab)
        assert {one.ask().by for one in left} == {NODE.name}
