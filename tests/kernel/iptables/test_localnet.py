"""Is localhost routed while NodePorts answer there, and as it was before when we are gone?"""

from __future__ import annotations

import subprocess
from itertools import product
from pathlib import Path

import msgspec
import pytest

from endpoints.names import Family
from endpoints.node import NodePortAddresses, NodeView
from modes.base import ModeSettings
from modes.iptables.mode import IptablesMode
from modes.xtables import chains
from modes.xtables.kernel import Kernel, route_localnet, set_route_localnet
from modes.xtables.variant import Variant
from tests.kernel.iptables import others, tables
from tests.kernel.rulesets import services
from tests.unit.endpoints.build import NODE_A

V4 = Family.IPV4
NODE = msgspec.structs.replace(
    NODE_A, node_ports_v4=NodePortAddresses(addresses=("127.0.0.1", "192.168.0.11"))
)
MARTIANS = (
    '! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" '
    "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
)
HINT = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n"


def run(mode: IptablesMode, node: NodeView = NODE) -> None:
    mode.start(node)
    assert not mode.replace(services(1)).failed
    assert not mode.verify()


def jumps(variant: str) -> int:
    held = tables.held(variant)
    return sum(specs.count("-j KUBE-FIREWALL") for specs in held.values())


def other_than(variant: Variant) -> Variant:
    return next(v for v in Variant if v is not variant)


def test_it_is_allowed_guarded_and_forbidden_again(mode: IptablesMode, variant: Variant) -> None:
    mode.start(NODE)
    assert not route_localnet()
    run(mode)
    assert route_localnet()
    held = tables.held(variant)
    assert held[chains.FIREWALL] == [MARTIANS]
    assert held[chains.ROUTE_LOCALNET_WAS_OFF] == []
    assert jumps(variant) == 2
    assert chains.FIREWALL not in tables.held(variant, Family.IPV6)

    run(tables.mode_of(variant))  # a new process: it must not think that somebody else did it
    assert tables.held(variant) == held
    assert tables.mode_of(variant).cleanup()
    assert not route_localnet()
    assert chains.FIREWALL not in tables.held(variant)
    assert jumps(variant) == 0


def test_whoever_routed_localhost_before_does_so_after(
    mode: IptablesMode, variant: Variant
) -> None:
    """And the rule that guards it stays with it."""
    assert set_route_localnet(on=True) == ""
    run(mode)
    assert chains.ROUTE_LOCALNET_WAS_OFF not in tables.held(variant)
    assert mode.cleanup()
    assert route_localnet()
    assert tables.held(variant)[chains.FIREWALL] == [MARTIANS]
    assert jumps(variant) == 2
    assert not mode.cleanup()


def test_nothing_is_touched_where_localhost_is_not_served(
    mode: IptablesMode, variant: Variant
) -> None:
    run(mode, NODE_A)
    assert not route_localnet()
    assert chains.FIREWALL not in tables.held(variant)
    assert set_route_localnet(on=True) == ""
    assert not mode.replace(services(1, 2)).failed
    run(mode, NODE_A)
    assert mode.cleanup()
    assert route_localnet()


def test_it_is_forbidden_again_when_the_node_serves_localhost_no_more(
    mode: IptablesMode, variant: Variant
) -> None:
    run(mode)
    run(mode, NODE_A)
    assert not route_localnet()
    assert chains.ROUTE_LOCALNET_WAS_OFF not in tables.held(variant)
    run(mode)
    assert route_localnet()
    assert chains.ROUTE_LOCALNET_WAS_OFF in tables.held(variant)


def test_the_kubelet_keeps_its_rule(mode: IptablesMode, variant: Variant) -> None:
    others.write(variant, HINT)
    firewall = f"*filter\n:KUBE-FIREWALL - [0:0]\n-A KUBE-FIREWALL {MARTIANS}\n"
    others.write(
        variant, f"{firewall}-A INPUT -j KUBE-FIREWALL\n-A OUTPUT -j KUBE-FIREWALL\nCOMMIT\n"
    )
    others.write(variant, "*nat\nCOMMIT\n")
    before = tables.held(variant)
    run(mode)
    assert tables.held(variant)[chains.FIREWALL] == [MARTIANS]
    assert jumps(variant) == 2
    assert mode.cleanup()
    assert not route_localnet()
    assert tables.held(variant) == before


def test_what_is_known_of_it_moves_with_our_rules(mode: IptablesMode, variant: Variant) -> None:
    """The host changes to its other iptables: localhost stays routed, and is not when we go."""
    run(mode)
    after = tables.mode_of(other_than(variant))
    run(after)
    assert route_localnet()
    assert not {chains.NAT_SERVICES, chains.ROUTE_LOCALNET_WAS_OFF} & tables.held(variant).keys()
    held = tables.held(other_than(variant))
    assert (held[chains.FIREWALL], held[chains.ROUTE_LOCALNET_WAS_OFF]) == ([MARTIANS], [])
    assert after.cleanup()
    assert not route_localnet()


def test_cleanup_leaves_nothing_after_a_change_of_variant(
    mode: IptablesMode, variant: Variant
) -> None:
    run(mode)
    other = tables.mode_of(other_than(variant))
    run(other)
    assert chains.FIREWALL not in tables.held(variant)
    assert tables.held(other_than(variant))[chains.FIREWALL] == [MARTIANS]
    assert other.cleanup()
    assert not route_localnet()
    assert chains.FIREWALL not in tables.held(other_than(variant))
    assert not other.cleanup()


def test_where_the_switch_cannot_be_written_it_is_told(
    network: None,  # noqa: ARG001
    variant: Variant,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    switch = tmp_path / "route_localnet"
    switch.mkdir()
    monkeypatch.setattr("modes.iptables.localnet.route_localnet", lambda: False)
    monkeypatch.setattr("modes.xtables.kernel._ROUTE_LOCALNET", switch)
    told: list[dict[str, object]] = []

    def tell(message: str, /, **fields: object) -> None:
        told.append({"message": message, **fields})

    listening = IptablesMode(ModeSettings(iptables_variant=variant), tell)
    run(listening)
    assert told == [
        {
            "message": "Degraded",
            "mode": "iptables",
            "reason": f"NodePorts on localhost need {switch} = 1: Is a directory",
        }
    ]
    assert Kernel(variant).holds(V4, "nat", "KUBE-SERVICES")


def test_a_flush_does_not_make_us_forget_that_it_was_off(
    mode: IptablesMode, variant: Variant
) -> None:
    """The rules say so too, but rules can be flushed while we serve."""
    run(mode)
    assert route_localnet()
    for table, command in product(("nat", "filter"), ("-F", "-X")):
        subprocess.run([f"iptables-{variant}", "-t", table, command], check=True)
    run(mode)
    assert mode.cleanup()
    assert not route_localnet()
