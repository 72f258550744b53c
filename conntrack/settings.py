"""What may the operator ask of the kernel's connection tracking? Pure."""

from __future__ import annotations

import msgspec


class ConntrackSettings(msgspec.Struct, frozen=True):
    """The `conntrack` section of a KubeProxyConfiguration (REFERENCE B), with its defaults."""

    max_per_core: int = 32768
    """`nf_conntrack_max` is this times the number of CPUs; 0 leaves it as it is."""
    min: int = 131072
    """The least `nf_conntrack_max`, however few CPUs; 0 for none."""
    tcp_established_seconds: int = 86400
    """When an idle TCP connection is forgotten; 0 leaves the kernel's own, and so do the others."""
    tcp_close_wait_seconds: int = 3600
    """When one that only one side has closed is forgotten."""
    tcp_be_liberal: bool = False
    """Whether TCP packets outside the window still belong to their connection; False leaves it."""
    udp_seconds: int = 0
    """When a UDP flow that was answered at most once is forgotten."""
    udp_stream_seconds: int = 0
    """When a UDP flow with packets both ways is forgotten."""
    asked: frozenset[str] = frozenset()
    """Names of the fields above whose value the operator wrote, by a flag or in a file.

    Only those may lower what the kernel has.
    """
