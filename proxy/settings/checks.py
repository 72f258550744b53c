"""Does a value make sense? Raises ConfigError that names flag or field, value and reason."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from endpoints.addresses import canonical, family, network
from endpoints.names import Family
from endpoints.node import DetectLocalMode
from endpoints.nodeports import selectors
from endpoints.scheduling import flags as scheduler_flags
from endpoints.scheduling import scheduler
from modes.base import IpvsSettings
from modes.registry import AUTO, MODES
from proxy.settings import durations
from proxy.settings.refusal import ConfigError
from proxy.settings.settings import Settings

_T = TypeVar("_T")

_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_INTERFACE = re.compile(r"[^\s/]{1,15}")
_NODE_NAME_LENGTH = 253
_PORT = r"([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])"
_LISTENER = re.compile(rf"(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[\d.]+)):(?P<port>0|{_PORT})")
_SERVER = re.compile(rf"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]+)(:{_PORT})?(/\S*)?")
_VARIANTS = ("auto", "legacy", "nft")
_LOG_FORMATS = ("text", "json")
_IPVS_TIMEOUTS = range((2**31 - 1) // 1000 + 1)
"""In seconds: what the kernel takes (INT_MAX / HZ), whatever its HZ is."""
_DRAIN_SECONDS = range(7 * 86400 + 1)
_DEFAULT_SCHEDULER = "rr"
_GONE = "userspace"
_MOST_PORT = 65535


def mode(name: str, origin: str = "--mode") -> str:
    """A mode's name, or `auto`; kube-proxy spells the latter as nothing."""
    names = (AUTO, *MODES)
    if name == _GONE:
        raise ConfigError(origin, name, "gone since Kubernetes 1.26; use nftables or iptables")
    if name and name not in names:
        raise ConfigError(origin, name, f"must be one of {', '.join(names)}")
    return name or AUTO


def host_name(override: str) -> str:
    """The name of this node's Node object: the override, or the host's name, in lower case."""
    return (override or os.uname().nodename).strip().lower()


def node_name(origin: str, name: str) -> str:
    """The name of a Node; without one, the host's."""
    found = host_name(name)
    if len(found) > _NODE_NAME_LENGTH or not _NODE_NAME.fullmatch(found):
        raise ConfigError(origin, name or found, "is no name of a Node (RFC 1123 subdomain)")
    return found


def paths(texts: Iterable[str]) -> tuple[Path, ...]:
    """Paths of manifests, each once."""
    for text in texts:
        if not text:
            raise ConfigError("--manifests", '""', "must be a file or a folder")
    return tuple(dict.fromkeys(Path(text) for text in texts))


def detect_local_mode(settings: Settings) -> DetectLocalMode:
    """How local pods are told from others; what a way needs besides must be there."""
    text = settings.text("detectLocalMode")
    names = [str(member) for member in DetectLocalMode]
    if text and text not in names:
        raise settings.refusal("detectLocalMode", f"must be one of {', '.join(names)}")
    chosen = DetectLocalMode(text or DetectLocalMode.CLUSTER_CIDR)
    companion = {
        DetectLocalMode.BRIDGE_INTERFACE: "detectLocal.bridgeInterface",
        DetectLocalMode.INTERFACE_NAME_PREFIX: "detectLocal.interfaceNamePrefix",
    }.get(chosen)
    if companion and not settings.text(companion):
        way = f"{settings.origin('detectLocalMode')} {chosen}"
        raise settings.refusal(companion, f"is required by {way}")
    return chosen


def cluster_cidrs(settings: Settings) -> tuple[str, ...]:
    """The networks of pods, at most one of each family."""
    text, origin = settings.text("clusterCIDR"), settings.origin("clusterCIDR")
    cidrs = tuple(cidr.strip() for cidr in text.split(",")) if text else ()
    seen: set[Family] = set()
    for cidr in cidrs:
        if not _is_cidr(cidr):
            raise ConfigError(origin, cidr or '""', "is no CIDR")
        if family(cidr) in seen:
            raise ConfigError(origin, text, f"holds two CIDRs of {family(cidr)}")
        seen.add(family(cidr))
    return cidrs


def interface(settings: Settings, key: str) -> str:
    """The name of an interface, or its beginning; empty for none."""
    name = settings.text(key)
    if name and not _INTERFACE.fullmatch(name):
        raise settings.refusal(key, "is no interface name (1 to 15 characters, no / or space)")
    return name


def node_port_addresses(settings: Settings) -> tuple[str, ...]:
    """Where NodePorts answer, in canonical form."""
    try:
        return selectors(settings.texts("nodePortAddresses"))
    except ValueError as error:
        reason = str(error).removeprefix("nodePortAddresses: ")
        raise ConfigError(settings.origin("nodePortAddresses"), "", reason) from error


def within(settings: Settings, key: str, least: int, most: int | None = None) -> int:
    """An integer from `least` to `most`."""
    value = settings.whole(key)
    if value < least or (most is not None and value > most):
        limits = f"{least} or more" if most is None else f"{least} to {most}"
        raise settings.refusal(key, f"must be a number, {limits}")
    return value


