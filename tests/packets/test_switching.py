"""Does a connection fail, or end, when one mode takes the place of another, or of kube-proxy's?"""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from endpoints.names import Protocol
from tests.lab import topology
from tests.lab.lab import Lab
from tests.lab.modes import offered
from tests.lab.objects import Endpoint, Port, service, slices
from tests.lab.probes import Outcome, Target
from tests.packets import ipvs, kube_proxy_left, turmoil
from tests.packets.holding import Held
from tests.packets.kube_proxy_left import Left
from tests.packets.telling import furnish
from tests.packets.turmoil import NODE, SENDER, SERVING, Turmoil, Verdicts
from tests.scenarios.places import PODS

WAYS = (
    ("nftables", "iptables-nft", "nftables", "iptables-legacy", "nftables"),
    ("iptables-nft", "iptables-legacy", "iptables-nft"),
    ("ipvs", "iptables-legacy", "ipvs"),
)
WAYS_HERE = [way for way in WAYS if {*way} <= {*offered()}]
"""The others are gone where the kernel has IPVS: tests/uml."""
FAMILIES = (0, 1)
VIPS, NODE_PORT = ("10.96.0.4", "fd00:10:96::4"), 30004
"""A Service whose endpoints stay."""
REFUSED = ("10.96.0.5", "fd00:10:96::5")
"""One that had no endpoints while kube-proxy ran."""
PORTS = [Port(80, p.lower(), p, NODE_PORT, 8080) for p in (Protocol.TCP, Protocol.UDP)]
STAYING = {"KUBE-FIREWALL", "KUBE-ROUTE-LOCALNET-WAS-OFF", "KUBE-PROXY-CANARY"}
"""Chains that guard localhost as long as it is routed, and one that nobody owns."""
SAVE = {
    "iptables-nft": ("iptables-nft-save", "ip6tables-nft-save"),
    "iptables-legacy": ("iptables-legacy-save", "ip6tables-legacy-save"),
}
SHORT_TIMEOUTS = ("ipvsadm", "--set", "900", "5", "5")
"""TCP, TCP that ends, UDP: after these seconds IPVS forgets a connection that nobody uses."""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as built:
        furnish(built)
        endpoints = [Endpoint(PODS[name].pair, PODS[name].node) for name in SERVING]
        only_tcp = [Port(80, "tcp", target=8080)]
        for name, vips, ports in (("stays", VIPS, PORTS), ("late", REFUSED, only_tcp)):
            built.apply(service(f"shop/{name}", vips, ports))
            built.apply(*slices(f"shop/{name}", ports, endpoints))
        yield built


def held_flows() -> list[tuple[str, Target]]:
    """From a pod, from outside and from the node itself, in both families; a flow of UDP, too."""
    node = topology.node_named(NODE)
    flows = []
    for family in FAMILIES:
        flows += [(source, Target(VIPS[family], 80)) for source in (SENDER, NODE)]
        flows.append((topology.CLIENT, Target(node.addresses[family], NODE_PORT)))
        flows.append((SENDER, Target(VIPS[family], 80, Protocol.UDP)))
    return flows


def new_flows() -> list[tuple[str, Target]]:
    """Everything that turmoil tries, and the node itself."""
    from_node = [
        (NODE, Target(VIPS[family], 80, p)) for family in FAMILIES for p in Protocol if p != "SCTP"
    ]
    return [*turmoil.flows(), *from_node]


def chains(lab: Lab, back_end: str) -> set[str]:
    """Kubernetes' chains in one variant of iptables, in both families; but those that stay."""
    saved = "".join(lab.exec(NODE, [command]) for command in SAVE[back_end])
    return set(re.findall(r"^:(KUBE-\S+)", saved, re.MULTILINE)) - STAYING


def is_gone(lab: Lab, back_end: str, successor: str) -> bool:
    """Whether the kernel holds nothing of a mode, according to the programs of others."""
    if back_end == "nftables":
        return not re.search(
            r"table ip6? headgate$", lab.exec(NODE, ["nft", "list", "tables"]), re.MULTILINE
        )
    if back_end == "ipvs":
        links = lab.exec(NODE, ["ip", "-oneline", "link", "show"])
        return not (
            ipvs.servers(lab, NODE)
            or "KUBE-" in lab.exec(NODE, ["ipset", "save"])
            or ipvs.LINK in links
        ) and not any(
            "IPVS" in chain or "RETIRING" in chain for of in SAVE for chain in chains(lab, of)
        )
    if successor == "ipvs":  # some names are the same, and it may use this variant or the other
        return not any(chain.startswith("KUBE-SVC") for chain in chains(lab, back_end))
    return not chains(lab, back_end)


