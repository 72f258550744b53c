"""What did the operator ask for, and does it make sense?

Flags come as text; what leaves here is checked. A refusal names the flag and the value.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from endpoints.addresses import canonical, family, network
from endpoints.names import Family
from endpoints.node import DetectLocalMode, Loopback, NodeSettings
from endpoints.nodeports import ALL, PRIMARY, resolve, selectors
from endpoints.scheduling import flags as scheduler_flags
from endpoints.scheduling import scheduler
from modes.base import IpvsSettings, ModeSettings
from modes.registry import AUTO, MODES
from proxy.durations import whole_seconds
from proxy.node import host_name

_T = TypeVar("_T")

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_INTERFACE = re.compile(r"[^\s/]{1,15}")
_NODE_NAME_LENGTH = 253
_PORT = r"([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])"
_VARIANTS = ("auto", "legacy", "nft")
_MARK_BITS = range(32)
_IPVS_TIMEOUTS = range((2**31 - 1) // 1000 + 1)
"""In seconds: what the kernel takes (INT_MAX / HZ), whatever its HZ is."""
_DRAIN_SECONDS = range(7 * 86400 + 1)
_METRICS_PORT = 10249
_LISTENER = re.compile(rf"(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[\d.]+)):(?P<port>{_PORT})")
_SERVER = re.compile(rf"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]+)(:{_PORT})?(/\S*)?")


class ConfigError(Exception):
    """A flag's value cannot be used."""

    def __init__(self, flag: str, value: str, reason: str) -> None:
        super().__init__(": ".join(part for part in (flag, value, reason) if part))


class NodePorts(msgspec.Struct, frozen=True):
    """What was said about where NodePorts answer; what follows from it depends on the mode."""

    chosen: tuple[str, ...] = ()
    """Selectors; empty: what the mode does of itself."""
    localhost: bool = True
    """iptables: on 127.0.0.1 too, where the selectors hold it."""


class Listener(msgspec.Struct, frozen=True):
    """Where to listen for TCP connections."""

    address: str
    port: int


class Config(msgspec.Struct, frozen=True):
    """What `headgate run` needs to know."""

    mode: str
    """`auto` or a name of `modes.registry`."""
    node: NodeSettings
    """Without what depends on the mode: see `on_mode`."""
    node_ports: NodePorts = NodePorts()
    of_modes: ModeSettings = ModeSettings()
    metrics: Listener | None = Listener("127.0.0.1", _METRICS_PORT)
    manifests: tuple[Path, ...] = ()
    kubeconfig: str = ""
    master: str = ""
    once: bool = False
    verbosity: int = 0


def config(flags: argparse.Namespace) -> Config:
    """The configuration of a run. Raises ConfigError."""
    manifests = paths(flags.manifests)
    for flag in ("kubeconfig", "master"):
        if manifests and getattr(flags, flag):
            reason = "the cluster comes from --manifests already; give one of the two"
            raise ConfigError(f"--{flag}", getattr(flags, flag), reason)
    once = boolean("--once", flags.once)
    for path in manifests if once else ():
        if not path.exists():
            raise ConfigError("--manifests", str(path), "does not exist")
    return Config(
        mode=mode(flags.mode),
        node=node_settings(flags, "--hostname-override", flags.hostname_override),
        node_ports=node_ports(flags),
        of_modes=ModeSettings(
            masquerade_bit(flags), _variant(flags.iptables_variant), ipvs_settings(flags)
        ),
        metrics=_listener("--metrics-bind-address", flags.metrics_bind_address, _METRICS_PORT),
        manifests=manifests,
        kubeconfig=flags.kubeconfig,
        master=_url("--master", flags.master),
        once=once,
        verbosity=_verbosity(flags.v),
    )


def node_settings(flags: argparse.Namespace, name_flag: str, name: str) -> NodeSettings:
    """What the flags say about the node, whatever the mode. Raises ConfigError."""
    detect = _detect_local_mode(flags)
    return NodeSettings(
        name=_node_name(name_flag, name),
        detect_local_mode=detect,
        cluster_cidrs=_cluster_cidrs(flags.cluster_cidr),
        pod_bridge_interface=_interface("--pod-bridge-interface", flags.pod_bridge_interface),
        pod_interface_name_prefix=_interface(
            "--pod-interface-name-prefix", flags.pod_interface_name_prefix
        ),
        masquerade_all=boolean("--masquerade-all", flags.masquerade_all),
    )


