"""Which rules of others does a kernel hold, are they read rightly, and at what cost?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

import pytest

from endpoints.explain import Packet, walk
from endpoints.names import Protocol
from modes.nftables.kernel import Kernel
from modes.nftables.mode import NftablesMode
from proxy.facts.finding import Cause, Finding
from proxy.facts.foreign import Field, ForeignChain, ForeignRule, Kind
from proxy.facts.foreign_kernel import foreign_rules
from proxy.facts.foreign_taking import taking
from tests.kernel.iptables import tables
from tests.kernel.rulesets import nft, plans, services
from tests.kernel.test_privilege import UNPRIVILEGED
from tests.lab import sandbox
from tests.unit.endpoints.build import NODE_A

ASK = """
from modes.base import EnvironmentFault
from proxy.facts.foreign_kernel import foreign_rules
try:
    foreign_rules()
except EnvironmentFault as fault:
    print(fault)
"""
T = TypeVar("T")
RULES = 10_000
ELEMENTS = 250_000
SETS_OF_ONE = 5_000
CALLS_EACH = 400
"""Of functions, for a rule or a small set: 40 to 270, and as many however many there are."""
FEW_CALLS = 100_000
"""For a set of so many elements: it is not read to its end."""
"""Of this process, with other tests beside it."""


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    with sandbox.own_network():
        yield


def run(*words: str, text: str = "") -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
    return done.stdout


def one_chain(*rules: str, family: str = "inet") -> ForeignChain:
    body = "\n".join(("type filter hook prerouting priority raw;", *rules))
    nft("-f", "-", text=f"table {family} mine {{\nchain way {{\n{body}\n}}\n}}")
    (found,) = foreign_rules()
    return found


@pytest.mark.parametrize(
    "rule",
    [
        "ip saddr 10.244.0.0/16 ip daddr 10.96.0.10 udp dport 53 drop",
        "ip saddr 10.240.0.0/13 drop",
        "ip6 daddr fd00:10:96::7 tcp sport 80-90 accept",
        "ip6 saddr fd00:10:244::/60 tcp dport != 443 reject",
        "ip6 daddr fd00::/64 return",
        'iifname "eth0" tcp dport { 80, 443 } drop',
        'iifname != "veth*" meta l4proto sctp drop',
        "ct state established,related accept",
        "ct state new drop",
        "ct status dnat drop",
        "fib daddr type local drop",
        "fib saddr type != local drop",
        "udp dport 53 notrack",
        "tcp dport 8000-8099 ip daddr != 10.0.0.0/8 drop",
        "ip daddr { 10.96.0.1, 10.96.0.10 } drop",
    ],
)
def test_what_is_read_is_what_nft_lists(rule: str) -> None:
    """Where nothing is opaque, our notation is nft's own, and nft makes the same rule of it."""
    found = one_chain(rule).rules
    assert [one.opaque for one in found] == [False]
    nft("flush", "ruleset")
    (again,) = one_chain(found[0].text).rules
    assert again == found[0]
    assert again.text.split()[-1] in rule


@pytest.mark.parametrize(
    "rule",
    [
        "meta mark 0x1 drop",
        "ip daddr @big drop",
        "ip daddr @limited drop",
        "ip daddr . tcp dport != { 10.96.0.1 . 80 } drop",
        "ip daddr . meta mark { 10.96.0.1 . 7 } drop",
        "tcp dport 80 limit rate 5/second drop",
        "tcp flags syn / syn,rst drop",
        "ip ttl < 5 drop",
        "meta skuid 0 drop",
        "ct mark 7 drop",
        "ct original ip daddr 10.96.0.1 drop",
        "tcp option maxseg size 1-500 drop",
        "rt classid 1 drop",
        "numgen random mod 2 0 drop",
    ],
)
def test_what_cannot_be_read_makes_a_rule_opaque(rule: str) -> None:
    nft("add", "table", "inet", "mine")
    elements = ", ".join(many(1200))
    nft("-f", "-", text=f"add set inet mine big {{ type ipv4_addr; elements = {{ {elements} }}; }}")
    limit = "limit rate 5/second"
    body = f"flags dynamic; {limit}; elements = {{ 10.96.0.1 {limit} }};"
    nft("add", "set", "inet", "mine", "limited", f"{{ type ipv4_addr; {body} }}")
    (found,) = one_chain(rule).rules
    assert found.opaque
    assert found.kind is Kind.DROP


