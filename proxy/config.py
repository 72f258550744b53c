"""What did the operator ask for, in the words of the program?

`proxy.settings` reads flags and file; what leaves here is checked. A refusal names the flag or the
field of the file, the value and the reason.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import msgspec

from conntrack.settings import ConntrackSettings
from endpoints.addresses import bracketed, family
from endpoints.names import Family
from endpoints.node import Loopback, NodeSettings
from endpoints.nodeports import ALL, PRIMARY, resolve
from modes.base import ModeSettings
from modes.registry import AUTO
from proxy.settings import checks, gates
from proxy.settings.file import read
from proxy.settings.refusal import ConfigError
from proxy.settings.settings import Settings
from proxy.settings.table import API_VERSION, KIND

_HEALTH_PORT, _METRICS_PORT = 10256, 10249
_ANY_V4, _ANY_V6 = "0.0.0.0", "::"  # noqa: S104 (an operator may narrow it)
_NOWHERE = f"{_ANY_V4}:0"
_CONNTRACK = {
    "max_per_core": "conntrack.maxPerCore",
    "min": "conntrack.min",
    "tcp_established_seconds": "conntrack.tcpEstablishedTimeout",
    "tcp_close_wait_seconds": "conntrack.tcpCloseWaitTimeout",
    "tcp_be_liberal": "conntrack.tcpBeLiberal",
    "udp_seconds": "conntrack.udpTimeout",
    "udp_stream_seconds": "conntrack.udpStreamTimeout",
}


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


class Origins(msgspec.Struct, frozen=True):
    """Who said what this machine may refuse later: a flag as it was typed, or a file's field."""

    mode: str = "--mode"
    kubeconfig: str = "--kubeconfig"


class Config(msgspec.Struct, frozen=True):
    """What `headgate run` needs to know."""

    mode: str
    """`auto` or a name of `modes.registry`."""
    node: NodeSettings
    """Without what depends on the mode: see `on_mode`."""
    node_ports: NodePorts = NodePorts()
    of_modes: ModeSettings = ModeSettings()
    conntrack: ConntrackSettings = ConntrackSettings()
    bind_address: str = _ANY_V4
    """As it was said; `node.bind_address` is empty where this is no single address."""
    health: Listener | None = Listener(_ANY_V4, _HEALTH_PORT)
    metrics: Listener | None = Listener("127.0.0.1", _METRICS_PORT)
    bind_hard_fail: bool = False
    """Whether the program ends if one of the two cannot be listened on."""
    sync_seconds: float = 30.0
    """How often what failed is tried again, and the kernel looked at."""
    min_sync_seconds: float = 0.0
    """The least time between two transactions."""
    resync_seconds: float = 900.0
    """kube-proxy's configSyncPeriod; nothing is resynced by time (see proxy.settings.ignored)."""
    manifests: tuple[Path, ...] = ()
    kubeconfig: str = ""
    master: str = ""
    qps: float = 5.0
    """Requests a second to the API server; below 0: no limit."""
    burst: int = 10
    oom_score_adj: int | None = -999
    """None: as it is."""
    feature_gates: Mapping[str, bool] = {}
    once: bool = False
    verbosity: int = 0
    vmodule: str = ""
    """`sync=4,kernel*=6`: verbosity by the name of a file, without its ending."""
    log_format: str = "text"
    """`text` or `json`."""
    config_file: Path | None = None
    cleanup: bool = False
    init_only: bool = False
    """Set the sysctls that need privilege, and end."""
    warnings: tuple[str, ...] = ()
    """What an operator should look at: what of the file was passed over, what is missed."""
    notes: tuple[str, ...] = ()
    """What is ignored and costs nobody anything."""
    origins: Origins = Origins()
    document: Mapping[str, object] = {}
    """What is in force as a KubeProxyConfiguration, of JSON's types."""


def settings_of(flags: argparse.Namespace) -> Settings:
    """What flags say, and the file that they name, if they do. Raises ConfigError."""
    return Settings(flags, read(Path(flags.config)) if flags.config else None)


def config(flags: argparse.Namespace) -> Config:
    """The configuration of a run, its file read if there is one. Raises ConfigError."""
    settings = settings_of(flags)
    mode = checks.mode(settings.text("mode"), settings.origin("mode"))
    sync_keys = (_of_mode(settings, mode, name) for name in ("syncPeriod", "minSyncPeriod"))
    sync_seconds, min_sync_seconds = checks.sync_periods(settings, *sync_keys)
    given_gates, gates_origin = settings.gates("featureGates"), settings.origin("featureGates")
    manifests = _manifests(settings)
    found = Config(
        mode=mode,
        node=node_settings(
            settings, mode, settings.origin("hostnameOverride"), settings.text("hostnameOverride")
        ),
        node_ports=node_ports(settings),
        of_modes=mode_settings(settings),
        conntrack=_conntrack(settings),
        bind_address=checks.address(settings, "bindAddress"),
        health=_listener(settings, "healthz", _ANY_V4, _ANY_V6, _HEALTH_PORT),
        metrics=_listener(settings, "metrics", "127.0.0.1", "::1", _METRICS_PORT),
        bind_hard_fail=settings.on("bindAddressHardFail"),
        sync_seconds=sync_seconds,
        min_sync_seconds=min_sync_seconds,
        resync_seconds=checks.period(settings, "configSyncPeriod"),
        manifests=manifests,
        kubeconfig="" if manifests else settings.text("clientConnection.kubeconfig"),
        master=checks.url(settings, "--master"),
        qps=settings.number("clientConnection.qps"),
        burst=checks.within(settings, "clientConnection.burst", 0),
        oom_score_adj=checks.within(settings, "oomScoreAdj", -1000, 1000),
        feature_gates=given_gates,
        once=settings.on("--once"),
        verbosity=checks.within(settings, "logging.verbosity", 0),
        vmodule=settings.text("logging.vmodule"),
        log_format=checks.log_format(settings),
        config_file=Path(flags.config) if flags.config else None,
        cleanup=settings.on("--cleanup"),
        init_only=settings.on("--init-only"),
        warnings=(*settings.warnings(), *gates.warnings(given_gates, gates_origin)),
        notes=(*settings.notes(), *gates.notes(given_gates, gates_origin)),
        origins=Origins(settings.origin("mode"), settings.origin("clientConnection.kubeconfig")),
    )
    return msgspec.structs.replace(found, document=_document(settings, found))