def seconds(settings: Settings, key: str) -> int:
    """A duration of whole seconds, none below zero."""
    return _checked(settings, key, lambda: durations.seconds(settings.whole(key)))


def period(settings: Settings, key: str) -> float:
    """The seconds of a duration above zero."""
    if settings.whole(key) <= 0:
        raise settings.refusal(key, "must be above zero")
    return settings.whole(key) / durations.SECOND


def sync_periods(settings: Settings, longest: str, least: str) -> tuple[float, float]:
    """The seconds between syncs: at most, at least."""
    most = period(settings, longest)
    if not 0 <= settings.whole(least) <= settings.whole(longest):
        reason = f"must be from 0s to {settings.origin(longest)} ({most:g}s)"
        raise settings.refusal(least, reason)
    return most, settings.whole(least) / durations.SECOND


def ipvs(settings: Settings) -> IpvsSettings:
    """What was said about the IPVS mode."""
    wanted, flags = settings.text("ipvs.scheduler"), settings.text("--ipvs-scheduler-flags")
    return IpvsSettings(
        scheduler=_checked(
            settings, "ipvs.scheduler", lambda: scheduler(wanted or _DEFAULT_SCHEDULER)
        ),
        scheduler_flags=_checked(
            settings, "--ipvs-scheduler-flags", lambda: scheduler_flags(flags)
        ),
        exclude_cidrs=_exclude_cidrs(settings),
        strict_arp=settings.on("ipvs.strictARP"),
        tcp_timeout_seconds=_ipvs_timeout(settings, "ipvs.tcpTimeout"),
        tcpfin_timeout_seconds=_ipvs_timeout(settings, "ipvs.tcpFinTimeout"),
        udp_timeout_seconds=_ipvs_timeout(settings, "ipvs.udpTimeout"),
        drain_seconds=within(settings, "--ipvs-drain-seconds", 0, _DRAIN_SECONDS[-1]),
    )


def variant(settings: Settings) -> str:
    """Whose iptables rules to write."""
    return _one_of(settings, "--iptables-variant", _VARIANTS)


def log_format(settings: Settings) -> str:
    """How the log is written."""
    return _one_of(settings, "logging.format", _LOG_FORMATS)


def address(settings: Settings, key: str) -> str:
    """An IP address in canonical form."""
    return _checked(settings, key, lambda: canonical(settings.text(key)))


def place(text: str, origin: str, port: int) -> tuple[str, int] | None:
    """Address and port to listen on; None for an empty text and for port 0.

    Without a port, as kube-proxy has it, the usual one.
    """
    if not text:
        return None
    parts = _LISTENER.fullmatch(text)
    bare = (parts["v6"] or parts["v4"]) if parts else text
    number = int(parts["port"]) if parts else port
    try:
        return (canonical(bare), number) if number else None
    except ValueError as error:
        reason = "must be IP:PORT ([::1]:10249 in IPv6), or empty"
        if _has_high_port(text):
            reason = f"the port is above {_MOST_PORT}: {reason}"
        raise ConfigError(origin, text, reason) from error


def _has_high_port(text: str) -> bool:
    host, _, port = text.rpartition(":")
    is_number = port.isascii() and port.isdigit() and (host.endswith("]") or ":" not in host)
    return is_number and (len(port) > len(str(_MOST_PORT)) or int(port) > _MOST_PORT)


def url(settings: Settings, key: str) -> str:
    """The URL of a server; empty for none."""
    text = settings.text(key)
    if text and not _SERVER.fullmatch(text):
        raise settings.refusal(key, "must be the URL of a server: https://HOST[:PORT]")
    return text


def _is_cidr(text: str) -> bool:
    try:
        network(text)
    except ValueError:
        return False
    return "/" in text


def _one_of(settings: Settings, key: str, names: tuple[str, ...]) -> str:
    if settings.text(key) not in names:
        raise settings.refusal(key, f"must be one of {', '.join(names)}")
    return settings.text(key)


def _checked(settings: Settings, key: str, check: Callable[[], _T]) -> _T:
    try:
        return check()
    except ValueError as error:
        raise settings.refusal(key, str(error)) from error


def _exclude_cidrs(settings: Settings) -> tuple[str, ...]:
    cidrs = settings.texts("ipvs.excludeCIDRs")
    for cidr in cidrs:
        if not _is_cidr(cidr):
            raise ConfigError(settings.origin("ipvs.excludeCIDRs"), cidr or '""', "is no CIDR")
    return tuple(dict.fromkeys(str(network(cidr)) for cidr in cidrs))


def _ipvs_timeout(settings: Settings, key: str) -> int:
    found = seconds(settings, key)
    if found not in _IPVS_TIMEOUTS:
        raise settings.refusal(key, f"must be {_IPVS_TIMEOUTS[-1]}s or less")
    return found