def test_a_verdict_map_is_as_many_rules_as_it_has_elements() -> None:
    chain = one_chain(
        "tcp dport vmap { 80 : drop, 8000-8099 : accept, 443 : return, 22 : continue }"
    )
    assert {one.text for one in chain.rules} == {
        "tcp dport 80 drop",
        "tcp dport 8000-8099 accept",
        "tcp dport 443 return",
    }


def many(count: int) -> Iterator[str]:
    return (f"10.{9 + n // 62500}.{n // 250 % 250}.{n % 250}" for n in range(count))


SETS = """
set hosts { type ipv4_addr; elements = { 10.96.0.1, 10.96.0.10 }; }
set counted { type ipv4_addr; counter; elements = { 10.96.0.10 }; }
set empty { type ipv6_addr; }
set emptied { type ipv4_addr; flags interval; }
set nets { type ipv4_addr; flags interval; elements = { 10.96.0.0/12, 10.0.0.5-10.0.0.9 }; }
set every { type ipv4_addr; flags interval; elements = { 0.0.0.0/0 }; }
set nought { type ipv4_addr; elements = { 0.0.0.0 }; }
set ports { type inet_service; flags interval; elements = { 80, 8000-8099 }; }
set pairs { type ipv4_addr . inet_service; elements = { 10.96.0.1 . 80, 10.96.0.10 . 53 }; }
set six { type ipv6_addr . inet_proto . inet_service; elements = { fd00::7 . tcp . 80 }; }
set spans { type ipv4_addr . inet_service; flags interval; elements = { 10.96.0.0/16 . 80-90 }; }
set links { type ifname; elements = { eth0, veth7 }; }
map fates { type ipv4_addr : verdict; elements = { 10.96.0.1 : drop, 10.96.0.2 : continue }; }
map verdicts { type ipv4_addr . inet_service : verdict; elements = { 10.96.0.1 . 80 : drop }; }
"""
BY_SETS = {
    "ip daddr @hosts drop": ["ip daddr {10.96.0.1, 10.96.0.10}"],
    "ip saddr != @hosts drop": ["ip saddr != {10.96.0.1, 10.96.0.10}"],
    "ip daddr @counted drop": ["ip daddr {10.96.0.10}"],
    "ip6 saddr @empty drop": ["ip6 saddr {}"],
    "ip daddr @emptied drop": ["ip daddr {}"],
    "ip daddr @nets drop": ["ip daddr {10.0.0.5-10.0.0.9, 10.96.0.0-10.111.255.255}"],
    "ip daddr @every drop": ["ip daddr {0.0.0.0-255.255.255.255}"],
    "ip daddr @nought drop": ["ip daddr {0.0.0.0}"],
    "tcp dport @ports drop": ["tcp dport {80, 8000-8099}"],
    "ip daddr . tcp dport @pairs drop": [
        "ip daddr {10.96.0.1} tcp dport {80}",
        "ip daddr {10.96.0.10} tcp dport {53}",
    ],
    "ip6 daddr . meta l4proto . th dport @six drop": ["ip6 daddr {fd00::7} tcp dport {80}"],
    "ip saddr . tcp sport @spans drop": ["ip saddr {10.96.0.0-10.96.255.255} tcp sport {80-90}"],
    "iifname @links drop": ["iifname {eth0, veth7}"],
    "ip daddr vmap @fates": ["ip daddr {10.96.0.1}"],
    "ip daddr . tcp dport vmap @verdicts": ["ip daddr {10.96.0.1} tcp dport {80}"],
    "ip daddr . tcp dport { 10.96.0.1 . 80 } drop": ["ip daddr {10.96.0.1} tcp dport {80}"],
}
NOTATION = {
    Field.SOURCE: "saddr",
    Field.DESTINATION: "daddr",
    Field.SOURCE_PORT: "sport",
    Field.DESTINATION_PORT: "dport",
    Field.IN_INTERFACE: "iifname",
}


