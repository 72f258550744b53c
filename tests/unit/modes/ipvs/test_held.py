"""Is every drift of IPVS named with its Service, and is nothing else called one?"""

from __future__ import annotations

import json

import msgspec
import pytest

from endpoints.names import Protocol
from modes.base import IpvsSettings, ModeSettings
from modes.held import EVERYTHING, Difference, DifferenceKind, Only
from modes.ipvs.adopt import OURS
from modes.ipvs.draining import entry
from modes.ipvs.held import IpvsHeld, recalled
from modes.ipvs.ipsets import Extra, Kind
from modes.ipvs.program import bound, registered
from modes.ipvs.seen import SeenRules
from modes.ipvs.servers import FoundReal, FoundServer, ServerKey, VirtualServer
from tests.unit.modes.ipvs.damages import (
    ASKED,
    AT_DNS,
    DIFFERENT,
    DNS,
    DRIFTS,
    EXTRA,
    GONE,
    HERE,
    IDLE,
    MISSING,
    NODE,
    PAY,
    SERVICES,
    SETTINGS,
    V4,
    WEB,
    drop,
    put,
    reals,
    seen,
    told_kernel,
)
from tests.unit.modes.ipvs.fake import Kernel


@pytest.fixture
def kernel() -> Kernel:
    """One that a headgate has told of all Services."""
    return told_kernel()


def found(kernel: Kernel, only: Only = EVERYTHING) -> list[tuple[str, DifferenceKind, str]]:
    """The differences."""
    return told(IpvsHeld(seen(kernel, only), SETTINGS))


def told(held: IpvsHeld) -> list[tuple[str, DifferenceKind, str]]:
    return [msgspec.structs.astuple(one) for one in held.differences(NODE, SERVICES)]


def test_what_was_applied_is_what_is_held(kernel: Kernel) -> None:
    assert seen(kernel).found().rules_of == OURS
    for only in (EVERYTHING, *(one for of in ASKED.values() for one in of)):
        assert found(kernel, only) == []


@pytest.mark.parametrize("name", DRIFTS)
def test_a_drift_is_named_with_its_service(kernel: Kernel, name: str) -> None:
    damage, service, kind, what = DRIFTS[name]
    damage(kernel)
    assert found(kernel) == [(service, kind, what)]
    for of, ways in ASKED.items():
        for only in ways:
            assert found(kernel, only) == ([(service, kind, what)] if of == service else []), only


def test_a_service_of_which_nothing_is_there_is_one_line(kernel: Kernel) -> None:
    kernel.servers.clear()
    kernel.link.clear()
    for of in kernel.sets.values():
        of.clear()
    assert found(kernel) == [(name, MISSING, "everything of it") for name in (DNS, IDLE, PAY)]


def test_sets_that_were_flushed_leave_marks_known_by_who_answers(kernel: Kernel) -> None:
    for of in kernel.sets.values():
        of.clear()
    assert not [what for _, _, what in found(kernel) if "virtual server" in what]


def test_what_nobody_wants_is_told_where_all_is_asked_for(kernel: Kernel) -> None:
    stray = ServerKey(V4, Protocol.TCP, "10.96.7.8", 80)
    kernel.servers[stray] = FoundServer(VirtualServer(), {})
    assert found(kernel) == []  # it is somebody else's
    put(kernel, registered(stray), Extra("shop/old:http"))
    kernel.link.add("10.96.7.8")
    put(kernel, bound("10.96.7.8"))
    old = [
        ("shop/old:http", EXTRA, "10.96.7.8 on kube-ipvs0"),
        ("shop/old:http", EXTRA, "entry 10.96.7.8,tcp:80 in set KUBE-VIRTUAL-SERVERS"),
        ("shop/old:http", EXTRA, "virtual server TCP 10.96.7.8:80"),
    ]
    assert found(kernel) == old
    assert found(kernel, Only("shop/old")) == old[1:]
    assert found(kernel, Only("shop/pay")) == []


def test_who_drains_is_no_drift_until_the_deadline(kernel: Kernel) -> None:
    reals(kernel, WEB, {GONE: FoundReal(0, active=1)})
    put(kernel, entry(WEB, GONE), Extra(timeout_seconds=40))
    lingering = ServerKey(V4, Protocol.TCP, "10.96.7.9", 80)
    kernel.servers[lingering] = FoundServer(VirtualServer(), {GONE: FoundReal(0, active=1)})
    put(kernel, registered(lingering), Extra("shop/idle"))
    put(kernel, entry(lingering, GONE), Extra(timeout_seconds=40))
    assert found(kernel) == []
    drop(kernel, entry(WEB, GONE))
    late = (PAY, EXTRA, "real server 10.244.2.9:8080 of TCP 10.96.7.7:80")
    assert found(kernel) == [late]


def test_what_drains_by_a_mark_is_of_nobody_who_is_asked_for(kernel: Kernel) -> None:
    bypass = ServerKey(V4, mark=0x4B000009)
    kernel.servers[bypass] = FoundServer(VirtualServer(), {GONE: FoundReal(0, active=1)})
    put(kernel, entry(bypass, GONE), Extra(timeout_seconds=40))
    assert found(kernel) == found(kernel, Only("shop/pay")) == []


def test_a_weight_that_somebody_chose_is_no_drift(kernel: Kernel) -> None:
    reals(kernel, WEB, {HERE: FoundReal(5)})
    assert found(kernel) == []


