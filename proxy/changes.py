"""What of a changed configuration can be applied live, and what needs a restart? Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from proxy.config import Config

_LIVE = frozenset(
    {
        "conntrack",
        "feature_gates",
        "log_format",
        "min_sync_seconds",
        "node.bind_address",
        "node.cluster_cidrs",
        "node.detect_local_mode",
        "node.masquerade_all",
        "node.pod_bridge_interface",
        "node.pod_interface_name_prefix",
        "node_ports",
        "resync_seconds",
        "sync_seconds",
        "verbosity",
        "vmodule",
        "warnings",
    }
)
_OPENED = frozenset({"node", "of_modes"})
"""Of these the fields are told apart."""
_FOLLOWS = frozenset({"document", "bind_address"})
"""They say again what other fields say."""


class Changed(msgspec.Struct, frozen=True):
    """Names of the fields that differ, as `node.cluster_cidrs`, sorted."""

    live: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


def changed(old: Config, new: Config) -> Changed:
    """What differs between two configurations.

    A new mode means a new kernel program, and new listeners and API connections mean new sockets:
    that is for the next process. What becomes of packets is for the next sync.
    """
    names = sorted(_differing(old, new, ""))
    return Changed(
        tuple(name for name in names if name in _LIVE),
        tuple(name for name in names if name not in _LIVE),
    )


def _differing(old: msgspec.Struct, new: msgspec.Struct, above: str) -> Iterator[str]:
    for name in old.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if name in _OPENED:
            yield from _differing(before, after, f"{name}.")
        elif before != after and f"{above}{name}" not in _FOLLOWS:
            yield f"{above}{name}"
