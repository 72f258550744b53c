"""What of a changed configuration can be applied live, and what needs a restart? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from proxy.config import Config
from proxy.settings.table import OPTIONS

_IGNORED = tuple(option.field for option in OPTIONS.values() if option.field and not option.works)
_LIVE: Mapping[str, tuple[str, ...]] = {
    "conntrack.max_per_core": ("conntrack.maxPerCore",),
    "conntrack.min": ("conntrack.min",),
    "conntrack.tcp_be_liberal": ("conntrack.tcpBeLiberal",),
    "conntrack.tcp_close_wait_seconds": ("conntrack.tcpCloseWaitTimeout",),
    "conntrack.tcp_established_seconds": ("conntrack.tcpEstablishedTimeout",),
    "conntrack.udp_seconds": ("conntrack.udpTimeout",),
    "conntrack.udp_stream_seconds": ("conntrack.udpStreamTimeout",),
    "feature_gates": ("featureGates",),
    "log_format": ("logging.format",),
    "min_sync_seconds": tuple(f"{of}.minSyncPeriod" for of in ("nftables", "iptables", "ipvs")),
    "node.bind_address": ("bindAddress",),
    "node.cluster_cidrs": ("clusterCIDR",),
    "node.detect_local_mode": ("detectLocalMode",),
    "node.masquerade_all": ("iptables.masqueradeAll", "nftables.masqueradeAll"),
    "node.pod_bridge_interface": ("detectLocal.bridgeInterface",),
    "node.pod_interface_name_prefix": ("detectLocal.interfaceNamePrefix",),
    "node_ports.chosen": ("nodePortAddresses",),
    "node_ports.localhost": ("iptables.localhostNodePorts",),
    "notes": ("featureGates", *_IGNORED),
    "resync_seconds": ("configSyncPeriod",),
    "sync_seconds": tuple(f"{of}.syncPeriod" for of in ("nftables", "iptables", "ipvs")),
    "verbosity": ("logging.verbosity",),
    "vmodule": ("logging.vmodule",),
    "warnings": ("featureGates", *_IGNORED),
}
"""What can be applied to a running program, and the fields of the file that may say it."""
_RESTART: Mapping[str, tuple[str, ...]] = {
    "bind_hard_fail": ("bindAddressHardFail",),
    "burst": ("clientConnection.burst",),
    "health": ("healthzBindAddress",),
    "kubeconfig": ("clientConnection.kubeconfig",),
    "metrics": ("metricsBindAddress",),
    "mode": ("mode",),
    "node.name": ("hostnameOverride",),
    "of_modes.ipvs.exclude_cidrs": ("ipvs.excludeCIDRs",),
    "of_modes.ipvs.scheduler": ("ipvs.scheduler",),
    "of_modes.ipvs.strict_arp": ("ipvs.strictARP",),
    "of_modes.ipvs.tcp_timeout_seconds": ("ipvs.tcpTimeout",),
    "of_modes.ipvs.tcpfin_timeout_seconds": ("ipvs.tcpFinTimeout",),
    "of_modes.ipvs.udp_timeout_seconds": ("ipvs.udpTimeout",),
    "of_modes.masquerade_bit": ("iptables.masqueradeBit",),
    "oom_score_adj": ("oomScoreAdj",),
    "qps": ("clientConnection.qps",),
}
"""What cannot, likewise. What is in neither only a flag can say."""
_OPENED = frozenset({"conntrack", "node", "node_ports", "of_modes", "of_modes.ipvs"})
"""Of these the fields are told apart."""
_FOLLOWS = frozenset({"document", "bind_address", "origins"})
"""They say again what other fields say."""
_ASKED = "conntrack.asked"
_UNKNOWN = "unknown fields"


class Changed(msgspec.Struct, frozen=True):
    """The fields of the file that differ, as `clusterCIDR`, sorted; of a flag, its name here."""

    live: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


def changed(old: Config, new: Config) -> Changed:
    """What differs between two configurations.

    A new mode means a new kernel program, and new listeners and API connections mean new sockets:
    that is for the next process. What becomes of packets is for the next sync.
    """
    before, after = dict(_leaves(old.document)), dict(_leaves(new.document))
    live: set[str] = set()
    restart: set[str] = set()
    for name in _differing(old, new, ""):
        fields = _LIVE.get(name) or _RESTART.get(name, (name,))
        said = {field for field in fields if before.get(field) != after.get(field)}
        if name in ("warnings", "notes"):
            said = said or {_UNKNOWN}
        (live if name in _LIVE else restart).update(said or fields[:1])
    return Changed(tuple(sorted(live)), tuple(sorted(restart)))


def _differing(old: msgspec.Struct, new: msgspec.Struct, above: str) -> Iterator[str]:
    """Names of a configuration's fields, as `node.cluster_cidrs`."""
    for field in old.__struct_fields__:
        name, before, after = f"{above}{field}", getattr(old, field), getattr(new, field)
        if name in _OPENED:
            yield from _differing(before, after, f"{name}.")
        elif name == _ASKED:
            yield from (f"conntrack.{asked}" for asked in before ^ after)
        elif before != after and name not in _FOLLOWS:
            yield name


def _leaves(document: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    """The fields of a file by their paths, as `conntrack.min`."""
    for field, value in document.items():
        path = f"{above}{field}"
        if isinstance(value, Mapping) and path not in OPTIONS:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value