def asked(rule: ForeignRule) -> str:
    """The conditions of a rule, with all values written out."""
    families = next((c.values for c in rule.conditions if c.field is Field.FAMILY), ("",))
    found = []
    for condition in rule.conditions:
        if condition.field in NOTATION:
            name = NOTATION[condition.field]
            before = {"addr": f"{families[0]} ", "port": "tcp "}.get(name[1:], "")
            negation = "!= " if condition.negated else ""
            found.append(f"{before}{name} {negation}{{{', '.join(sorted(condition.values))}}}")
    return " ".join(found)


@pytest.mark.parametrize(("rule", "expected"), BY_SETS.items(), ids=BY_SETS)
def test_small_named_sets_are_read(rule: str, expected: list[str]) -> None:
    nft("-f", "-", text=f"table inet mine {{ {SETS} }}")
    found = one_chain(rule).rules
    assert {one.kind for one in found} == {Kind.DROP}
    assert not any(one.opaque for one in found)
    assert set(map(asked, found)) == set(expected)


def test_a_rule_with_a_named_set_is_told_by_its_name() -> None:
    nft("-f", "-", text=f"table inet mine {{ {SETS} }}")
    (found,) = one_chain("ip saddr @nets tcp dport @ports drop").rules
    assert found.text == "ip saddr @nets tcp dport @ports drop"


def test_a_set_that_very_many_rules_ask_for_is_told_to_some() -> None:
    """What is told of it is kept once for each rule in a snapshot."""
    elements = ", ".join(many(500))
    nft(
        "-f",
        "-",
        text=f"add table inet mine\nadd set inet mine s {{ type ipv4_addr; elements = {{ {elements} }}; }}",
    )
    opaque = [one.opaque for one in one_chain(*["ip daddr @s drop"] * 100).rules]
    assert opaque == sorted(opaque)
    assert set(opaque) == {False, True}


def test_big_sets_stay_unread() -> None:
    (found,) = one_chain(f"ip daddr {{ {', '.join(many(1200))} }} drop").rules
    assert found.opaque


def test_a_chain_says_where_it_is_hooked() -> None:
    nft(
        "-f",
        "-",
        text="""
table ip6 mine { chain a { type filter hook forward priority -5; policy drop; }; chain b {}; }
table netdev dev { chain in { type filter hook ingress device lo priority 7; tcp dport 80 drop; }; }
table arp arps { chain in { type filter hook input priority 0; drop; }; }
table bridge bridges { chain in { type filter hook forward priority 0; drop; }; }
""",
    )
    found = {chain.name: chain for chain in foreign_rules()}
    assert found.keys() == {"a", "b", "in"}
    assert (found["a"].hook, found["a"].priority, found["a"].drops) == ("forward", -5, True)
    assert (found["b"].hook, found["b"].drops) == ("", False)
    assert (found["in"].hook, found["in"].device, found["in"].priority) == ("ingress", "lo", 7)


def findings() -> tuple[Finding, ...]:
    packet = Packet("10.244.1.7", "10.96.0.7", 80, Protocol.TCP)
    of = walk(plans(7), NODE_A, packet)
    return taking(foreign_rules(), packet, of, NODE_A, "nftables")


def finding() -> Finding:
    (found,) = findings()
    return found


REMEDIES = {
    "nft": "nft add table ip mine; nft add chain ip mine way '{ type nat hook prerouting priority -110; }'; "
    "nft add rule ip mine way ip daddr 10.96.0.7 dnat to 10.0.0.9",
    "nft policy": "nft add table inet mine; "
    "nft add chain inet mine way '{ type filter hook prerouting priority -200; policy drop; }'",
    **{
        name: f"{tool} -t nat -A PREROUTING -p udp -j ACCEPT; "
        f"{tool} -t nat -A PREROUTING -d 10.96.0.7/32 -p tcp -j REDIRECT"
        for name, tool in (("iptables-nft", "iptables-nft"), ("legacy", "iptables-legacy"))
    },
    "iptables' policy": "iptables-nft -P FORWARD DROP",
}


