"""Is what the kernel holds told as it is, and held against what it should be, without a change?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest

from endpoints.addresses import pack
from endpoints.names import Family, ObjectName, Protocol
from endpoints.node import NodePortAddresses
from endpoints.plan import ServicePlan
from modes.base import Plans
from modes.held import (
    EVERYTHING,
    Difference,
    DifferenceKind,
    DumpedClient,
    DumpedService,
    Only,
)
from modes.nftables import netlink as nl
from modes.nftables.adopt import TableFound
from modes.nftables.codec import Found
from modes.nftables.elements import Value, Verdict, key_prefix, pack_port
from modes.nftables.expressions import native32
from modes.nftables.held import HeldTables, recalled
from modes.nftables.kernel import Kernel, lookups_can_miss
from modes.nftables.listing import tables, text
from modes.nftables.looking import look
from modes.nftables.mode import NftablesMode
from modes.nftables.sets import S
from modes.nftables.skeleton import LOCAL_OFFSET
from tests.kernel.rulesets import (
    Clustered,
    CountingSocket,
    add,
    delete,
    kinds,
    nft,
    remember,
    ruleset,
    services,
)
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import (
    LOCAL,
    balancer,
    cluster_ip,
    node_port,
    plan_of,
    pods,
)

V4 = Family.IPV4
TCP80 = b"\x06\0\0\0" + pack_port(80)
S1 = pack("10.96.0.1") + TCP80
SHOP = ObjectName("shop", "pay")
MISSING, DIFFERENT = DifferenceKind.MISSING, DifferenceKind.DIFFERENT
PAY = "shop/pay:http"
S1_NAME = "shop/s1:http"


def pay() -> Plans:
    """All kinds of frontends and of policies, with affinity."""
    return (
        plan_of(
            cluster_ip("10.96.7.7"),
            balancer("198.51.100.4", policy=LOCAL, ranges=["203.0.113.0/24", "198.18.0.0/25"]),
            node_port(30080, LOCAL),
            cluster=pods("10.244.1.2", "10.244.2.2", "10.244.2.3"),
            affinity_seconds=90,
        ),
        plan_of(cluster_ip("fd00:10:96::77"), cluster=pods("fd00:10:244:1::2")),
    )


def everything() -> Clustered:
    return {**services(1, 2, 3), SHOP: pay()}


CLIENTS = [
    Found(
        key_prefix(V4, set_id) + pack("203.0.113.9") + key,
        pack("10.244.1.2") + pack_port(8080),
        90_000,
        60_500,
    )
    for set_id, key in {
        S.AFFINITY: pack("10.96.7.7") + TCP80,
        S.AFFINITY_LOCAL_NODEPORTS: b"\x06\0\0\0" + pack_port(30080),
    }.items()
]


@pytest.fixture
def running(mode: NftablesMode, kernel: Kernel) -> NftablesMode:
    """Four Services, and a client."""
    mode.start(NODE_A)
    assert not mode.replace(everything()).failed
    remember(kernel, CLIENTS)
    return mode


def told(held: HeldTables) -> list[tuple[str, str, str]]:
    """The differences, spelled short."""
    found = held.differences(NODE_A, everything())
    return [(of.service, of.kind.value, of.what) for of in found]


@pytest.mark.usefixtures("running")
def test_what_was_applied_is_told() -> None:
    held = look()
    assert [of.name for of in held.services] == sorted(
        [PAY, PAY, *(f"shop/s{n}:http" for n in (1, 1, 2, 2, 3, 3))]
    )
    of_pay = held.services[0]
    assert of_pay.clients[0].seconds_left in (59, 60)
    clients = [msgspec.structs.replace(client, seconds_left=None) for client in of_pay.clients]
    assert clients == [DumpedClient("203.0.113.9", "10.244.1.2:8080")]
    assert of_pay.affinity_seconds == 90
    assert told(held) == []


ONE = [
    Only(service="shop/pay"),
    Only(service="shop/s1:http"),
    Only(address="10.96.0.1", port=80),
    Only(address="fd00:10:96::1", port=80),
    Only(address="192.168.0.11", port=30080),
    Only(address="198.51.100.4", port=80),
    Only(service="shop/nobody"),
    Only(address="10.96.0.1", port=80, protocol=Protocol.UDP),
]
each = pytest.mark.parametrize("only", ONE, ids=lambda only: only.service or only.address)


def damage(kernel: Kernel) -> None:
    """Something of each Service."""
    nft("delete element ip headgate services { 10.96.0.3 . tcp . 80 }")
    nft("delete element ip6 headgate services { fd00:10:96::2 . tcp . 80 }")
    change(kernel, SLOT + native32(1), pack("6.6.6.6") + pack_port(80))
    delete(kernel, [key_prefix(V4, S.NODEPORT_LOCAL) + NODE_PORT])
    add(kernel, {NODE_PORT_SLOT + native32(3): pack("6.6.6.6") + pack_port(80)})
    nft("flush chain ip headgate prerouting")


@pytest.mark.usefixtures("running")
@each
def test_a_part_is_a_part_of_the_whole(only: Only) -> None:
    part, whole = look(only), look()
    kept = {client.address for of in part.services for client in of.clients}
    assert kept == ({"203.0.113.9"} if "pay" in {of.name[5:8] for of in part.services} else set())
    assert timeless(part) == tuple(of for of in timeless(whole) if only.holds(of))
    assert told(part) == []


@pytest.mark.usefixtures("running")
@each
def test_a_part_is_compared_as_the_whole_is(kernel: Kernel, only: Only) -> None:
    damage(kernel)
    plans = [plan for plans in everything().values() for plan in plans if is_asked(plan, only)]
    meant = {(str(plan.name), plan.family is Family.IPV6) for plan in plans}
    part, whole = told(look(only)), told(look())
    assert part == [of for of in whole if not of[0] or (of[0], "fd00:" in of[2]) in meant]
    assert len({of[0] for of in whole}) == 5


def is_asked(plan: ServicePlan, only: Only) -> bool:
    """As an operator would say."""
    if only.service:
        return only.names(str(plan.name))
    return plan.name.protocol == only.protocol and any(
        f.port == only.port and f.address in (only.address, None) for f in plan.frontends
    )


def timeless(held: HeldTables) -> tuple[DumpedService, ...]:
    """What is held, whenever it was looked at."""
    return tuple(
        msgspec.structs.replace(
            of,
            clients=tuple(msgspec.structs.replace(who, seconds_left=0) for who in of.clients),
        )
        for of in held.services
    )


SLOT = key_prefix(V4, S.ENDPOINTS) + S1
SERVICE = key_prefix(V4, S.SERVICES) + S1
CLIENT = key_prefix(V4, S.AFFINITY) + pack("6.6.6.6") + pack("10.96.7.7") + TCP80
NODE_PORT = b"\x06\0\0\0" + pack_port(30080)
NODE_PORT_SLOT = key_prefix(V4, S.NODEPORT_ENDPOINTS) + NODE_PORT
FOREIGN = pack("6.6.6.6") + pack_port(80)
DELETE = "delete element ip headgate"
TABLE = "of table ip headgate"


def change(kernel: Kernel, key: bytes, value: Value) -> None:
    delete(kernel, [key])
    add(kernel, {key: value})


NFT = {
    "element deleted": (
        f"{DELETE} services {{ 10.96.0.1 . tcp . 80 }}",
        [(S1_NAME, "missing", "10.96.0.1:80/TCP in map services")],
    ),
    "NodePort deleted": (
        f"{DELETE} nodeport-local {{ tcp . 30080 }}",
        [(PAY, "missing", "NodePort 30080/TCP (IPv4) in map nodeport-local")],
    ),
    "source range deleted": (
        f"{DELETE} lb-sources {{ 198.51.100.4 . tcp . 80 . 203.0.113.0/24 }}",
        [
            (
                PAY,
                "missing",
                "source range 203.0.113.0/24 of 198.51.100.4:80/TCP in set lb-sources",
            )
        ],
    ),
    "hairpin deleted": (
        f"{DELETE} hairpin {{ 10.244.1.2 . 10.244.1.2 }}",
        [(PAY, "missing", "10.244.1.2 in set hairpin")],
    ),
    "cluster IP deleted": (
        f"{DELETE} cluster-ips {{ 10.96.7.7 }}",
        [(PAY, "missing", "10.96.7.7 in set cluster-ips")],
    ),
    "endpoint forgotten": (
        f"{DELETE} affinity-valid {{ 10.96.7.7 . tcp . 80 . 10.244.2.2 . 8080 }}",
        [
            (
                PAY,
                "missing",
                "endpoint 10.244.2.2:8080 of 10.96.7.7:80/TCP in set affinity-valid",
            )
        ],
    ),
    "address of the node deleted": (
        f"{DELETE} nodeport-ips {{ 192.168.0.11 }}",
        [("", "missing", "192.168.0.11 in set nodeport-ips")],
    ),
    "cluster IP added": (
        "add element ip headgate cluster-ips { 10.96.0.99 }",
        [("", "extra", "10.96.0.99 in set cluster-ips")],
    ),
    "frontend added": (
        'add element ip headgate services { 10.96.9.9 . udp . 53 comment "a/b:c" : drop }',
        [("a/b:c", "extra", "10.96.9.9:53/UDP and all that belongs to it")],
    ),
    "frontend of nobody added": (
        "add element ip headgate services { 10.96.9.9 . udp . 53 : drop }",
        [("", "extra", "10.96.9.9:53/UDP and all that belongs to it")],
    ),
    "all others": (
        "add element ip headgate services { * : drop }",
        [("", "extra", "* in map services of table ip headgate")],
    ),
    "rule deleted": (
        "flush chain ip headgate prerouting",
        [("", "different", f"chain prerouting {TABLE} is of another layout")],
    ),
    "chain added": ("add chain ip headgate odd", [("", "extra", f"chain odd {TABLE}")]),
    "set added": (
        "add set ip headgate odd { type ipv4_addr; }",
        [("", "extra", f"set odd {TABLE}")],
    ),
    "counter added": ("add counter ip headgate odd", [("", "extra", f"counter odd {TABLE}")]),
    "table dormant": (
        "add table ip headgate { flags dormant; }",
        [("", "different", "table ip headgate has flags: dormant")],
    ),
    "table deleted": (
        "delete table ip headgate",
        [
            ("", "missing", "table ip headgate"),
            *(
                (name, "missing", "every rule of it (table ip headgate is missing)")
                for name in (PAY, S1_NAME, "shop/s2:http", "shop/s3:http")
            ),
        ],
    ),
}


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize(("command", "expected"), NFT.values(), ids=NFT)
def test_what_nft_did_is_named_with_its_service(
    command: str, expected: list[tuple[str, str, str]]
) -> None:
    nft(command)
    assert told(look()) == expected


BY_KEY: dict[str, tuple[Callable[[Kernel], None], list[tuple[str, str, str]]]] = {
    "endpoint deleted": (
        lambda kernel: delete(kernel, [SLOT + native32(0)]),
        [(S1_NAME, "missing", "endpoint 10.244.2.1:8080 in slot 0 of 10.96.0.1:80/TCP")],
    ),
    "endpoint changed": (
        lambda kernel: change(kernel, SLOT + native32(1), FOREIGN),
        [
            (
                S1_NAME,
                "different",
                "slot 1 of 10.96.0.1:80/TCP: 6.6.6.6:80, should be 10.244.2.2:8080",
            )
        ],
    ),
    "endpoint added": (
        lambda kernel: add(kernel, {SLOT + native32(2): FOREIGN}),
        [(S1_NAME, "extra", "endpoint 6.6.6.6:80 in slot 2 of 10.96.0.1:80/TCP")],
    ),
    "local endpoint changed": (
        lambda kernel: change(kernel, NODE_PORT_SLOT + native32(LOCAL_OFFSET), FOREIGN),
        [
            (
                PAY,
                "different",
                "local slot 0 of NodePort 30080/TCP (IPv4): 6.6.6.6:80, should be 10.244.1.2:8080",
            )
        ],
    ),
    "verdict changed": (
        lambda kernel: change(kernel, SERVICE, Verdict("drop", S1_NAME)),
        [(S1_NAME, "different", "10.96.0.1:80/TCP in map services: drop, should be goto pick-2")],
    ),
    "comment changed": (
        lambda kernel: change(kernel, SERVICE, Verdict("goto pick-2", "a/b")),
        [
            (
                S1_NAME,
                "different",
                f'10.96.0.1:80/TCP in map services: comment "a/b", should be comment "{S1_NAME}"',
            )
        ],
    ),
    "client added": (
        lambda kernel: remember(kernel, [CLIENTS[0]._replace(key=CLIENT, value=FOREIGN)]),
        [(PAY, "extra", "client 6.6.6.6 of 10.96.7.7:80/TCP on 6.6.6.6:80 in map affinity")],
    ),
    "Service deleted": (
        lambda kernel: delete(kernel, [SERVICE, SLOT + native32(0), SLOT + native32(1)]),
        [(S1_NAME, "missing", "10.96.0.1:80/TCP and all that belongs to it")],
    ),
}


@pytest.mark.parametrize(("meddle", "expected"), BY_KEY.values(), ids=BY_KEY)
def test_what_others_did_is_named_with_its_service(
    running: NftablesMode,
    kernel: Kernel,
    meddle: Callable[[Kernel], None],
    expected: list[tuple[str, str, str]],
) -> None:
    meddle(kernel)
    assert told(look()) == expected
    if (
        expected[0][0] == S1_NAME
        and expected[0][2] != "10.96.0.1:80/TCP and all that belongs to it"
    ):
        assert told(look(Only(address="10.96.0.1", port=80))) == expected
    running.replace(everything())
    assert told(look()) == []


@pytest.mark.usefixtures("running")
def test_a_set_that_is_missing_is_told_once_for_each_service() -> None:
    nft("flush table ip headgate")
    nft("delete set ip headgate hairpin")
    nft("delete map ip headgate endpoints")
    found = [of for of in told(look()) if "chain" not in of[2]]
    assert found == [
        ("", "missing", f"map endpoints {TABLE}"),
        ("", "missing", f"set hairpin {TABLE}"),
        (PAY, "missing", f"everything of it in map endpoints {TABLE}"),
        (PAY, "missing", f"everything of it in set hairpin {TABLE}"),
        *(
            (f"shop/s{n}:http", "missing", f"everything of it in map endpoints {TABLE}")
            for n in (1, 2, 3)
        ),
    ]


@pytest.mark.usefixtures("running")
def test_a_map_of_another_layout_is_not_read() -> None:
    """Its elements would be taken for what they are not."""
    nft("flush table ip headgate")
    nft("delete map ip headgate services")
    nft(
        "add map ip headgate services { type ipv4_addr : verdict; elements = { 10.96.0.1 : drop }; }"
    )
    held = look()
    assert ("", "different", f"map services {TABLE} is of another layout") in told(held)
    assert (S1_NAME, "missing", f"everything of it in map services {TABLE}") in told(held)
    of_ipv4 = [of for of in held.services if of.family == "IPv4"]
    assert [frontend.address for of in of_ipv4 for frontend in of.frontends] == ["node"]
    assert "\tset services {" in held.native()


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("only", [Only(service="shop/s3"), Only(address="10.96.0.3", port=80)])
def test_a_service_is_told_of_that_the_kernel_does_not_name(only: Only) -> None:
    nft(f"{DELETE} services {{ 10.96.0.3 . tcp . 80 }}")
    assert told(look(only)) == [("shop/s3:http", "missing", "10.96.0.3:80/TCP in map services")]


@pytest.mark.usefixtures("running")
def test_another_node_wants_other_rules() -> None:
    """Also one whose rules need a sysctl, which nobody sets for a comparison."""
    route = Path("/proc/sys/net/ipv4/conf/all/route_localnet")
    before = route.read_text()
    everywhere = NodePortAddresses(match_all=True, addresses=("127.0.0.1",))
    node = msgspec.structs.replace(NODE_A, node_ports_v4=everywhere)
    found = look().differences(node, everything())
    assert Difference("", MISSING, f"chain loopback-guard {TABLE}") in found
    assert Difference("", MISSING, "127.0.0.1 in set nodeport-ips") in found
    assert Difference("", DIFFERENT, f"chain prerouting {TABLE} is of another layout") in found
    assert route.read_text() == before == "0\n"


@pytest.mark.usefixtures("running")
def test_nothing_is_changed(kernel: Kernel) -> None:
    damage(kernel)
    before, generation = lasting(ruleset()), kernel.generation()
    for only in (EVERYTHING, *ONE):
        held = look(only)
        told(held)
        held.native()
    assert (kernel.generation(), lasting(ruleset())) == (generation, before)


def lasting(listed: str) -> str:
    """A listing without the time that clients have left."""
    return re.sub(r"expires \w+", "", listed)


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("only", [EVERYTHING, *ONE[:3]])
def test_a_document_answers_as_the_kernel_did(kernel: Kernel, only: Only) -> None:
    damage(kernel)
    nft("add rule ip headgate output counter")
    held = look(only)
    again = recalled(json.loads(json.dumps(held.document())))
    assert again == held
    assert again.services == held.services
    assert told(again) == told(held) != []
    assert again.native() == held.native() != ()


@pytest.mark.usefixtures("mode")
@each
@pytest.mark.usefixtures("running")
def test_a_part_of_a_document_is_as_a_part_of_the_kernel(kernel: Kernel, only: Only) -> None:
    damage(kernel)
    part = recalled(look().document(), only)
    assert timeless(part) == timeless(look(only))
    assert told(part) == told(look(only))
    assert bare(map(lasting, part.native())) == bare(map(lasting, look(only).native()))


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        ({"version": 2}, "in form 2: this program reads form 1 only"),
        ({"version": None}, "in form None"),
        ({"seen": 7}, "that make no sense: Expected `object`, got `int`"),
    ],
)
def test_a_document_of_another_form_is_refused(damaged: dict[str, object], words: str) -> None:
    document = look().document()
    assert isinstance(document, dict)
    with pytest.raises(ValueError, match=re.escape(words)):
        recalled(document | damaged)


@pytest.mark.usefixtures("mode")
def test_an_empty_kernel_holds_nothing() -> None:
    held = look()
    assert (held.services, held.native()) == ((), ())
    assert held.differences(NODE_A, {}) == (
        Difference("", MISSING, "table ip headgate"),
        Difference("", MISSING, "table ip6 headgate"),
    )


@pytest.mark.skipif(lookups_can_miss(), reason="before kernel 6.17 some lookups are written twice")
def test_the_native_form_of_everything_is_what_render_prints(mode: NftablesMode) -> None:
    mode.start(NODE_A)
    mode.replace(everything())
    rendered = text(tables(everything(), NODE_A))
    assert bare(look().native()) == bare(rendered)


def bare(lines: Iterable[str]) -> list[str]:
    """Lines in any order, and elements wherever in the list they are."""
    return sorted(line.replace("elements = {", "").strip(" \t,}") for line in lines)


@pytest.mark.usefixtures("running")
def test_the_native_form_of_one_is_its_elements_and_the_chains_that_they_lead_to() -> None:
    listed = "\n".join(look(Only(address="10.96.0.1", port=80)).native())
    assert "10.96.0.1 . tcp . 80 . 1 : 10.244.2.2 . 8080" in listed
    assert re.findall(r"(?:set|map|chain) (\S+) {", listed) == [
        "cluster-ips",
        "services",
        "endpoints",
        "pick-2",
    ]
    assert not set(re.findall(r"10\.96\.\d+\.\d+", listed)) - {"10.96.0.1"}
    assert re.search(
        r"203\.0\.113\.9 \. 10\.96\.7\.7 \. tcp \. 80 timeout 1m30s expires (1m|59s) : 10\.244\.1\.2",
        "\n".join(look(Only(service="shop/pay")).native()),
    )


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("counter", "counter"),
        ("tcp sport 80 drop", "meta, cmp, payload, cmp, immediate"),
        ("tcp dport 80 drop", "meta, cmp, payload, cmp, immediate"),
        (
            "ip daddr . meta l4proto . th sport vmap @services",
            "payload, meta, payload, lookup",
        ),
        ("ip ttl 1 drop", "payload, cmp, immediate"),
        ("ct state established accept", "ct, bitwise, cmp, immediate"),
        ("ct status snat accept", "ct, bitwise, cmp, immediate"),
        ("fib saddr . iif oif missing drop", "fib, cmp, immediate"),
        ("meta l4proto tcp dnat to 10.244.1.2:80", "meta, cmp, immediate, immediate, nat"),
        ("masquerade", "masq"),
        ("ip saddr { 10.0.0.1, 10.0.0.2 } drop", "payload, lookup, immediate"),
        ("meta mark 7 accept", "meta, cmp, immediate"),
        ("numgen inc mod 2 0 drop", "numgen, cmp, immediate"),
        ("numgen random mod 2 0 drop", "numgen, cmp, immediate"),
        ("update @affinity { 10.0.0.1 . ip daddr . meta l4proto . th dport : 10.0.0.1 . 7 }", None),
    ],
)
def test_a_rule_of_others_is_not_read_as_ours(rule: str, names: str | None) -> None:
    chain = "postrouting" if rule == "masquerade" else "prerouting"
    nft(f"add rule ip headgate {chain} {rule}")
    (odd,) = [line for line in look().native() if "of another program" in line]
    assert names is None or odd.strip() == f"# of another program: {names}"


@pytest.mark.usefixtures("running")
def test_the_native_form_names_sets_of_others() -> None:
    nft("add set ip headgate odd { type ipv4_addr; elements = { 10.0.0.1 }; }")
    listed = "\n".join(look().native())
    assert "set odd {\n\t\ttype ?\n\t\t# of another layout: its elements were not read" in listed
    assert "10.0.0.1" not in listed


def asked_of(monkeypatch: pytest.MonkeyPatch, only: Only) -> list[list[int]]:
    """The kinds of messages in each system call of a look that sends some."""
    sockets: list[CountingSocket] = []
    opened = Kernel.__init__

    def counting(kernel: Kernel) -> None:
        opened(kernel)
        sockets.append(CountingSocket(kernel._socket))
        kernel._socket = sockets[-1]  # type: ignore[assignment]

    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "__init__", counting)
        look(only)
    (sent,) = sockets
    return [kinds(data) for data in sent.sent]


@pytest.mark.parametrize("many", [20, 200])
def test_one_service_costs_its_own_endpoints_only(
    mode: NftablesMode, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """Whatever else there is: the largest maps are not listed, but asked for what is meant."""
    mode.start(NODE_A)
    mode.replace(services(*range(1, many), endpoints=9) | services(250, endpoints=100))
    whole = asked_of(monkeypatch, EVERYTHING)
    few = asked_of(monkeypatch, Only(address="10.96.0.7", port=80))
    lists = {
        only: sum(of == [nl.GETSETELEM] for of in sent)
        for only, sent in (("all", whole), ("few", few))
    }
    # Nor are the maps of clients, for there is no affinity.
    assert lists == {"all": 2 * len(S), "few": 2 * (len(S) - 2 - 4)}
    # Slots of the list (9 and one more), of its local list, and of NodePorts of that number.
    assert [len(of) for of in few if of != [nl.GETSETELEM] and nl.GETSETELEM in of] == [10 + 1 + 4]
    assert len(few) == len(whole) - 4 - 8 + 1
    large = asked_of(monkeypatch, Only(service="shop/s250"))
    questions = [len(of) for of in large if len(of) > 1]
    assert questions == [64, 64, 64, 2 * (101 + 1) - 3 * 64]


def test_a_list_is_followed_beyond_what_rules_name(mode: NftablesMode, kernel: Kernel) -> None:
    """Somebody else may have added many, or none may be named any more."""
    mode.start(NODE_A)
    mode.replace(services(1, endpoints=70))
    change(kernel, SERVICE, Verdict("drop", S1_NAME))
    only = Only(address="10.96.0.1", port=80)
    wanted = services(1, endpoints=70)
    found = look(only).differences(NODE_A, wanted)
    assert [of.what for of in found] == [
        "10.96.0.1:80/TCP in map services: drop, should be goto pick-70"
    ]
    add(kernel, {SLOT + native32(slot): FOREIGN for slot in range(70, 170)})
    assert len(look(only).differences(NODE_A, wanted)) == 101


def test_a_look_beside_a_writer_sees_one_ruleset(
    running: NftablesMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon changes a Service while its map is read: then all is read again."""
    table, late = Kernel.table, iter([services(1, 2)])

    def changing(self: Kernel, family: Family) -> TableFound | None:
        found = table(self, family)
        if family is Family.IPV6:
            for wanted in late:
                running.replace(wanted)
        return found

    monkeypatch.setattr(Kernel, "table", changing)
    held = look()
    assert {of.name for of in held.services} == {"shop/s1:http", "shop/s2:http"}
    assert held.differences(NODE_A, services(1, 2)) == ()
