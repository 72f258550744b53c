"""Is a table that fits kept without a word, and another one replaced without a gap?"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest

from endpoints.addresses import pack
from endpoints.names import Family, ObjectName
from modes.base import Plans
from modes.nftables import netlink as nl
from modes.nftables.codec import Found
from modes.nftables.elements import key_prefix, pack_port
from modes.nftables.kernel import Kernel
from modes.nftables.mode import NftablesMode
from modes.nftables.ruleset import new_chain, new_table
from modes.nftables.sets import S
from modes.nftables.skeleton import Chain
from tests.kernel.rulesets import add, commit, counted, nft, remember, ruleset, services
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import LOCAL, cluster_ip, external_ip, node_port, plan_of, pods

V4, V6 = Family.IPV4, Family.IPV6


def restarted(mode: NftablesMode, known: dict[ObjectName, Plans]) -> NftablesMode:
    """A new process after a crash of the old one."""
    mode.start(NODE_A)
    mode.replace(known)
    mode.close()
    return NftablesMode()


def test_a_restart_writes_nothing(mode: NftablesMode, kernel: Kernel) -> None:
    known = services(*range(1, 6), endpoints=7)
    after = restarted(mode, known)
    before, generation = ruleset(), kernel.generation()
    adopted = after.start(NODE_A)
    report = after.replace(known)
    after.close()
    assert (adopted.kept, adopted.elements > 70) == (True, True)
    assert (report.added, report.deleted, report.messages, report.bytes_sent) == (0, 0, 0, 0)
    assert kernel.generation() == generation
    assert ruleset() == before


def test_a_restart_does_not_care_for_the_order_of_endpoints(
    mode: NftablesMode, kernel: Kernel
) -> None:
    known = services(1, 2, endpoints=7)
    after = restarted(mode, known)
    backwards = {
        name: tuple(msgspec.structs.replace(p, cluster=p.cluster[::-1]) for p in plans)
        for name, plans in known.items()
    }
    generation = kernel.generation()
    after.start(NODE_A)
    assert after.replace(backwards).messages == 0
    after.close()
    assert kernel.generation() == generation


def test_a_restart_writes_only_what_changed_meanwhile(mode: NftablesMode) -> None:
    after = restarted(mode, services(1, 2, 3))
    after.start(NODE_A)
    report = after.replace(services(1, 2) | services(4, endpoints=1))
    after.close()
    # Each Service of one port: address, verdict and slots, in two families.
    assert (report.deleted, report.added) == (2 * 4, 2 * 3)


def test_the_first_start_is_one_transaction(mode: NftablesMode, kernel: Kernel) -> None:
    generation = kernel.generation()
    assert not mode.start(NODE_A).kept
    assert kernel.generation() == generation
    mode.replace(services(1, 2))
    assert kernel.generation() == generation + 1


def _rule_changed() -> None:
    nft("insert", "rule", "ip", "headgate", "services", "counter")


def _rule_missing() -> None:
    nft("flush", "chain", "ip", "headgate", "post-extlocal")


def _foreign_chain() -> None:
    nft("add", "chain", "ip", "headgate", "of-somebody-else")


def _foreign_set() -> None:
    nft("add", "set", "ip", "headgate", "of-somebody-else", "{ type ipv4_addr; }")


def _choice_that_ends_otherwise() -> None:
    """By a drop, as before decision 0023; or by a refusal, where lookups can miss."""
    rules = nft("-a", "list", "chain", "ip", "headgate", "pick-2")
    last = next(line for line in reversed(rules.splitlines()) if " # handle " in line)
    ending = "drop" if "no-endpoints" in last else "goto no-endpoints"
    nft("replace", "rule", "ip", "headgate", "pick-2", "handle", last.split()[-1], *ending.split())


def _chain_missing() -> None:
    nft("delete", "chain", "ip", "headgate", "input")


def _chain_hooked_elsewhere() -> None:
    nft(
        "-f",
        "-",
        text="delete chain ip headgate input\n"
        "add chain ip headgate input { type nat hook input priority 101; }\n",
    )


def _another_program() -> None:
    nft(
        "-f",
        "-",
        text="delete table ip headgate\n"
        "table ip headgate {\n"
        "  map services { type ipv4_addr . inet_service : verdict; }\n"
        "  map affinity { type inet_service : verdict; elements = { 80 : drop } }\n"
        "  set external-local { type inet_service; elements = { 80 } }\n"
        "  chain prerouting { type nat hook prerouting priority -100; }\n"
        "}\n",
    )


def _set_missing() -> None:
    """As an older version would have it: no rule names the set, and so it can go."""
    nft(
        "-f",
        "-",
        text="flush chain ip headgate lb-check\ndelete set ip headgate lb-sources\n",
    )


def _rule_with_a_set() -> None:
    """The set is part of the rule, and so are the map and the chain below; they go with it."""
    nft("add rule ip headgate services ip saddr { 203.0.113.1, 203.0.113.2 } drop")


def _rule_with_a_map() -> None:
    nft("add rule ip headgate prerouting ip dscp vmap { cs1 : accept }")


def _rule_with_a_chain() -> None:
    nft("add rule ip headgate services ip saddr 203.0.113.9 jump { counter; drop; }")


def _foreign_chain_with_a_set_and_a_chain() -> None:
    nft(
        "add chain ip headgate fc;"
        "add rule ip headgate fc ip saddr { 203.0.113.1, 203.0.113.2 } jump { counter; drop; }"
    )


def _foreign_map_to_a_chain() -> None:
    """The chain cannot go before the element that leads to it."""
    nft(
        "add chain ip headgate fc;"
        "add map ip headgate vm { type ipv4_addr : verdict; };"
        "add element ip headgate vm { 203.0.113.4 : jump fc };"
        "add rule ip headgate services ip saddr vmap @vm"
    )


def _foreign_objects() -> None:
    """Named by a rule, by the element of a map, and by none."""
    nft(
        "add counter ip headgate cc; add counter ip headgate cd;"
        "add quota ip headgate qq 25 mbytes; add limit ip headgate ll rate 10/second;"
        "add map ip headgate om { type ipv4_addr : counter; };"
        'add element ip headgate om { 203.0.113.4 : "cc" };'
        "add rule ip headgate services counter name ip saddr map @om;"
        "add rule ip headgate postrouting quota name qq limit name ll"
    )


def _lone_foreign_object() -> None:
    nft("add quota ip headgate qq 25 mbytes")


MENDED = [
    _rule_changed,
    _rule_missing,
    _choice_that_ends_otherwise,
    _foreign_chain,
    _foreign_set,
    _chain_missing,
    _rule_with_a_set,
    _rule_with_a_map,
    _rule_with_a_chain,
    _foreign_chain_with_a_set_and_a_chain,
    _foreign_map_to_a_chain,
    _foreign_objects,
    _lone_foreign_object,
]


def _chain_of_no_name_we_can_read() -> None:
    """The kernel takes any bytes for a name: what reads as text cannot be named again."""
    table, chain = new_table(V4), new_chain(V4, Chain("fc", ()))
    other = Kernel()
    commit(other, [table, chain._replace(body=chain.body.replace(b"fc\0", b"\xff\xfe\0"))])
    other.close()


OLDER = [
    *MENDED,
    _chain_of_no_name_we_can_read,
    _chain_hooked_elsewhere,
    _another_program,
    _set_missing,
]

RESET = struct.pack("=ii", 1, 0)


@pytest.mark.parametrize("age", OLDER, ids=lambda it: it.__name__.strip("_"))
def test_a_table_of_another_layout_is_made_right_in_one_transaction(
    mode: NftablesMode, kernel: Kernel, age: Callable[[], None]
) -> None:
    known = services(1, 2)
    after = restarted(mode, known)
    fresh = nft("list", "ruleset")
    age()
    v6 = nft("-a", "list", "table", "ip6", "headgate")
    generation = kernel.generation()
    adopted = after.start(NODE_A)
    assert (adopted.kept, adopted.reason[:6]) == (False, "IPv4: ")
    after.replace(known)
    assert kernel.generation() == generation + 1
    assert nft("-a", "list", "table", "ip6", "headgate") == v6
    assert not after.verify()
    assert sorted(nft("list", "ruleset").split()) == sorted(fresh.split())
    assert after.start(NODE_A).kept
    after.close()


TCP = b"\x06\0\0\0"
FRONTENDS = {
    "cluster IP": (S.AFFINITY, pack("10.96.0.1") + TCP + pack_port(80)),
    "external IP, policy Local": (S.AFFINITY, pack("192.0.2.1") + TCP + pack_port(80)),
    "node port, policy Local": (S.AFFINITY_NODEPORTS, TCP + pack_port(30080)),
}


def sticky(*addresses: str) -> dict[ObjectName, Plans]:
    """A Service with affinity at every kind of frontend."""
    made = plan_of(
        cluster_ip("10.96.0.1"),
        external_ip("192.0.2.1", policy=LOCAL),
        node_port(30080, LOCAL),
        cluster=pods(*addresses),
        affinity_seconds=3600,
    )
    return {ObjectName("shop", "pay"): (made,)}


def client(frontend: str, endpoint: str, number: int = 7) -> Found:
    set_id, key = FRONTENDS[frontend]
    address = pack(f"203.0.113.{number}")
    to = pack(endpoint) + pack_port(8080)
    return Found(key_prefix(V4, set_id) + address + key, to, 3_600_000, 1_800_000)


def remembered(kernel: Kernel) -> dict[bytes, tuple[object, int]]:
    """Clients with their endpoint, and their time: it runs, so minutes must do."""
    entries = [e for s in (S.AFFINITY, S.AFFINITY_NODEPORTS) for e in kernel.elements(V4, s)]
    return {e.key: (e.value, round(e.expiration_ms / 600_000)) for e in entries}


def told(entries: list[Found]) -> dict[bytes, tuple[object, int]]:
    return {e.key: (e.value, round(e.expiration_ms / 600_000)) for e in entries}


@pytest.mark.parametrize(
    "age",
    [None, _foreign_chain, _chain_of_no_name_we_can_read, _set_missing],
    ids=["kept", "mended", "mend refused", "made anew"],
)
def test_clients_are_remembered_over_a_restart(
    mode: NftablesMode, kernel: Kernel, age: Callable[[], None] | None
) -> None:
    here = ("10.244.1.2", "10.244.1.3")
    after = restarted(mode, sticky(*here))
    stay = [client(frontend, "10.244.1.3") for frontend in FRONTENDS]
    go = [client(frontend, "10.244.1.2", number=8) for frontend in FRONTENDS]
    remember(kernel, [*stay, *go])
    if age:
        age()
    after.start(NODE_A)
    after.replace(sticky("10.244.1.3", "10.244.1.4"))
    after.close()
    assert remembered(kernel) == told(stay)


def test_a_layout_that_never_had_these_sets_is_no_hindrance(
    mode: NftablesMode, kernel: Kernel
) -> None:
    table = new_table(V6)
    commit(kernel, [table, new_chain(V6, Chain("old", ()))])
    adopted = mode.start(NODE_A)
    assert adopted.reason == "IPv4: no table yet, IPv6: set cluster-ips is missing"
    mode.replace(services(1))
    assert not mode.verify()


def test_a_changed_node_makes_the_tables_anew_with_everything_in_them(
    mode: NftablesMode, kernel: Kernel
) -> None:
    mode.start(NODE_A)
    mode.replace(sticky("10.244.1.2") | services(9))
    remember(kernel, [client("cluster IP", "10.244.1.2")])
    mode.start(msgspec.structs.replace(NODE_A, masquerade_all=True))
    generation = kernel.generation()
    mode.replace(sticky("10.244.1.2") | services(9))
    assert kernel.generation() == generation + 1
    assert not mode.verify()
    assert remembered(kernel) == told([client("cluster IP", "10.244.1.2")])


@contextlib.contextmanager
def a_server(address: str, port: int) -> Iterator[None]:
    """Something that accepts, and a route that takes Services' addresses to the output hook."""
    subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
    subprocess.run(["ip", "route", "add", "10.96.0.0/12", "dev", "lo", "src", address], check=True)
    with socket.create_server((address, port), backlog=4096) as server:
        stopped = threading.Event()
        server.settimeout(0.2)

        def serve() -> None:
            while not stopped.is_set():
                with contextlib.suppress(TimeoutError):
                    server.accept()[0].close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()
            # The network is the worker's: the next test file shall not find this node's address.
            subprocess.run(["ip", "route", "del", "10.96.0.0/12", "dev", "lo"], check=True)
            subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)