def test_a_scheduler_that_the_kernel_lacks_is_not_asked_for(kernel: Kernel) -> None:
    wanted = {
        name: tuple(msgspec.structs.replace(plan, scheduler="lc") for plan in plans)
        for name, plans in SERVICES.items()
    }
    looked = seen(kernel)
    assert not IpvsHeld(looked, SETTINGS).differences(NODE, wanted)
    looked = msgspec.structs.replace(looked, schedulers=frozenset({"lc"}))
    (first, *_) = IpvsHeld(looked, SETTINGS).differences(NODE, wanted)
    assert first.what == (
        "virtual server UDP 10.96.0.10:53 chooses by rr, persistent for 90 s, "
        "not lc, persistent for 90 s"
    )


def test_what_is_the_same_for_all_services(kernel: Kernel) -> None:
    looked = seen(kernel)
    settings = ModeSettings(ipvs=IpvsSettings(strict_arp=True))
    loopback = "-s 127.0.0.0/8 -j RETURN"
    gone = {":KUBE-REFUSE - [0:0]", f"-A KUBE-SERVICES {loopback}"}
    lines = looked.rules.saved[V4].splitlines()
    rules = "\n".join(one for one in lines if one not in gone and "-A KUBE-REFUSE" not in one)
    looked = msgspec.structs.replace(
        looked,
        addresses=None,
        sets={name: of for name, of in looked.sets.items() if name.kind is not Kind.DRAINING},
        rules=SeenRules("nft", {V4: rules}),
        sysctls={"ipv4/vs/conntrack": "0", "ipv4/conf/all/arp_ignore": "1"},
    )
    of_all = [
        (one.kind, one.what)
        for one in IpvsHeld(looked, settings).differences(NODE, SERVICES)
        if not one.service
    ]
    assert (MISSING, "set KUBE-DRAINING") in of_all
    assert (MISSING, "link kube-ipvs0") in of_all
    assert (DIFFERENT, "net.ipv4.vs.conntrack is 0, not 1 (masquerade and its replies)") in of_all
    assert (MISSING, "net.ipv4.ip_forward, needed for packets to pods") in of_all
    assert (MISSING, "net.ipv4.conf.all.arp_announce, needed for strictARP") in of_all
    assert (MISSING, "chain KUBE-REFUSE in table filter (IPv4)") in of_all
    assert (MISSING, "all rules of iptables (IPv6)") in of_all
    assert (MISSING, f"rule -A KUBE-SERVICES {loopback} in table nat (IPv4)") in of_all
    assert not any("arp_ignore" in what for _, what in of_all)
    unread = msgspec.structs.replace(looked, rules=SeenRules(fault="there is no iptables (nft)"))
    differences = IpvsHeld(unread, settings).differences(NODE, SERVICES)
    assert Difference("", MISSING, "rules of iptables: there is no iptables (nft)") in differences


def test_what_was_told_of_a_kernel_says_the_same_later(kernel: Kernel) -> None:
    damage, service, kind, what = DRIFTS["scheduler"]
    damage(kernel)
    now = IpvsHeld(seen(kernel), SETTINGS)
    document = json.loads(json.dumps(now.document()))
    later = recalled(document)
    assert later.seen == now.seen
    assert (later.services, later.native()) == (now.services, now.native())
    assert told(later) == [(service, kind, what)]
    only = Only("shop/dns")
    asked = IpvsHeld(seen(kernel, only), SETTINGS)
    of_dns = recalled(document, only)
    assert (of_dns.services, of_dns.native()) == (asked.services, asked.native())
    assert len(of_dns.services) == 1
    assert told(of_dns) == []


@pytest.mark.parametrize("document", [{"version": 2}, {}, [], None])
def test_another_version_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match=r"was written in version \w+; this headgate reads 1$"):
        recalled(document)


def test_a_damaged_document_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be read: "):
        recalled({"version": 1})


def test_native_is_just_what_was_asked_for(kernel: Kernel) -> None:
    reals(kernel, AT_DNS, {GONE: FoundReal(0)})
    put(kernel, entry(AT_DNS, GONE), Extra(timeout_seconds=40))
    size = "hashsize 1024 maxelem 4194304"
    named = f"hash:ip,port family inet {size} comment"
    assert IpvsHeld(seen(kernel, Only("shop/dns")), SETTINGS).native() == (
        "# ipvsadm -Sn",
        "-A -u 10.96.0.10:53 -s rr -p 90",
        "-a -u 10.96.0.10:53 -r 10.244.1.2:8080 -m -w 1",
        "-a -u 10.96.0.10:53 -r 10.244.2.2:8080 -m -w 1",
        "-a -u 10.96.0.10:53 -r 10.244.2.9:8080 -m -w 0",
        "# ipset save",
        f"create KUBE-CLUSTER-IP hash:ip,port family inet {size}",
        "add KUBE-CLUSTER-IP 10.96.0.10,udp:53",
        f"create KUBE-LOOP-BACK hash:ip,port,ip family inet {size}",
        "add KUBE-LOOP-BACK 10.244.1.2,udp:8080,10.244.1.2",
        f"create KUBE-IPVS-IPS hash:ip family inet {size}",
        "add KUBE-IPVS-IPS 10.96.0.10",
        f"create KUBE-VIRTUAL-SERVERS {named}",
        'add KUBE-VIRTUAL-SERVERS 10.96.0.10,udp:53 comment "shop/dns:dns"',
        f"create KUBE-DRAINING hash:ip,port,ip family inet {size} timeout 0",
        "add KUBE-DRAINING 10.96.0.10,udp:53,10.244.2.9 timeout 40",
        "# ip",
        "ip addr add 10.96.0.10/32 dev kube-ipvs0 scope host",
    )
    everything = IpvsHeld(seen(kernel), SETTINGS).native()
    assert "-a -f 1258291201 -r 10.244.2.2:8080 -m -w 1" in everything
    assert ":KUBE-LOCAL-POLICY - [0:0]" in everything
    assert not any(line.startswith(":INPUT") for line in everything)
    assert any(line.startswith("-A INPUT ") for line in everything)