def node_ports(flags: argparse.Namespace) -> NodePorts:
    """What the flags say about NodePorts. Raises ConfigError."""
    return NodePorts(
        _node_port_addresses(flags.nodeport_addresses),
        boolean("--iptables-localhost-nodeports", flags.iptables_localhost_nodeports),
    )


def on_mode(settings: NodeSettings, said: NodePorts, mode: str) -> NodeSettings:
    """The node's settings, with what a mode makes of NodePorts (REFERENCE A.2).

    Of itself the nftables mode serves the node's primary addresses, as kube-proxy's does, and the
    others serve all, which in iptables mode holds 127.0.0.1. The IPVS mode, as kube-proxy's, never
    serves loopback addresses; and there the node holds the addresses of Services.
    """
    if mode == "nftables":
        chosen, loopback = said.chosen or (PRIMARY,), Loopback.BY_NAME
    else:
        chosen = said.chosen or (ALL,)
        in_range = said.localhost and mode == "iptables"
        loopback = Loopback.IN_RANGE if in_range else Loopback.NEVER
    return msgspec.structs.replace(
        settings,
        node_port_addresses=chosen,
        loopback=loopback,
        holds_addresses=mode == "ipvs",
    )


def asks_for_localhost(said: NodePorts) -> bool:
    """Whether NodePorts shall answer on 127.0.0.1 by name, and not just by a range around it."""
    return bool(said.chosen and resolve(said.chosen, Family.IPV4, (), None).addresses)


def masquerade_bit(flags: argparse.Namespace) -> int:
    """The bit of the packet mark that asks for masquerade. Raises ConfigError."""
    text: str = flags.iptables_masquerade_bit
    if not (text.isascii() and text.isdigit()) or int(text) not in _MARK_BITS:
        raise ConfigError("--iptables-masquerade-bit", text, "must be a number, 0 to 31")
    return int(text)


def ipvs_settings(flags: argparse.Namespace) -> IpvsSettings:
    """What the flags say about the IPVS mode. Raises ConfigError."""
    wanted: str = flags.ipvs_scheduler
    return IpvsSettings(
        scheduler=_parsed("--ipvs-scheduler", wanted, scheduler) if wanted else "rr",
        scheduler_flags=_parsed(
            "--ipvs-scheduler-flags", flags.ipvs_scheduler_flags, scheduler_flags
        ),
        exclude_cidrs=_exclude_cidrs(flags.ipvs_exclude_cidrs),
        strict_arp=boolean("--ipvs-strict-arp", flags.ipvs_strict_arp),
        tcp_timeout_seconds=_ipvs_timeout("--ipvs-tcp-timeout", flags.ipvs_tcp_timeout),
        tcpfin_timeout_seconds=_ipvs_timeout("--ipvs-tcpfin-timeout", flags.ipvs_tcpfin_timeout),
        udp_timeout_seconds=_ipvs_timeout("--ipvs-udp-timeout", flags.ipvs_udp_timeout),
        drain_seconds=_drain_seconds(flags.ipvs_drain_seconds),
    )


def mode(name: str) -> str:
    """A mode's name, or `auto`; kube-proxy spells the latter as nothing. Raises ConfigError."""
    names = (AUTO, *MODES)
    if name and name not in names:
        raise ConfigError("--mode", name, f"must be one of {', '.join(names)}")
    return name or AUTO


def boolean(flag: str, text: str) -> bool:
    """A boolean in the spellings that Go's flags take. Raises ConfigError."""
    if text not in _TRUE | _FALSE:
        raise ConfigError(flag, text, "must be true or false")
    return text in _TRUE


def paths(texts: Iterable[str]) -> tuple[Path, ...]:
    """Paths of manifests, each once. Raises ConfigError for an empty one."""
    for text in texts:
        if not text:
            raise ConfigError("--manifests", '""', "must be a file or a folder")
    return tuple(dict.fromkeys(Path(text) for text in texts))