def node_settings(settings: Settings, mode: str, origin: str, name: str) -> NodeSettings:
    """What was said about the node of this name, whatever the mode makes of NodePorts.

    Raises ConfigError; `origin` is who said the name.
    """
    bind = checks.address(settings, "bindAddress")
    return NodeSettings(
        name=checks.node_name(origin, name),
        detect_local_mode=checks.detect_local_mode(settings),
        cluster_cidrs=checks.cluster_cidrs(settings),
        pod_bridge_interface=checks.interface(settings, "detectLocal.bridgeInterface"),
        pod_interface_name_prefix=checks.interface(settings, "detectLocal.interfaceNamePrefix"),
        masquerade_all=any(
            settings.on(f"{of}.masqueradeAll")
            for of in ("nftables", "iptables")
            if mode == AUTO or (of == "nftables") == (mode == "nftables")
        ),
        bind_address="" if bind in (_ANY_V4, _ANY_V6) else bind,
    )


def node_ports(settings: Settings) -> NodePorts:
    """What was said about NodePorts. Raises ConfigError."""
    return NodePorts(
        checks.node_port_addresses(settings), settings.on("iptables.localhostNodePorts")
    )


def mode_settings(settings: Settings) -> ModeSettings:
    """What was said about modes. Raises ConfigError."""
    return ModeSettings(
        checks.within(settings, "iptables.masqueradeBit", 0, 31),
        checks.variant(settings),
        checks.ipvs(settings),
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


def _of_mode(settings: Settings, mode: str, name: str) -> str:
    """The option of this name in the section of a mode.

    `auto` becomes nftables or iptables, and files that were kube-proxy's speak of iptables.
    """
    if mode != AUTO:
        return f"{mode}.{name}"
    nftables, iptables = f"nftables.{name}", f"iptables.{name}"
    only_iptables = settings.is_said(iptables) and not settings.is_said(nftables)
    return iptables if only_iptables else nftables


def _conntrack(settings: Settings) -> ConntrackSettings:
    asked = frozenset(name for name, key in _CONNTRACK.items() if settings.is_said(key))
    return ConntrackSettings(
        max_per_core=checks.within(settings, _CONNTRACK["max_per_core"], 0),
        min=checks.within(settings, _CONNTRACK["min"], 0),
        tcp_established_seconds=checks.seconds(settings, _CONNTRACK["tcp_established_seconds"]),
        tcp_close_wait_seconds=checks.seconds(settings, _CONNTRACK["tcp_close_wait_seconds"]),
        tcp_be_liberal=settings.on(_CONNTRACK["tcp_be_liberal"]),
        udp_seconds=checks.seconds(settings, _CONNTRACK["udp_seconds"]),
        udp_stream_seconds=checks.seconds(settings, _CONNTRACK["udp_stream_seconds"]),
        asked=asked,
    )


def _listener(settings: Settings, of: str, v4: str, v6: str, port: int) -> Listener | None:
    """Where the server of this name listens, of itself on the address of bindAddress's family."""
    key, port_key = f"{of}BindAddress", f"--{of}-port"
    if settings.is_said(port_key) and not settings.text("--config"):
        port = checks.within(settings, port_key, 0, 65535)
        if port == 0:
            return None
    if not settings.is_said(key):
        bind = checks.address(settings, "bindAddress")
        return Listener(v4 if family(bind) is Family.IPV4 else v6, port)
    found = checks.place(settings.text(key), settings.origin(key), port)
    return Listener(*found) if found else None


def _manifests(settings: Settings) -> tuple[Path, ...]:
    """Where the cluster comes from, if not from an API server.

    A kubeconfig that only a file names is beaten by this flag, as all of a file is by flags.
    """
    manifests = checks.paths(settings.texts("--manifests"))
    for key in ("clientConnection.kubeconfig", "--master"):
        if manifests and settings.is_typed(key) and settings.text(key):
            reason = "the cluster comes from --manifests already; give one of the two"
            raise settings.refusal(key, reason)
    for path in manifests if settings.on("--once") else ():
        if not path.exists():
            raise ConfigError("--manifests", str(path), "does not exist")
    return manifests


def _document(settings: Settings, found: Config) -> Mapping[str, object]:
    fields = settings.written() | {
        "mode": "" if found.mode == AUTO else found.mode,
        "healthzBindAddress": _place(found.health),
        "metricsBindAddress": _place(found.metrics),
    }
    document: dict[str, object] = {"apiVersion": API_VERSION, "kind": KIND}
    for path, value in sorted(fields.items()):
        *sections, leaf = path.split(".")
        place = document
        for section in sections:
            inner = place.setdefault(section, {})
            if isinstance(inner, dict):
                place = inner
        place[leaf] = value
    return document


def _place(listener: Listener | None) -> str:
    return f"{bracketed(listener.address)}:{listener.port}" if listener else _NOWHERE
