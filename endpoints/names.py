"""How are the things called that every part of the program speaks about? Pure.

Families, protocols and the names of Services and their ports. `StrEnum` members hash like plain
strings, so that these values are cheap dictionary keys.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Family(StrEnum):
    """An IP family, spelled as in `Service.spec.ipFamilies` and `EndpointSlice.addressType`."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"


class Protocol(StrEnum):
    """A transport protocol, spelled as in `Service.spec.ports[].protocol`."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"

    @property
    def number(self) -> int:
        """The protocol's IANA number, as in an IP header."""
        return _PROTOCOL_NUMBERS[self]


_PROTOCOL_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}


class ObjectName(msgspec.Struct, frozen=True, order=True, gc=False):
    """The name of a namespaced object; the namespace of a Node is the empty string."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """`namespace/name`, or just `name` where there is no namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class ServicePortName(msgspec.Struct, frozen=True, order=True, gc=False):
    """The unit of work of a service proxy: one port of one Service (REFERENCE A.2)."""

    namespace: str
    name: str
    port: str
    protocol: Protocol

    @property
    def service(self) -> ObjectName:
        """The Service that the port belongs to."""
        return ObjectName(self.namespace, self.name)

    def __str__(self) -> str:
        """kube-proxy's spelling: `namespace/name:port`, or `namespace/name` for an unnamed port."""
        suffix = f":{self.port}" if self.port else ""
        return f"{self.namespace}/{self.name}{suffix}"
