"""Does a rule of others harm a connection to a Service exactly when a finding says so?"""

from __future__ import annotations

from collections.abc import Iterator
from string import Template
from typing import NamedTuple

import msgspec
import pytest

from endpoints.explain import Explanation, Hook, Packet, walk
from endpoints.names import ObjectName, Protocol
from endpoints.node import NodeView
from endpoints.plan import ServicePlan
from proxy.facts.finding import Cause, Finding
from proxy.facts.foreign_kernel import foreign_rules
from proxy.facts.foreign_taking import taking
from tests.lab import modes, namespaces, topology
from tests.lab.lab import Lab
from tests.lab.probes import IS_USER_MODE_LINUX
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import cluster_ip, plan_of, pods

NODE, POD, ENDPOINT, THIEF = "node-a", "pod-a1", "pod-b1", "pod-c1"
VIPS = ("10.96.7.7", "fd00:10:96::7")
PORT, OTHER_PORT, TARGET_PORT = 80, 81, 8080
DROP_SECONDS = 1.0 if IS_USER_MODE_LINUX else 0.3
HOOKS = {Hook.PREROUTING: POD, Hook.OUTPUT: NODE}

TRANSLATION, DROP = Cause.FOREIGN_TRANSLATION, Cause.FOREIGN_DROP


class Rules(NamedTuple):
    """What somebody adds, for nft or for iptables-restore, and what it shall be found to be."""

    script: str
    cause: Cause | None
    """None: it does the connection no harm."""


def chain(kind: str, *rules: str, more: str = "") -> str:
    body = "\n".join((f"type {kind};", *rules))
    return f"table inet foreign {{\n{more}\nchain way {{\n{body}\n}}\n}}"


TO_VIP = "$ip daddr $vip tcp dport $port"
TO_ENDPOINT = "$ip daddr $endpoint tcp dport $target"
DNAT = f"{TO_VIP} dnat $ip to $thief"


def by_set(kind: str, elements: str, rule: str, cause: Cause | None, what: str = "set") -> Rules:
    """A rule that asks for a named set or map `s`."""
    more = f"{what} s {{ type {kind}; elements = {{ {elements} }}; }}"
    return Rules(chain("filter hook $hook priority -300", rule, more=more), cause)