@pytest.mark.parametrize("harm", REMEDIES.values(), ids=REMEDIES)
def test_the_remedy_ends_the_finding(harm: str) -> None:
    run("sh", "-c", harm)
    run("sh", "-c", finding().remedy)
    assert findings() == ()


def test_rules_of_nft_in_tables_of_iptables_are_read_too() -> None:
    """One of them keeps iptables-nft-save from the whole table."""
    run("iptables-nft", "-t", "nat", "-A", "PREROUTING", "-d", "10.96.0.9", "-j", "RETURN")
    nft("add", "rule", "ip", "nat", "PREROUTING", "ct", "mark", "{ 7, 8 }", "counter", "accept")
    nft("add", "rule", "ip", "nat", "PREROUTING", "ip", "daddr", "{ 10.96.0.7 }", "redirect")
    found = finding()
    assert found.cause is Cause.FOREIGN_TRANSLATION
    assert "iptables-nft nat PREROUTING" in found.text
    assert not found.breaks


def test_looking_makes_nothing() -> None:
    tables_of_legacy = Path("/proc/thread-self/net/ip_tables_names")
    before = tables_of_legacy.read_text()
    assert foreign_rules() == ()
    assert tables_of_legacy.read_text() == before == ""
    run(
        "iptables-nft",
        "-A",
        "INPUT",
        "-p",
        "tcp",
        "-m",
        "multiport",
        "--dports",
        "1,2",
        "-j",
        "DROP",
    )
    kernel = Kernel()
    generation = kernel.generation()
    assert [one.kind for chain in foreign_rules() for one in chain.rules] == [Kind.DROP]
    assert kernel.generation() == generation
    assert tables_of_legacy.read_text() == ""
    kernel.close()


def test_of_ours_only_what_leads_to_services_is_told() -> None:
    mode = NftablesMode()
    mode.start(NODE_A)
    mode.replace(services(1, 2, 3))
    found = foreign_rules()
    assert {(chain.table, chain.hook) for chain in found} == {
        ("headgate", "prerouting"),
        ("headgate", "output"),
    }
    assert {one.kind for chain in found for one in chain.rules} == {Kind.OURS}
    mode.close()


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_of_our_chains_of_iptables_only_jumps_are_told(variant: str) -> None:
    mode = tables.mode_of(variant)
    mode.start(NODE_A)
    mode.replace(services(1, 2, 3))
    run(f"iptables-{variant}", "-N", "OTHERS")
    found = foreign_rules()
    assert not [chain.name for chain in found if chain.name.startswith("KUBE-")]
    kinds = {one.kind for chain in found for one in chain.rules}
    assert kinds == {Kind.OURS}
    mode.close()


@pytest.mark.parametrize("port", [80, 81])
def test_what_kube_proxy_left_in_nft_is_told(port: int) -> None:
    """Of the Services that are in its maps."""
    nft(
        "-f",
        "-",
        text=f"""
table ip kube-proxy {{
  map service-ips {{
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = {{ 10.96.0.7 . tcp . {port} : goto service-7 }}
  }}
  chain endpoint-a {{ meta l4proto tcp dnat to 10.244.1.2:8080; }}
  chain endpoint-b {{ meta l4proto tcp dnat to 10.244.2.2:8080; }}
  chain service-7 {{ numgen random mod 2 vmap {{ 0 : goto endpoint-a, 1 : goto endpoint-b }}; }}
  chain services {{ ip daddr . meta l4proto . th dport vmap @service-ips; }}
  chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
}}""",
    )
    found = findings()
    assert [one.cause for one in found] == ([Cause.FOREIGN_TRANSLATION] if port == 80 else [])
    for one in found:
        assert not one.breaks
        assert "kube-proxy --cleanup" in one.remedy


