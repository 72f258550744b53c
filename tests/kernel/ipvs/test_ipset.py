"""Do sets hold what they were told, as `ipset` reads them, and do we read what `ipset` told them?"""

from __future__ import annotations

import re

import pytest

from endpoints.names import Family, Protocol
from modes.base import KernelFault
from modes.ipvs.channel import AT_ONCE
from modes.ipvs.ipsets import (
    PLAIN,
    Element,
    Entry,
    Extra,
    FoundSet,
    Kind,
    SetChange,
    SetName,
    SetSpec,
    SetVerb,
    Type,
    at,
    fits,
    spec,
)
from modes.ipvs.kernel import Ipset
from tests.kernel.ipvs.programs import said

V4, V6 = Family.IPV4, Family.IPV6
TCP = Protocol.TCP
CLUSTER_IP, SERVERS = SetName(Kind.CLUSTER_IP, V4), SetName(Kind.VIRTUAL_SERVERS, V4)
WEB, OTHER = at("10.96.7.7", 80, TCP), at("10.96.7.8", 80, TCP)
CHOSEN_BY_THE_KERNEL = re.compile(r" bucketsize \d+ initval \S+")


def saved(*name: str) -> list[str]:
    lines = said("ipset", "save", "-sorted", *name).splitlines()
    return [CHOSEN_BY_THE_KERNEL.sub("", line) for line in lines]


def add(name: SetName, element: Element, extra: Extra = PLAIN) -> SetChange:
    return SetChange(SetVerb.ADD, Entry(name, element), extra)


def delete(name: SetName, element: Element) -> SetChange:
    return SetChange(SetVerb.DELETE, Entry(name, element))


def has(name: SetName, elements: dict[Element, Extra], ipset: Ipset) -> bool:
    found = ipset.find(name)
    return found is not None and fits(found.spec, name) and found.elements == elements


