"""Which settings of the kernel does IPVS need, and what for? Pure.

REFERENCE D. Each network namespace has its own.
"""

from __future__ import annotations

from typing import NamedTuple

_REUSE_SINCE, _REUSE_UNTIL = (4, 1), (5, 9)


class Sysctl(NamedTuple):
    """A setting as it shall be."""

    path: str
    """Under /proc/sys/net: `ipv4/vs/conntrack`."""
    value: str
    reason: str
    """What is lost without."""

    @property
    def name(self) -> str:
        """As `sysctl` has it: `net.ipv4.vs.conntrack`."""
        return f"net/{self.path}".replace("/", ".")


_ALWAYS = (
    Sysctl("ipv4/vs/conntrack", "1", "masquerade and its replies"),
    Sysctl("ipv4/vs/expire_nodest_conn", "1", "connections to endpoints that are gone"),
    Sysctl("ipv4/vs/expire_quiescent_template", "1", "clients of endpoints that drain"),
    Sysctl("ipv4/ip_forward", "1", "packets to pods"),
)
_REUSE = Sysctl("ipv4/vs/conn_reuse_mode", "0", "clients that use a port again")
_STRICT_ARP = (
    Sysctl("ipv4/conf/all/arp_ignore", "1", "strictARP"),
    Sysctl("ipv4/conf/all/arp_announce", "2", "strictARP"),
)
PATHS = tuple(of.path for of in (*_ALWAYS, _REUSE, *_STRICT_ARP))
"""All that may be needed."""


def needed(*, strict_arp: bool, kernel_version: tuple[int, int]) -> tuple[Sysctl, ...]:
    """What is needed here.

    Args:
        strict_arp: answer ARP for an address only on the link that has it; false leaves that as it
            is.
        kernel_version: major and minor; before 5.9 the mode of reuse of connections cost a second.
    """
    reuse = (_REUSE,) if _REUSE_SINCE <= kernel_version < _REUSE_UNTIL else ()
    return (*_ALWAYS, *reuse, *(_STRICT_ARP if strict_arp else ()))
