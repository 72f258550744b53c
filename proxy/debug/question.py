"""Which packet does the operator mean? Pure.

What is left unsaid is assumed, and every assumption is said.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from endpoints.addresses import canonical, contains, family, network
from endpoints.explain import Hook, Packet
from endpoints.names import Family, Protocol
from endpoints.node import DetectLocalMode, NodeView
from endpoints.nodeports import is_loopback
from endpoints.plan import Frontend, FrontendKind, ServicePlan
from modes.held import Only
from proxy.settings.refusal import ConfigError

_TARGET = re.compile(
    r"(?:\[(?P<v6>[^]]*)\]|(?P<v4>[^:]*)):(?P<port>[0-9]{1,9})(?:/(?P<protocol>[A-Za-z]+))?"
)
_PART = r"[-.A-Za-z0-9]+"
_NAME = re.compile(rf"{_PART}/{_PART}(:{_PART})?")
_PORTS = range(1, 65536)
_OUTSIDE = {Family.IPV4: "203.0.113.1", Family.IPV6: "2001:db8::1"}
"""Addresses of documentation (RFC 5737, RFC 3849): nobody's."""


class Target(msgspec.Struct, frozen=True):
    """Where the packet goes."""

    address: str
    port: int
    protocol: Protocol


class Sender(StrEnum):
    """Who may be named by a word instead of an address."""

    POD = "pod"
    """A pod of this node that is no endpoint of the Service, as far as there is one."""
    NODE = "node"
    OUTSIDE = "outside"


class Question(msgspec.Struct, frozen=True):
    """A packet, and what was assumed of it, in words."""

    packet: Packet
    assumed: str = ""


def subject(text: str) -> Only:
    """`shop/pay`, `shop/pay:http`, a target, or nothing: everything. Raises ConfigError."""
    if not text or _NAME.fullmatch(text):
        return Only(service=text)
    if not _TARGET.fullmatch(text):
        reason = "must be namespace/name, namespace/name:port or ADDR:PORT[/PROTO]"
        raise ConfigError("SERVICE", text, reason)
    aim = target(text)
    return Only(address=aim.address, port=aim.port, protocol=aim.protocol)


def target(text: str) -> Target:
    """`10.96.7.7:80`, `10.96.0.10:53/udp`, `[fd00::1]:80`. Raises ConfigError."""
    name = "ADDR:PORT[/PROTO]"
    parts = _TARGET.fullmatch(text)
    if parts is None:
        hint = " (IPv6 is written [fd00::1]:80)" if text.count(":") > 1 else ""
        raise ConfigError(name, text, f"must be an address and a port{hint}")
    protocol = (parts["protocol"] or Protocol.TCP).upper()
    if protocol not in set(Protocol):
        raise ConfigError(name, text, f"protocol must be one of {', '.join(Protocol)}")
    if int(parts["port"]) not in _PORTS:
        raise ConfigError(name, text, "port must be 1-65535")
    bare = parts["v6"] if parts["v6"] is not None else parts["v4"]
    return Target(address(name, bare), int(parts["port"]), Protocol(protocol))


def address(flag: str, text: str) -> str:
    """The canonical text of an address. Raises ConfigError."""
    try:
        return canonical(text)
    except ValueError as error:
        raise ConfigError(flag, text or '""', "is no IP address") from error


def question(
    aim: Target,
    source: str,
    via: str,
    interface: str,
    node: NodeView,
    plans: Sequence[ServicePlan],
) -> Question:
    """The packet to this target. Empty texts are filled in. Raises ConfigError."""
    if via and via not in set(Hook):
        raise ConfigError("--via", via, f"must be one of {', '.join(Hook)}")
    assumed = ""
    if not source:
        source, who = _sender(aim, via, node, plans)
        assumed = f"Without --from, the source is assumed: {source}, {who}."
    elif source in set(Sender):
        said = source
        source, who = _standing_for(Sender(source), aim, node, plans)
        assumed = f"--from {said} is taken to be {source}, {who}."
    elif family(source := address("--from", source)) is not (of := family(aim.address)):
        raise ConfigError("--from", source, f"is {family(source)}, but {aim.address} is {of}")
    hook = Hook(via) if via else Hook.OUTPUT if source in node.addresses else Hook.PREROUTING
    arrival = None
    if hook is Hook.PREROUTING:
        arrival = interface or _interface(source, node, plans)
    packet = Packet(source, aim.address, aim.port, aim.protocol, hook, arrival)
    return Question(packet, assumed)


