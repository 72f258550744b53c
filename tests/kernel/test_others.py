"""Is nothing touched that is not ours, and is everything gone that is?"""

from __future__ import annotations

import subprocess

import msgspec
import pytest

from modes.base import Delta
from modes.nftables.looking import look
from modes.nftables.mode import NftablesMode
from tests.kernel.rulesets import nft, ruleset, services
from tests.unit.endpoints.build import NODE_A

NEIGHBOURS = """
table ip headgate-other {
  set cluster-ips { type ipv4_addr; elements = { 10.96.0.7 }; }
  map services { type inet_service : verdict; elements = { 80 : drop }; }
  chain services { ip daddr @cluster-ips counter; }
  chain prerouting { type nat hook prerouting priority -100; jump services; }
}
table ip6 headgat { chain prerouting { type nat hook prerouting priority -99; }; }
table inet headgate { chain input { type filter hook input priority 0; tcp dport 22 accept; }; }
table inet filter { chain forward { type filter hook forward priority 0; ct state new counter; }; }
table bridge headgate { chain forward { type filter hook forward priority 0; }; }
table ip kube-proxy { map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }; }
"""
IPTABLES = (
    ("iptables-nft", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "-j", "ACCEPT"),
    ("iptables-nft", "-t", "nat", "-N", "KUBE-SERVICES"),
    ("ip6tables-nft", "-A", "FORWARD", "-j", "ACCEPT"),
)


@pytest.fixture
def neighbours(mode: NftablesMode) -> str:
    """Tables of others, some with our names; as they are listed. `mode` flushes them."""
    assert mode.name == "nftables"
    nft("-f", "-", text=NEIGHBOURS)
    for command in IPTABLES:
        subprocess.run(command, check=True)
    return ruleset()


def others() -> str:
    """All tables but ours, with their handles."""
    tables = [line for line in nft("list", "tables").splitlines() if line not in OURS]
    return "".join(nft("-a", "list", *line.split()) for line in tables)


OURS = ("table ip headgate", "table ip6 headgate")


def test_nobody_else_notices_us(mode: NftablesMode, neighbours: str) -> None:
    assert others() == neighbours
    everywhere = msgspec.structs.replace(NODE_A, masquerade_all=True)
    first, second = services(1, 2, 3), services(3, 4, endpoints=5)
    steps = (
        lambda: mode.start(NODE_A),
        lambda: mode.replace(first),
        lambda: mode.apply(Delta(second, frozenset(first.keys() - second.keys()))),
        mode.verify,
        look,
        lambda: (mode.start(everywhere), mode.replace(second)),
        mode.cleanup,
    )
    for step in steps:
        step()
        assert others() == neighbours
    assert ruleset() == neighbours


def test_cleanup_needs_no_start(mode: NftablesMode, neighbours: str) -> None:
    mode.start(NODE_A)
    mode.replace(services(1))
    mode.close()
    assert ruleset() != neighbours
    elsewhere = NftablesMode()
    assert elsewhere.cleanup()
    assert ruleset() == neighbours
    assert not elsewhere.cleanup()
    elsewhere.close()


def test_cleanup_takes_whatever_bears_our_name_in_our_families(
    mode: NftablesMode, neighbours: str
) -> None:
    nft("add", "table", "ip6", "headgate")
    assert mode.cleanup()
    assert ruleset() == neighbours


def test_there_is_life_after_cleanup(mode: NftablesMode) -> None:
    mode.start(NODE_A)
    mode.replace(services(1))
    fresh = nft("list", "ruleset")
    mode.cleanup()
    assert not mode.start(NODE_A).kept
    mode.replace(services(1))
    assert sorted(nft("list", "ruleset").split()) == sorted(fresh.split())
    assert not mode.verify()
