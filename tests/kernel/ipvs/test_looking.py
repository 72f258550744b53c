"""Is what the kernel holds told as it is, every drift with its Service, and is nothing changed?"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from endpoints.names import Family, Protocol
from modes.base import Delta
from modes.held import EVERYTHING, Difference, DifferenceKind, DumpedService, Only
from modes.ipvs import sysctls
from modes.ipvs.dump import servers_meant
from modes.ipvs.kernel import Ipset, Ipvs
from modes.ipvs.links import Link
from modes.ipvs.looking import look, recalled
from modes.ipvs.machine import Machine
from modes.ipvs.marks import Layout
from modes.ipvs.mode import IpvsMode
from modes.ipvs.servers import ServerKey
from tests.kernel.ipvs.programs import said, until
from tests.kernel.ipvs.test_listing import DNS, NODE, PAY, SERVICES, SETTINGS, mode

__all__ = ["mode"]

MISSING, EXTRA, DIFFERENT = DifferenceKind
ONLY_PAY = Only("shop/pay")
TEXTS = (
    ("ipvsadm", "-Sn"),
    ("ipset", "save"),
    ("ip", "address"),
    ("iptables-legacy-save",),
    ("ip6tables-legacy-save",),
)
WEB, SH = "-t 10.96.7.7:80", "sh sh-port"
DRIFTS: dict[str, tuple[str, Difference]] = {
    "virtual server": (
        f"ipvsadm -D {WEB}",
        Difference("shop/pay:http", MISSING, "virtual server TCP 10.96.7.7:80"),
    ),
    "real server deleted": (
        f"ipvsadm -d {WEB} -r 10.244.2.2:8080",
        Difference("shop/pay:http", MISSING, "real server 10.244.2.2:8080 of TCP 10.96.7.7:80"),
    ),
    "real server added": (
        f"ipvsadm -a {WEB} -r 10.244.9.9:8080 -m",
        Difference("shop/pay:http", EXTRA, "real server 10.244.9.9:8080 of TCP 10.96.7.7:80"),
    ),
    "weight": (
        f"ipvsadm -e {WEB} -r 10.244.2.2:8080 -m -w 0",
        Difference(
            "shop/pay:http",
            DIFFERENT,
            "real server 10.244.2.2:8080 of TCP 10.96.7.7:80 has weight 0, not 1",
        ),
    ),
    "scheduler": (
        f"ipvsadm -E {WEB} -s rr",
        Difference(
            "shop/pay:http",
            DIFFERENT,
            "virtual server TCP 10.96.7.7:80 chooses by rr, not sh sh-port",
        ),
    ),
    "persistence": (
        "ipvsadm -E -u 10.96.0.10:53 -s sh -b sh-port",
        Difference(
            "shop/dns:dns",
            DIFFERENT,
            f"virtual server UDP 10.96.0.10:53 chooses by {SH}, not {SH}, persistent for 90 s",
        ),
    ),
    "address": (
        "ip address del 10.96.7.7/32 dev kube-ipvs0",
        Difference("shop/pay:http", MISSING, "10.96.7.7 on kube-ipvs0"),
    ),
    "element": (
        "ipset del KUBE-CLUSTER-IP 10.96.7.7,tcp:80",
        Difference("shop/pay:http", MISSING, "entry 10.96.7.7,tcp:80 in set KUBE-CLUSTER-IP"),
    ),
    "name": (
        "ipset del KUBE-VIRTUAL-SERVERS 10.96.7.7,tcp:80",
        Difference("shop/pay:http", MISSING, "entry 10.96.7.7,tcp:80 in set KUBE-VIRTUAL-SERVERS"),
    ),
    "mark": (
        "ipset del KUBE-6-LOCAL-BYPASS 2001:db8::9,tcp:80",
        Difference("shop/pay:http", MISSING, "entry 2001:db8::9,tcp:80 in set KUBE-6-LOCAL-BYPASS"),
    ),
    "rule": (
        "iptables-legacy -t nat -D KUBE-SERVICES -s 127.0.0.0/8 -j RETURN",
        Difference(
            "", MISSING, "rule -A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN in table nat (IPv4)"
        ),
    ),
    "setting": (
        "sysctl -w net.ipv4.vs.conntrack=0",
        Difference("", DIFFERENT, "net.ipv4.vs.conntrack is 0, not 1 (masquerade and its replies)"),
    ),
}


def differences(only: Only = EVERYTHING) -> Sequence[Difference]:
    return look(only, SETTINGS).differences(NODE, SERVICES)


def everything() -> list[str]:
    """All that can be looked at."""
    values = (Path("/proc/sys/net", path) for path in sysctls.PATHS)
    read = [f"{value}={value.read_text()}" for value in values if value.exists()]
    lines = "\n".join(said(*command) for command in TEXTS).splitlines()
    return [*read, *(line for line in lines if not line.startswith("#"))]


@pytest.mark.usefixtures("mode")
def test_what_was_applied_is_what_is_held() -> None:
    held = look(EVERYTHING, SETTINGS)
    assert held.differences(NODE, SERVICES) == ()
    for only in (ONLY_PAY, Only(address="10.96.7.7", port=80)):
        part = look(only, SETTINGS)
        assert part.services
        assert part.differences(NODE, SERVICES) == ()
        assert part.differences(NODE, {PAY: SERVICES[PAY]}) == ()


@pytest.mark.parametrize("name", DRIFTS)
def test_a_drift_is_named_with_its_service(mode: IpvsMode, name: str) -> None:
    command, difference = DRIFTS[name]
    said(*command.split())
    assert differences() == (difference,)
    assert mode.verify() or name == "setting"
    for service in ("shop/pay", "shop/dns", "shop/idle"):
        is_its = difference.service.partition(":")[0] in (service, "")
        assert differences(Only(service)) == ((difference,) if is_its else ())


def test_everything_is_gone(mode: IpvsMode) -> None:  # noqa: ARG001
    said("ipvsadm", "-C")
    said("ipset", "flush")
    said("ip", "address", "flush", "dev", "kube-ipvs0")
    names = ("shop/dns:dns", "shop/idle", "shop/pay:http")
    assert differences() == tuple(Difference(of, MISSING, "everything of it") for of in names)


@pytest.mark.parametrize(
    "only",
    [
        ONLY_PAY,
        Only("shop/pay:http"),
        Only("shop/idle"),
        Only("shop/none"),
        Only(address="198.51.100.9", port=80),
        Only(address="192.0.2.10", port=30080),
        Only(address="127.0.0.1", port=30080),
        Only(address="10.96.0.10", port=53, protocol=Protocol.UDP),
    ],
)
def test_a_part_is_part_of_the_whole(mode: IpvsMode, only: Only) -> None:  # noqa: ARG001
    for name in ("weight", "persistence", "element", "rule"):
        said(*DRIFTS[name][0].split())
    whole = look(EVERYTHING, SETTINGS)
    part = look(only, SETTINGS)
    assert part.services == tuple(of for of in whole.services if only.holds(of))
    asked = {of.name for of in part.services} | {""}
    of_these = [of for of in whole.differences(NODE, SERVICES) if of.service in asked]
    assert list(part.differences(NODE, SERVICES)) == of_these
    whole_lines = whole.native()
    assert all(line in whole_lines for line in part.native())


def test_real_servers_are_asked_for_of_those_that_are_meant(
    mode: IpvsMode,  # noqa: ARG001
    ipvs: Ipvs,
) -> None:
    machine = Machine.open()
    meant = servers_meant(machine.sets(), Layout(14), Only("shop/dns"))
    machine.close()
    before = ipvs.messages
    found = ipvs.servers(wanted=meant)
    assert list(found) == [ServerKey(Family.IPV4, Protocol.UDP, "10.96.0.10", 53)]
    assert ipvs.messages - before == 1 + 1


def test_native_is_what_the_tools_print(mode: IpvsMode) -> None:  # noqa: ARG001
    lines = look(EVERYTHING, SETTINGS).native()
    servers = lines[lines.index("# ipvsadm -Sn") + 1 : lines.index("# ipset save")]
    assert sorted(servers) == sorted(said("ipvsadm", "-Sn").splitlines())
    elements = {line for line in said("ipset", "save").splitlines() if line.startswith("add")}
    assert {line for line in lines if line.startswith("add")} == {*map(str.rstrip, elements)}
    rules = said("iptables-legacy-save").splitlines() + said("ip6tables-legacy-save").splitlines()
    counted = (line.partition("] ")[2] for line in lines if line.startswith("["))
    assert sorted(counted) == sorted(rule for rule in rules if rule.startswith("-A"))


def test_what_was_told_of_a_kernel_says_the_same_later(mode: IpvsMode) -> None:  # noqa: ARG001
    said(*DRIFTS["scheduler"][0].split())
    now = look(EVERYTHING, SETTINGS)
    document = json.loads(json.dumps(now.document()))
    later = recalled(document, EVERYTHING, SETTINGS)
    assert (later.services, later.native()) == (now.services, now.native())
    assert later.differences(NODE, SERVICES) == (DRIFTS["scheduler"][1],)


def test_nothing_is_changed(mode: IpvsMode) -> None:  # noqa: ARG001
    before = everything()
    for only in (EVERYTHING, ONLY_PAY):
        held = look(only, SETTINGS)
        assert held.differences(NODE, {})
        held.native()
    assert everything() == before


def test_nothing_is_made_where_there_is_nothing(ipvs: Ipvs, ipset: Ipset, link: Link) -> None:
    said("ip", "link", "del", "kube-ipvs0")
    before = everything()
    assert look(EVERYTHING, SETTINGS).services == ()
    whats = [of.what for of in differences()]
    assert "link kube-ipvs0" in whats
    assert "all rules of iptables (IPv4)" in whats
    assert everything() == before
    assert (link.addresses(), ipset.names(), ipvs.servers()) == (None, set(), {})


def test_who_drains_is_no_drift(mode: IpvsMode) -> None:
    (v4, v6) = SERVICES[PAY]
    fewer = tuple(
        msgspec.structs.replace(plan, cluster=plan.cluster[:1], local=plan.local[:1])
        for plan in (v4, v6)
    )
    assert not mode.apply(Delta({PAY: fewer})).failed
    held = look(EVERYTHING, SETTINGS)
    drains = [
        real
        for service in held.services
        for frontend in service.frontends
        for server in frontend.servers
        for real in server.reals
        if real.weight == 0
    ]
    assert drains
    assert all(real.seconds_left for real in drains)
    assert held.differences(NODE, {**SERVICES, PAY: fewer}) == ()


def test_connections_are_counted_and_affinity_is_shown(mode: IpvsMode) -> None:  # noqa: ARG001
    for plan in SERVICES[DNS]:
        for endpoint in plan.cluster:
            said("ip", "address", "add", f"{endpoint.address}/32", "dev", "lo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("192.0.2.10", 0))
        client.sendto(b"?", ("10.96.0.10", 53))
    (kept,) = _dns().clients
    assert kept.address == "192.0.2.10"
    assert kept.seconds_left is not None
    assert 80 <= kept.seconds_left <= 90
    # The kernel adds its counters up every two seconds (ip_vs_est, net/netfilter/ipvs).
    until(lambda: _dns().endpoint_flows[kept.endpoint] == 1)
    told = _dns()
    assert sum(told.endpoint_flows.values()) == 1
    assert [frontend.new_flows for frontend in told.frontends] == [1]


def _dns() -> DumpedService:
    (told,) = look(Only("shop/dns"), SETTINGS).services
    return told