FIREWALL = (
    "filter hook $last priority 0; policy drop",
    "ct state vmap { established : accept, related : accept, invalid : drop }",
    "meta l4proto { icmp, ipv6-icmp } accept",
)
NFT = {
    "dnat, earlier": Rules(chain("nat hook $hook priority -110", DNAT), TRANSLATION),
    "dnat, just as early but younger": Rules(
        chain("nat hook $hook priority -100", DNAT), TRANSLATION
    ),
    "dnat, later": Rules(chain("nat hook $hook priority -90", DNAT), None),
    "redirect": Rules(
        chain("nat hook $hook priority -110", f"{TO_VIP} redirect to :9"), TRANSLATION
    ),
    "notrack": Rules(chain("filter hook $hook priority -300", f"{TO_VIP} notrack"), TRANSLATION),
    "notrack, too late": Rules(chain("filter hook $hook priority -150", f"{TO_VIP} notrack"), None),
    "drop": Rules(chain("filter hook $hook priority -300", f"{TO_VIP} drop"), DROP),
    "drop, too late": Rules(chain("filter hook $hook priority -50", f"{TO_VIP} drop"), None),
    "drop by endpoint": Rules(chain("filter hook $hook priority -50", f"{TO_ENDPOINT} drop"), DROP),
    "drop by endpoint, too early": Rules(
        chain("filter hook $hook priority -150", f"{TO_ENDPOINT} drop"), None
    ),
    "reject by endpoint": Rules(
        chain("filter hook $last priority 0", f"{TO_ENDPOINT} reject"), DROP
    ),
    "drop in postrouting": Rules(
        chain("filter hook postrouting priority 0", f"{TO_ENDPOINT} drop"), DROP
    ),
    "drop of translated": Rules(
        chain("filter hook $last priority 0", "ct status dnat tcp dport $target drop"), DROP
    ),
    "policy drop": Rules(chain(*FIREWALL), DROP),
    "policy drop, with an exception": Rules(
        chain(*FIREWALL, "$ip daddr { $endpoint, $thief_address } tcp dport 8000-8099 accept"), None
    ),
    "policy drop, with another exception": Rules(
        chain(*FIREWALL, "$ip daddr != $endpoint accept", "tcp dport > 8080 accept"), DROP
    ),
    "a jump to a drop": Rules(
        chain(
            "filter hook $hook priority -300",
            "tcp dport { 79, $port } jump there",
            more="chain there { $ip saddr $thief_address return; $ip daddr $vip drop; }",
        ),
        DROP,
    ),
    "a jump to a return": Rules(
        chain(
            "filter hook $hook priority -300",
            "tcp dport vmap { 20-79 : drop, $port : jump there }",
            more="chain there { $ip daddr $vip return; meta l4proto tcp drop; }",
        ),
        None,
    ),
    "a goto past a drop": Rules(
        chain(
            "filter hook $hook priority -300",
            "$ip daddr $network tcp dport $port goto there",
            "tcp dport $port drop",
            more="chain there { udp dport $port drop; }",
        ),
        None,
    ),
    "drop by a named set": by_set("$addr", "$vip", "$ip daddr @s drop", DROP),
    "drop by a named set, of others": by_set("$addr", "$thief_address", "$ip daddr @s drop", None),
    "drop by a named set of networks": by_set(
        "$addr; flags interval", "$network", "$ip daddr @s drop", DROP
    ),
    "drop by a named set of ports": by_set(
        "inet_service; flags interval", "70-79, $port", "tcp dport @s drop", DROP
    ),
    "drop by two fields": by_set(
        "$addr . inet_service", "$vip . $port", "$ip daddr . tcp dport @s drop", DROP
    ),
    "drop by ranges of two fields": by_set(
        "$addr . inet_service; flags interval",
        "$network . $port-$port, $thief_address . 1-65535",
        "$ip daddr . tcp dport @s drop",
        DROP,
    ),
    "drop of all but those in a named set": by_set(
        "$addr", "$vip", "tcp dport $port $ip daddr != @s drop", None
    ),
    "drop of all but those in an empty set": Rules(
        chain(
            "filter hook $hook priority -300",
            "$ip daddr != @s tcp dport $port drop",
            more="set s { type $addr; }",
        ),
        DROP,
    ),
    "dnat by a named set": Rules(
        chain(
            "nat hook $hook priority -110",
            "$ip daddr @s tcp dport $port dnat $ip to $thief",
            more="set s { type $addr; elements = { $vip }; }",
        ),
        TRANSLATION,
    ),
    "a named verdict map": by_set(
        "$addr : verdict", "$vip : drop, $thief_address : accept", "$ip daddr vmap @s", DROP, "map"
    ),
    "a named verdict map of another port": by_set(
        "$addr . inet_service : verdict",
        "$vip . $target : drop",
        "$ip daddr . tcp dport vmap @s",
        None,
        "map",
    ),
    "replies": Rules(chain("filter hook $back priority 0", "ct state established drop"), DROP),
    "replies of the endpoint": Rules(
        chain("filter hook $back priority 0", "$ip saddr $endpoint drop"), DROP
    ),
    "replies, before they are known": Rules(
        chain("filter hook prerouting priority -300", "$ip saddr $endpoint tcp sport $target drop"),
        DROP,
    ),
    "replies, at the end": Rules(
        chain("filter hook $end priority 90", "tcp sport $target drop"), DROP
    ),
    "replies, by the Service": Rules(
        chain("filter hook $end priority 90", "$ip saddr $vip drop"), None
    ),
    "by the type of the address": Rules(
        chain("filter hook $hook priority -300", f"fib daddr type local {TO_VIP} drop"), None
    ),
    "by an interface": Rules(
        chain("filter hook $hook priority -300", f'iifname "eth*" {TO_VIP} drop'), None
    ),
    "a mark": Rules(chain("filter hook $hook priority -140", f"{TO_VIP} meta mark set 0x77"), None),
}
XTABLES_DNAT = "-d $vip -p tcp -m tcp --dport $port -j DNAT --to-destination $thief"
XTABLES = {
    "dnat": Rules(f"*nat\n-I $HOOK {XTABLES_DNAT}\nCOMMIT", TRANSLATION),
    "dnat behind a jump": Rules(
        "*nat\n:OTHERS - [0:0]\n-I $HOOK -d $vip -j OTHERS\n"
        "-A OTHERS -p tcp -m multiport --dports 79,$port -j DNAT --to-destination $thief\nCOMMIT",
        TRANSLATION,
    ),
    "drop": Rules("*raw\n-I $HOOK -d $vip -p tcp -m tcp --dport $port -j DROP\nCOMMIT", DROP),
    "drop with a comment": Rules(
        '*mangle\n-I $HOOK -p tcp -m tcp --dport $port -m comment --comment "no -j RETURN" -j DROP\n'
        "COMMIT",
        DROP,
    ),
    "notrack": Rules(
        "*raw\n-I $HOOK -d $vip -p tcp -m tcp --dport $port -j CT --notrack\nCOMMIT", TRANSLATION
    ),
    "an exception": Rules(
        "*raw\n-I $HOOK -d $vip -p tcp -m tcp --dport $port -j DROP\n"
        "-I $HOOK -d $vip -j ACCEPT\nCOMMIT",
        None,
    ),
    "reject by endpoint": Rules(
        "*filter\n-I $LAST -d $endpoint -p tcp -m tcp --dport $target -j REJECT\nCOMMIT", DROP
    ),
    "too late": Rules(
        "*filter\n-I $LAST -d $vip -p tcp -m tcp --dport $port -j DROP\nCOMMIT", None
    ),
}
TOOLS = {
    "nft": NFT,
    "iptables-nft": XTABLES,
    "iptables-legacy": XTABLES,
}
CASES = [(tool, name) for tool, scripts in TOOLS.items() for name in scripts]
"""Of what IPVS forwards, `forward` sees only the answers."""