@pytest.mark.parametrize("privileged", [False, True])
def test_without_the_capability_it_says_so(*, privileged: bool) -> None:
    prefix = () if privileged else UNPRIVILEGED
    done = subprocess.run(
        [*prefix, sys.executable, "-c", ASK], capture_output=True, text=True, check=True
    )
    expected = "nf_tables does not answer us: CAP_NET_ADMIN is missing (run as root)\n"
    assert (done.stdout, done.stderr) == ("" if privileged else expected, "")


def addresses() -> Iterator[str]:
    return (f"10.{n // 250}.{n % 250}.9" for n in range(RULES))


def by_nft() -> None:
    rules = "\n".join(
        f"ip daddr {address} tcp dport {1000 + n} dnat ip to 10.0.0.9:8080"
        for n, address in enumerate(addresses())
    )
    chain = f"chain way {{\ntype nat hook prerouting priority -110;\n{rules}\n}}"
    nft("-f", "-", text=f"table inet mine {{\n{chain}\n}}")


def by_iptables(variant: str) -> None:
    rules = "\n".join(
        f"-A PREROUTING -d {address} -p tcp --dport {1000 + n} -j DNAT --to-destination 10.0.0.9:1"
        for n, address in enumerate(addresses())
    )
    run(f"iptables-{variant}-restore", text=f"*nat\n{rules}\nCOMMIT\n")


def counted(act: Callable[[], T]) -> tuple[T, int]:
    """What it returns, and how many functions it called, those of C too: work, on any machine."""
    calls = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        found = act()
    finally:
        sys.setprofile(None)
    return found, calls


@pytest.mark.parametrize("flags", ["", "flags interval;"], ids=["values", "intervals"])
@pytest.mark.parametrize("key", ["ipv4_addr", "ipv4_addr . inet_service"])
def test_a_set_with_very_many_elements_takes_no_time(flags: str, key: str) -> None:
    more = " . 80" if "." in key else ""
    elements = ", ".join(f"{one}{more}" for one in many(ELEMENTS))
    text = f"table ip mine {{ set s {{ type {key}; {flags} elements = {{ {elements} }}; }}\n}}"
    nft("-f", "-", text=text)
    key = "ip daddr . tcp dport" if more else "ip daddr"
    nft("-f", "-", text=f"table ip mine {{ chain way {{ {key} @s drop; {key} @s accept; }}\n}}")
    (chain,), calls = counted(foreign_rules)
    assert calls < FEW_CALLS
    assert [one.opaque for one in chain.rules] == [True, True]


def test_very_many_small_sets_take_little_time() -> None:
    numbered = list(enumerate(many(SETS_OF_ONE)))
    sets = "\n".join(
        f"set s{n} {{ type ipv4_addr; elements = {{ {address} }}; }}" for n, address in numbered
    )
    rules = "\n".join(f"ip daddr @s{n} drop" for n, _ in numbered)
    nft("-f", "-", text=f"table ip mine {{\n{sets}\nchain way {{\n{rules}\n}}\n}}")
    (chain,), calls = counted(foreign_rules)
    assert calls < CALLS_EACH * SETS_OF_ONE
    assert {one.opaque for one in chain.rules} == {False, True}


@pytest.mark.parametrize("tool", ["of nft", "nft", "legacy"])
def test_many_rules_take_little_time(tool: str) -> None:
    if tool == "of nft":
        by_nft()
    else:
        by_iptables(tool)
    found, calls = counted(foreign_rules)
    assert calls < CALLS_EACH * RULES
    assert sum(len(chain.rules) for chain in found) == RULES
    packet = Packet("10.244.1.7", "10.96.0.7", 80, Protocol.TCP)
    trace = walk(plans(7), NODE_A, packet)
    taken, calls = counted(lambda: taking(found, packet, trace, NODE_A, "nftables"))
    assert taken == ()
    assert calls < CALLS_EACH * RULES
    assert found[0].rules[-1].conditions[-1].field is Field.DESTINATION_PORT