def test_no_connection_fails_while_rules_are_made_right(mode: NftablesMode) -> None:
    """The cluster IP answers all the time; without translation it would be silent."""
    known = {
        ObjectName("shop", "pay"): (
            plan_of(cluster_ip("10.96.0.1"), cluster=pods("192.168.0.11")),
        ),
        **services(*range(10, 60)),
    }
    mode.start(NODE_A)
    mode.replace(known)
    finished, outcomes = threading.Event(), []

    def connect() -> None:
        while not finished.is_set():
            try:
                with socket.create_connection(("10.96.0.1", 80), timeout=0.5) as connection:
                    # Closed by a reset: where masquerade picks a random port that waits in
                    # TIME_WAIT, the server would pass the next SYN by (PAWS) for a second.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                outcomes.append("answered")
            except OSError as error:
                outcomes.append(str(error))

    with a_server("192.168.0.11", 8080):
        client_ = threading.Thread(target=connect)
        client_.start()
        for number in range(40):
            _foreign_chain()
            _rule_changed()
            _rule_with_a_set()
            _foreign_map_to_a_chain()
            node = msgspec.structs.replace(NODE_A, masquerade_all=number % 2 == 0)
            assert not mode.start(node).kept
            mode.replace(known)
        finished.set()
        client_.join()
    assert set(outcomes) == {"answered"}
    assert len(outcomes) > 50


READING = {
    *(nl.GETGEN, nl.GETTABLE, nl.GETRULE, nl.GETCHAIN, nl.GETSET, nl.GETSETELEM),
    *(nl.GETOBJ, nl.GETFLOWTABLE),
}


def test_start_alone_writes_nothing(mode: NftablesMode, kernel: Kernel) -> None:
    mode.start(NODE_A)
    mode.replace(services(1))
    _foreign_chain()
    add(kernel, {key_prefix(V4, S.CLUSTER_IPS) + pack("10.96.0.77"): b""})
    generation, sending = kernel.generation(), counted(mode)
    mode.start(NODE_A)
    mode.verify()
    kinds = {int.from_bytes(data[4:6], "little") & 0xFF for data in sending.sent}
    assert kinds <= READING
    assert kernel.generation() == generation


@pytest.mark.parametrize("age", MENDED, ids=lambda it: it.__name__.strip("_"))
def test_wrong_rules_cost_no_element(mode: NftablesMode, age: Callable[[], None]) -> None:
    known = services(1, 2)
    mode.start(NODE_A)
    mode.replace(known)
    age()
    mode.start(NODE_A)
    report = mode.replace(known)
    assert (report.added, report.deleted) == (0, 0)
    assert report.messages > 0