class World(NamedTuple):
    """A lab whose node-a has rules of a mode for one Service, and nothing else."""

    lab: Lab
    mode: str
    node: NodeView
    plans: tuple[ServicePlan, ...]

    def explained(self, packet: Packet) -> Explanation:
        return walk(self.plans, self.node, packet)


@pytest.fixture(scope="module")
def world(mode: str) -> Iterator[World]:
    with Lab() as lab:
        kind = modes.BACK_ENDS[mode][0]
        node = msgspec.structs.replace(NODE_A, holds_addresses=kind == "ipvs")
        plans = tuple(
            plan_of(
                *(cluster_ip(vip, port) for port in (PORT, OTHER_PORT)),
                cluster=pods(lab.pods[ENDPOINT].addresses[family], port=TARGET_PORT),
            )
            for family, vip in enumerate(VIPS)
        )
        with namespaces.inside(lab.network[NODE]):
            made = modes.create(mode)
            made.start(node)
            made.replace({ObjectName("shop", "pay"): plans})
            yield World(lab, kind, node, plans)
            made.close()


def filled(script: str, world: World, family: int, hook: Hook, port: int) -> str:
    shown = ("{}", "[{}]")[family]
    thief = world.lab.pods[THIEF].addresses[family]
    last = "output" if hook is Hook.OUTPUT or world.mode == "ipvs" else "forward"
    return Template(script).substitute(
        ip=("ip", "ip6")[family],
        addr=("ipv4_addr", "ipv6_addr")[family],
        vip=VIPS[family],
        network=topology.SERVICE_CIDRS[family],
        port=port,
        target=TARGET_PORT,
        endpoint=world.lab.pods[ENDPOINT].addresses[family],
        thief=f"{shown.format(thief)}:{TARGET_PORT}",
        thief_address=thief,
        hook=hook,
        back="input" if hook is Hook.OUTPUT else "forward",
        end="input" if hook is Hook.OUTPUT else "postrouting",
        HOOK=hook.upper(),
        last=last,
        LAST=last.upper(),
    )


def add(world: World, tool: str, script: str, family: int) -> None:
    if tool == "nft":
        world.lab.exec(NODE, ["nft", "-f", "-"], script)
        return
    command = tool.replace("ip", ("ip", "ip6")[family], 1)
    world.lab.exec(NODE, [f"{command}-restore", "--noflush"], script + "\n")


def remove(world: World, tool: str, script: str, family: int) -> None:
    """Undo it, by hand: our own rules in the same tables stay."""
    if tool == "nft":
        world.lab.exec(NODE, ["nft", "delete", "table", "inet", "foreign"])
        return
    undone = [
        line.replace("-I ", "-D ", 1)
        for line in script.splitlines()
        if not line.startswith((":", "-A "))
    ]
    gone = ["-F OTHERS", "-X OTHERS"] if ":OTHERS" in script else []
    text = "\n".join([*undone[:-1], *gone, undone[-1], ""])
    command = tool.replace("ip", ("ip", "ip6")[family], 1)
    world.lab.exec(NODE, [f"{command}-restore", "--noflush"], text)


def found(world: World, family: int, hook: Hook) -> tuple[Finding, ...]:
    source, interface = world.lab.pods[POD].addresses[family], "cni0"
    if hook is Hook.OUTPUT:
        source, interface = topology.node_named(NODE).addresses[family], ""
    packet = Packet(source, VIPS[family], PORT, Protocol.TCP, hook, interface or None)
    leaves_by = {world.lab.pods[ENDPOINT].addresses[family]: "eth0"}
    return taking(
        foreign_rules(), packet, world.explained(packet), world.node, world.mode, leaves_by
    )


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(("tool", "name"), CASES, ids=[f"{t}: {n}" for t, n in CASES])
def test_a_finding_comes_if_and_only_if_a_connection_is_taken(
    world: World, tool: str, name: str, family: int, hook: Hook
) -> None:
    if IS_USER_MODE_LINUX and tool != "iptables-legacy":
        pytest.skip("the kernel of user-mode Linux has no NAT of nf_tables")
    rules = TOOLS[tool][name]
    for port, cause in ((PORT, rules.cause), (OTHER_PORT, None)):
        if port == OTHER_PORT and "$port" not in rules.script:
            continue
        script = filled(rules.script, world, family, hook, port)
        add(world, tool, script, family)
        try:
            seconds = DROP_SECONDS if cause else 3.0
            answer = world.lab.connect(HOOKS[hook], VIPS[family], PORT, timeout=seconds)
            findings = found(world, family, hook)
        finally:
            remove(world, tool, script, family)
        assert (answer.by == ENDPOINT) is (cause is None), answer
        assert [finding.cause for finding in findings] == ([cause] if cause else [])
    assert found(world, family, hook) == ()