def _node_name(flag: str, name: str) -> str:
    found = host_name(name)
    if len(found) > _NODE_NAME_LENGTH or not _NODE_NAME.fullmatch(found):
        raise ConfigError(flag, name or found, "is no name of a Node (RFC 1123 subdomain)")
    return found


def _detect_local_mode(flags: argparse.Namespace) -> DetectLocalMode:
    text = flags.detect_local_mode
    names = [str(member) for member in DetectLocalMode]
    if text and text not in names:
        raise ConfigError("--detect-local-mode", text, f"must be one of {', '.join(names)}")
    chosen = DetectLocalMode(text or DetectLocalMode.CLUSTER_CIDR)
    companion = {
        DetectLocalMode.BRIDGE_INTERFACE: ("--pod-bridge-interface", flags.pod_bridge_interface),
        DetectLocalMode.INTERFACE_NAME_PREFIX: (
            "--pod-interface-name-prefix",
            flags.pod_interface_name_prefix,
        ),
    }.get(chosen)
    if companion and not companion[1]:
        raise ConfigError(companion[0], "", f"is required by --detect-local-mode {chosen}")
    return chosen


def _cluster_cidrs(text: str) -> tuple[str, ...]:
    cidrs = tuple(cidr.strip() for cidr in text.split(",")) if text else ()
    seen: set[Family] = set()
    for cidr in cidrs:
        if not _is_cidr(cidr):
            raise ConfigError("--cluster-cidr", cidr or '""', "is no CIDR")
        if family(cidr) in seen:
            raise ConfigError("--cluster-cidr", text, f"holds two CIDRs of {family(cidr)}")
        seen.add(family(cidr))
    return cidrs


def _is_cidr(text: str) -> bool:
    try:
        network(text)
    except ValueError:
        return False
    return "/" in text


def _interface(flag: str, name: str) -> str:
    if name and not _INTERFACE.fullmatch(name):
        raise ConfigError(flag, name, "is no interface name (1 to 15 characters, no / or space)")
    return name


def _node_port_addresses(texts: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(part for text in texts for part in text.split(",") if part)
    try:
        return selectors(chosen)
    except ValueError as error:
        reason = str(error).removeprefix("nodePortAddresses: ")
        raise ConfigError("--nodeport-addresses", "", reason) from error


def _variant(text: str) -> str:
    if text not in _VARIANTS:
        raise ConfigError("--iptables-variant", text, f"must be one of {', '.join(_VARIANTS)}")
    return text


def _parsed(flag: str, text: str, parse: Callable[[str], _T]) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(flag, text, str(error)) from error


def _exclude_cidrs(texts: Iterable[str]) -> tuple[str, ...]:
    cidrs = [part.strip() for text in texts for part in text.split(",") if part]
    for cidr in cidrs:
        if not _is_cidr(cidr):
            raise ConfigError("--ipvs-exclude-cidrs", cidr or '""', "is no CIDR")
    return tuple(dict.fromkeys(str(network(cidr)) for cidr in cidrs))


def _ipvs_timeout(flag: str, text: str) -> int:
    seconds = _parsed(flag, text, whole_seconds)
    if seconds not in _IPVS_TIMEOUTS:
        raise ConfigError(flag, text, f"must be {_IPVS_TIMEOUTS[-1]}s or less")
    return seconds


def _drain_seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) not in _DRAIN_SECONDS:
        reason = f"must be a number of seconds, 0 to {_DRAIN_SECONDS[-1]}"
        raise ConfigError("--ipvs-drain-seconds", text, reason)
    return int(text)


def _listener(flag: str, text: str, port: int) -> Listener | None:
    """Where to listen; None for an empty text. Without a port, as kube-proxy has it, the usual."""
    if not text:
        return None
    parts = _LISTENER.fullmatch(text)
    address = (parts["v6"] or parts["v4"]) if parts else text
    try:
        return Listener(canonical(address), int(parts["port"]) if parts else port)
    except ValueError as error:
        raise ConfigError(flag, text, "must be IP:PORT ([::1]:10249 in IPv6), or empty") from error


def _url(flag: str, text: str) -> str:
    if text and not _SERVER.fullmatch(text):
        raise ConfigError(flag, text, "must be the URL of a server: https://HOST[:PORT]")
    return text


def _verbosity(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ConfigError("-v", text, "must be a number, 0 or more")
    return int(text)