def _sender(aim: Target, via: str, node: NodeView, plans: Sequence[ServicePlan]) -> tuple[str, str]:
    """Who would send this? Pods use cluster IPs, clients outside use the other addresses."""
    if via == Hook.OUTPUT:
        return _standing_for(Sender.NODE, aim, node, plans)
    used_by_pods = any(_is_cluster_ip(aim, row) for plan in plans for row in plan.frontends)
    return _standing_for(Sender.POD if used_by_pods else Sender.OUTSIDE, aim, node, plans)


def _standing_for(
    sender: Sender, aim: Target, node: NodeView, plans: Sequence[ServicePlan]
) -> tuple[str, str]:
    """An address of such a sender, and who that is."""
    of = family(aim.address)
    if sender is Sender.NODE:
        # What it sends to a Service comes from the address of its default route, as a rule.
        mine = sorted(
            (own for own in node.addresses if family(own) is of and not is_loopback(own)),
            key=lambda own: (own not in node.primary, own),
        )
        loopback = "127.0.0.1" if of is Family.IPV4 else "::1"
        return (mine[0] if mine else loopback), "this node itself"
    if sender is Sender.POD:
        if pods := sorted(_local_pods(plans, of) - _local_pods(_aimed_at(aim, plans), of)):
            return pods[0], "a pod of this node"
        for cidr in node.local_traffic.cidrs:
            if family(cidr) is of:
                here = _of_this_node(cidr, node)
                # The last address but one: the first ones are bridges and real pods.
                return _last(here), f"standing for a pod of this node in {here}"
        unknown = "nothing here says which addresses pods have"
        return _OUTSIDE[of], f"a client outside the cluster, as {unknown}"
    return _OUTSIDE[of], "a client outside the cluster"


def _is_cluster_ip(aim: Target, frontend: Frontend) -> bool:
    return frontend.kind is FrontendKind.CLUSTER_IP and frontend.address == aim.address


def _aimed_at(aim: Target, plans: Iterable[ServicePlan]) -> list[ServicePlan]:
    return [plan for plan in plans if any(_is_cluster_ip(aim, f) for f in plan.frontends)]


def _local_pods(plans: Iterable[ServicePlan], of: Family) -> set[str]:
    """Addresses of this node's pods, as far as they are endpoints."""
    return {
        endpoint.address
        for plan in plans
        if plan.family is of
        for endpoint in (*plan.cluster, *plan.local)
        if endpoint.is_local
    }


def _of_this_node(cidr: str, node: NodeView) -> str:
    """The part of a range of pods that is this node's, if a bridge has an address there.

    As nearly every network plug-in gives them out: /24 and /64.
    """
    of = family(cidr)
    bridges = sorted(own for own in node.addresses if family(own) is of and contains(cidr, own))
    size = 24 if of is Family.IPV4 else 64
    if not bridges or network(cidr).prefixlen >= size:
        return cidr
    return str(ipaddress.ip_network(f"{bridges[0]}/{size}", strict=False))


def _last(cidr: str) -> str:
    found = network(cidr)
    return str(ipaddress.ip_address(int(found.broadcast_address) - (found.num_addresses > 1)))


def _interface(source: str, node: NodeView, plans: Sequence[ServicePlan]) -> str | None:
    """Where a packet of this source arrives, if pods are told from others by that."""
    local = node.local_traffic
    if source not in _local_pods(plans, family(source)):
        return None
    suffix = "0" if local.mode is DetectLocalMode.INTERFACE_NAME_PREFIX else ""
    return f"{local.interface}{suffix}" if local.interface else None
