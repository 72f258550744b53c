"""Which sets and maps does a table of ours have, and what are their keys and data? Pure.

K is address, protocol and port of a Service; KN, for NodePorts, protocol and port alone.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from endpoints.names import Family

_DATATYPES = {
    "ipv4_addr": (7, 4),
    "ipv6_addr": (8, 16),
    "inet_proto": (12, 4),
    "inet_service": (13, 4),
    "mark": (19, 4),
}
"""The numbers of nft's types, by which it prints elements, and their sizes in bytes."""
_VERDICT_TYPE = 0xFFFFFF00


class S(IntEnum):
    """The sets and maps of a table; the number leads an element's key in this program."""

    CLUSTER_IPS = 0
    NODEPORT_IPS = 1
    SERVICES = 2
    EXTERNAL_LOCAL = 3
    ENDPOINTS = 4
    NODEPORTS = 5
    NODEPORT_LOCAL = 6
    NODEPORT_ENDPOINTS = 7
    POST_EXT = 8
    POST_EXT_NODEPORTS = 9
    POST_EXTLOCAL = 10
    POST_EXTLOCAL_NODEPORTS = 11
    LEARN = 12
    LEARN_NODEPORTS = 13
    HAIRPIN = 14
    LB_RESTRICTED = 15
    LB_SOURCES = 16
    AFFINITY = 17
    AFFINITY_NODEPORTS = 18
    AFFINITY_VALID = 19
    AFFINITY_VALID_NODEPORTS = 20
    AFFINITY_LOCAL = 21
    AFFINITY_LOCAL_NODEPORTS = 22
    AFFINITY_LOCAL_VALID = 23
    AFFINITY_LOCAL_VALID_NODEPORTS = 24
    SPECIAL_IPS = 25

    @property
    def set_name(self) -> str:
        """The name in the kernel."""
        return self.name.lower().replace("_", "-")


class SetSpec(NamedTuple):
    """A set or map of the table."""

    id: S
    fields: tuple[str, ...]
    data: tuple[str, ...] = ()
    """Types of a map's data; `("verdict",)` for a verdict map; empty for a set."""
    interval: bool = False
    dynamic_size: int = 0
    """Elements that packets may add, at most; 0: only we add."""

    @property
    def field_sizes(self) -> tuple[int, ...]:
        """Bytes of each field of the key."""
        return tuple(_DATATYPES[field][1] for field in self.fields)

    @property
    def key_size(self) -> int:
        """Bytes of a key."""
        return sum(self.field_sizes)

    @property
    def key_type(self) -> int:
        """The number in nft of the type of the key."""
        return _type_number(self.fields)

    @property
    def data_size(self) -> int:
        """Bytes of a map's data; 0 for sets and verdict maps."""
        return sum(_DATATYPES[field][1] for field in self.data if field != "verdict")

    @property
    def data_type(self) -> int:
        """The number in nft of the type of the data."""
        return _VERDICT_TYPE if self.is_vmap else _type_number(self.data)

    @property
    def words(self) -> str:
        """`map services`, `set hairpin`."""
        return f"{'map' if self.data else 'set'} {self.id.set_name}"

    @property
    def is_vmap(self) -> bool:
        """Whether its data are verdicts."""
        return self.data == ("verdict",)


def _type_number(fields: tuple[str, ...]) -> int:
    number = 0
    for field in fields:
        number = number << 6 | _DATATYPES[field][0]
    return number


def set_specs(family: Family) -> tuple[SetSpec, ...]:
    """All sets and maps of the family's table, by number."""
    addr = "ipv4_addr" if family is Family.IPV4 else "ipv6_addr"
    k = (addr, "inet_proto", "inet_service")
    kn = ("inet_proto", "inet_service")
    to = (addr, "inet_service")
    verdict = ("verdict",)
    return (
        SetSpec(S.CLUSTER_IPS, (addr,)),
        SetSpec(S.NODEPORT_IPS, (addr,)),
        SetSpec(S.SERVICES, k, verdict),
        SetSpec(S.EXTERNAL_LOCAL, k, verdict),
        SetSpec(S.ENDPOINTS, (*k, "mark"), to),
        SetSpec(S.NODEPORTS, kn, verdict),
        SetSpec(S.NODEPORT_LOCAL, kn, verdict),
        SetSpec(S.NODEPORT_ENDPOINTS, (*kn, "mark"), to),
        SetSpec(S.POST_EXT, k),
        SetSpec(S.POST_EXT_NODEPORTS, kn),
        SetSpec(S.POST_EXTLOCAL, k),
        SetSpec(S.POST_EXTLOCAL_NODEPORTS, kn),
        SetSpec(S.LEARN, k, verdict),
        SetSpec(S.LEARN_NODEPORTS, kn, verdict),
        SetSpec(S.HAIRPIN, (addr, addr)),
        SetSpec(S.LB_RESTRICTED, k),
        SetSpec(S.LB_SOURCES, (*k, addr), interval=True),
        SetSpec(S.AFFINITY, (addr, *k), to, dynamic_size=262144),
        SetSpec(S.AFFINITY_NODEPORTS, (addr, *kn), to, dynamic_size=262144),
        SetSpec(S.AFFINITY_VALID, (*k, *to)),
        SetSpec(S.AFFINITY_VALID_NODEPORTS, (*kn, *to)),
        SetSpec(S.AFFINITY_LOCAL, (addr, *k), to, dynamic_size=262144),
        SetSpec(S.AFFINITY_LOCAL_NODEPORTS, (addr, *kn), to, dynamic_size=262144),
        SetSpec(S.AFFINITY_LOCAL_VALID, (*k, *to)),
        SetSpec(S.AFFINITY_LOCAL_VALID_NODEPORTS, (*kn, *to)),
        SetSpec(S.SPECIAL_IPS, (addr,)),
    )