def takes_no_more(lab: Lab, back_end: str, _: str) -> bool:
    """Whether IPVS keeps who has connections, and nobody else."""
    assert back_end == "ipvs"
    return bool(ipvs.servers(lab, NODE)) and not ipvs.taking(lab, NODE)


@pytest.mark.parametrize("way", WAYS_HERE, ids=" to ".join)
def test_no_connection_fails_or_ends_when_the_mode_changes(lab: Lab, way: Sequence[str]) -> None:
    has_ipvs = "ipvs" in way
    some = 40 if has_ipvs else 150
    replacing = Turmoil(lab, seed=7)
    lab.start_headgate(NODE, mode=way[0])
    lab.wait_synced()
    if has_ipvs:
        lab.exec(NODE, SHORT_TIMEOUTS)
    with Held(lab) as held:
        with lab.load(*new_flows()) as load:
            verdicts = Verdicts(load)
            for number, (before, after) in enumerate(itertools.pairwise(way)):
                held.open(f"in {before} ({number})", held_flows())
                load.wait_for(some)
                lab.stop_headgate(NODE, signal.SIGKILL)
                replacing.turn()
                lab.start_headgate(NODE, mode=after)
                lab.wait_synced()
                left = takes_no_more if before == "ipvs" else is_gone
                ipvs.until(lab, NODE, partial(left, lab, before, after))
                replacing.turn()
                load.wait_for(some)
                held.ask_all()
                assert verdicts.look(), verdicts.wrong
                assert not held.cut, held.cut
        assert verdicts.look(), verdicts.wrong
        assert verdicts.reached == set(SERVING)
        held.ask_all()
        assert held.count == len(held_flows()) * (len(way) - 1)
    assert not held.cut, held.cut
    for before in {*way} - {way[-1]}:
        ipvs.until(lab, NODE, partial(is_gone, lab, before, way[-1]))
    if has_ipvs:  # whose connections have ended
        lab.stop_headgate(NODE)
        lab.start_headgate(NODE, mode=way[-2])
        lab.wait_synced()
        ipvs.until(lab, NODE, partial(is_gone, lab, way[-1], way[-2]))
    assert all(
        of.kind is Outcome.ANSWERED for of in lab.connect_all(SENDER, [t for _, t in held_flows()])
    )
    lab.stop_headgate(NODE)


def left_by_kube_proxy(lab: Lab, family: int) -> Left:
    pods = tuple(lab.pods[name].addresses[family] for name in SERVING)
    cidr = topology.CLUSTER_CIDRS[family]
    return Left(VIPS[family], 80, NODE_PORT, pods, 8080, REFUSED[family], cidr)


def leave(lab: Lab, form: str) -> None:
    """Let a node hold what kube-proxy leaves there."""
    for family in FAMILIES:
        left = left_by_kube_proxy(lab, family)
        if form == "nftables":
            lab.exec(NODE, ["nft", "-f", "-"], kube_proxy_left.nftables(left))
        else:
            command = SAVE[form][family].replace("save", "restore")
            lab.exec(NODE, [command, "--noflush"], kube_proxy_left.iptables(left))


def is_kube_proxy_gone(lab: Lab, form: str) -> bool:
    if form == "nftables":
        return "kube-proxy" not in lab.exec(NODE, ["nft", "list", "tables"])
    return not chains(lab, form) & {*kube_proxy_left.IPTABLES_CHAINS}


FORMS = ("nftables", "iptables-nft", "iptables-legacy")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("after", [mode for mode in offered() if mode != "ipvs"])
def test_no_connection_fails_or_ends_when_kube_proxy_is_replaced(
    lab: Lab, form: str, after: str
) -> None:
    leave(lab, form)
    flows = [flow for flow in held_flows() if flow[1].protocol is Protocol.TCP]
    for family in FAMILIES:
        refused = lab.connect(SENDER, REFUSED[family], 80)
        assert refused.kind is Outcome.REFUSED, refused
    with Held(lab) as held:
        held.open("with kube-proxy", flows)
        with lab.load(*flows) as load:
            load.wait_for(50)
            lab.start_headgate(NODE, mode=after)
            lab.wait_synced()
            if form != after or form == "nftables":  # its chains may bear the names of ours
                ipvs.until(lab, NODE, lambda: is_kube_proxy_gone(lab, form))
            load.wait_for(100)
        held.ask_all()
        assert not load.failures, "\n".join(map(str, load.failures))
        assert not held.cut, held.cut
    assert set(load.answered_by) == set(SERVING)
    assert is_kube_proxy_gone(lab, form)
    for family in FAMILIES:
        served = lab.connect(SENDER, REFUSED[family], 80)
        assert served.kind is Outcome.ANSWERED, served
    lab.stop_headgate(NODE)