@pytest.mark.parametrize(
    ("name", "element", "extra", "lines"),
    [
        (
            SERVERS,
            WEB,
            Extra("shop/pay:http"),
            [
                "create KUBE-VIRTUAL-SERVERS hash:ip,port family inet hashsize 1024 maxelem 4194304 comment",
                'add KUBE-VIRTUAL-SERVERS 10.96.7.7,tcp:80 comment "shop/pay:http"',
            ],
        ),
        (
            SetName(Kind.LOCAL_BYPASS, V6),
            at("fd00::7", 53, Protocol.UDP),
            Extra("a/b", 0x4B000001),
            [
                "create KUBE-6-LOCAL-BYPASS hash:ip,port family inet6 hashsize 1024 maxelem 4194304 comment skbinfo",
                'add KUBE-6-LOCAL-BYPASS fd00::7,udp:53 comment "a/b" skbmark 0x4b000001',
            ],
        ),
        (
            SetName(Kind.LOAD_BALANCER_SOURCE_CIDR, V4),
            at("198.51.100.9", 80, Protocol.SCTP, "10.0.0.0/8"),
            PLAIN,
            [
                "create KUBE-LOAD-BALANCER-SOURCE-CIDR hash:ip,port,net family inet hashsize 1024 maxelem 4194304",
                "add KUBE-LOAD-BALANCER-SOURCE-CIDR 198.51.100.9,sctp:80,10.0.0.0/8",
            ],
        ),
        (
            SetName(Kind.LOAD_BALANCER_SOURCE_CIDR, V6),
            at("fd00::7", 80, TCP, "fd00:9::1/128"),
            PLAIN,
            [
                "create KUBE-6-LOAD-BALANCER-SOURCE-CID hash:ip,port,net family inet6 hashsize 1024 maxelem 4194304",
                "add KUBE-6-LOAD-BALANCER-SOURCE-CID fd00::7,tcp:80,fd00:9::1",
            ],
        ),
        (
            SetName(Kind.LOOP_BACK, V6),
            at("fd00::2", 80, TCP, "fd00::2"),
            PLAIN,
            [
                "create KUBE-6-LOOP-BACK hash:ip,port,ip family inet6 hashsize 1024 maxelem 4194304",
                "add KUBE-6-LOOP-BACK fd00::2,tcp:80,fd00::2",
            ],
        ),
        (
            SetName(Kind.IPVS_IPS, V4),
            Element("10.96.7.7"),
            PLAIN,
            [
                "create KUBE-IPVS-IPS hash:ip family inet hashsize 1024 maxelem 4194304",
                "add KUBE-IPVS-IPS 10.96.7.7",
            ],
        ),
        (
            SetName(Kind.NODE_PORT_UDP, V6),
            Element(port=30053),
            PLAIN,
            [
                "create KUBE-6-NODE-PORT-UDP bitmap:port range 0-65535",
                "add KUBE-6-NODE-PORT-UDP 30053",
            ],
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, SetName) else "",
)
def test_what_was_told_is_what_ipset_saves(
    ipset: Ipset, name: SetName, element: Element, extra: Extra, lines: list[str]
) -> None:
    ipset.create(name, spec(name))
    assert ipset.change([add(name, element, extra)]) == []
    assert saved(str(name)) == lines
    assert has(name, {element: extra}, ipset)
    assert ipset.change([delete(name, element)]) == []
    assert has(name, {}, ipset)


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("kind", Kind)
def test_every_set_can_be_made_and_found_again(ipset: Ipset, kind: Kind, family: Family) -> None:
    name = SetName(kind, family)
    assert ipset.find(name) is None
    ipset.create(name, spec(name, 70_000))
    found = ipset.find(name)
    assert found == FoundSet(spec(name, 70_000), {})
    assert ipset.names() == {str(name)}
    assert ipset.destroy(name)
    assert ipset.names() == set()


def test_a_name_is_taken_once(ipset: Ipset) -> None:
    ipset.create(CLUSTER_IP, spec(CLUSTER_IP))
    with pytest.raises(
        KernelFault, match=r"KUBE-CLUSTER-IP cannot be made: File exists \(EEXIST\)"
    ):
        ipset.create(CLUSTER_IP, spec(CLUSTER_IP))


def test_what_is_added_again_carries_what_was_said_last(ipset: Ipset) -> None:
    name = SetName(Kind.LOCAL_BYPASS, V4)
    ipset.create(name, spec(name))
    assert ipset.change([add(name, WEB, Extra("old", 1)), add(name, WEB, Extra("new", 2))]) == []
    assert has(name, {WEB: Extra("new", 2)}, ipset)


def test_what_is_not_there_can_be_deleted(ipset: Ipset) -> None:
    ipset.create(CLUSTER_IP, spec(CLUSTER_IP))
    assert ipset.change([delete(CLUSTER_IP, WEB)]) == []


def test_deadlines_run(ipset: Ipset) -> None:
    name = SetName(Kind.DRAINING, V4)
    ipset.create(name, spec(name))
    leaving, staying = at("10.96.7.7", 80, TCP, "10.244.1.2"), at("75.0.0.1", 0, TCP, "10.244.1.2")
    assert ipset.change([add(name, leaving, Extra(timeout_seconds=900)), add(name, staying)]) == []
    found = ipset.find(name)
    assert found is not None
    assert found.elements[staying] == PLAIN
    assert 800 < found.elements[leaving].timeout_seconds <= 900


def test_every_refusal_is_of_its_change_and_stops_nothing(ipset: Ipset) -> None:
    ipset.create(CLUSTER_IP, spec(CLUSTER_IP))
    wrong = [0, AT_ONCE - 1, AT_ONCE, 2 * AT_ONCE - 1]
    changes = [add(CLUSTER_IP, at("10.96.7.7", n, TCP)) for n in range(2 * AT_ONCE)]
    for place in wrong:
        changes[place] = add(CLUSTER_IP, WEB, Extra("no comments here"))
    refusals = ipset.change(changes)
    assert [refusal.index for refusal in refusals] == wrong
    assert {str(refusal) for refusal in refusals} == {
        "the set has no comments (ipset error 4112)",
    }
    found = ipset.find(CLUSTER_IP)
    assert found is not None
    assert len(found.elements) == 2 * AT_ONCE - len(wrong)


def test_a_change_of_a_set_that_is_not_there_is_refused(ipset: Ipset) -> None:
    ipset.create(CLUSTER_IP, spec(CLUSTER_IP))
    [refusal] = ipset.change([add(SERVERS, WEB), add(CLUSTER_IP, WEB)])
    assert (refusal.index, str(refusal)) == (0, "No such file or directory (ENOENT)")
    assert has(CLUSTER_IP, {WEB: PLAIN}, ipset)


def test_what_others_made_can_be_read(ipset: Ipset) -> None:
    said("ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port")
    said("ipset", "add", "KUBE-CLUSTER-IP", "10.96.7.7,80")
    assert ipset.find(CLUSTER_IP) == FoundSet(SetSpec(Type.IP_PORT, V4, 1024, 65536), {WEB: PLAIN})


@pytest.mark.parametrize(
    "made",
    [
        "hash:net",
        "list:set",
        "hash:ip,port counters",
        "hash:ip,port timeout 5",
        "hash:ip netmask 24",
    ],
)
def test_a_set_unlike_ours_is_replaced(ipset: Ipset, made: str) -> None:
    said("ipset", "create", "KUBE-CLUSTER-IP", *made.split())
    assert ipset.find(CLUSTER_IP) == FoundSet(None, {})
    assert ipset.replace(CLUSTER_IP, spec(CLUSTER_IP), {WEB: PLAIN}) == []
    assert has(CLUSTER_IP, {WEB: PLAIN}, ipset)
    assert ipset.names() == {"KUBE-CLUSTER-IP"}


def test_a_set_with_an_element_unlike_ours_is_as_good_as_foreign(ipset: Ipset) -> None:
    said("ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port", "maxelem", "4194304")
    said("ipset", "add", "KUBE-CLUSTER-IP", "10.96.7.7,icmp:echo-request")
    assert ipset.find(CLUSTER_IP) == FoundSet(None, {})


def test_a_set_is_replaced_under_the_rules_that_use_it(ipset: Ipset) -> None:
    """And what an earlier try left behind is no obstacle."""
    said("ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port")
    rule = ["INPUT", "-m", "set", "--match-set", "KUBE-CLUSTER-IP", "dst,dst", "-j", "ACCEPT"]
    said("iptables-legacy", "-A", *rule)
    said("ipset", "create", Ipset.TEMPORARY, "hash:net")
    assert ipset.replace(CLUSTER_IP, spec(CLUSTER_IP), {WEB: PLAIN}) == []
    assert has(CLUSTER_IP, {WEB: PLAIN}, ipset)
    said("iptables-legacy", "-C", *rule)
    assert not ipset.destroy(CLUSTER_IP)
    said("iptables-legacy", "-D", *rule)
    assert ipset.destroy(CLUSTER_IP)
    assert ipset.names() == set()
    assert ipset.destroy(CLUSTER_IP)


def test_a_set_of_another_type_that_rules_use_cannot_be_replaced(ipset: Ipset) -> None:
    said("ipset", "create", "KUBE-CLUSTER-IP", "hash:ip")
    rule = ["INPUT", "-m", "set", "--match-set", "KUBE-CLUSTER-IP", "src", "-j", "ACCEPT"]
    said("iptables-legacy", "-A", *rule)
    with pytest.raises(
        KernelFault, match="KUBE-CLUSTER-IP cannot be replaced: the sets are of different"
    ):
        ipset.replace(CLUSTER_IP, spec(CLUSTER_IP), {WEB: PLAIN})
    assert ipset.names() == {"KUBE-CLUSTER-IP"}


def test_what_is_refused_is_not_in_what_replaces(ipset: Ipset) -> None:
    wanted = {WEB: PLAIN, OTHER: Extra("no comments here"), at("10.96.7.9", 80, TCP): PLAIN}
    [refusal] = ipset.replace(CLUSTER_IP, spec(CLUSTER_IP), wanted)
    assert refusal.index == 1
    del wanted[OTHER]
    assert has(CLUSTER_IP, wanted, ipset)


def test_seventy_thousand_elements_fit(ipset: Ipset) -> None:
    """Of the sets of kube-proxy 65,536 did (#129389)."""
    elements = {
        at(f"10.96.{n // 256 % 256}.{n % 256}", 80 + n // 65536, TCP): Extra(f"ns-{n}/web:http")
        for n in range(70_000)
    }
    assert len(elements) == 70_000
    assert ipset.replace(SERVERS, spec(SERVERS, len(elements)), elements) == []
    assert has(SERVERS, elements, ipset)
    sends = ipset.sends
    assert ipset.change([delete(SERVERS, element) for element in elements]) == []
    assert ipset.sends - sends == -(-70_000 // AT_ONCE)
    assert has(SERVERS, {}, ipset)
