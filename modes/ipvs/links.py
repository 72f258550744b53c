"""Which addresses does this host take for its own, and may IPVS work as it must?

A packet reaches IPVS only if its destination is local to the host. So every ClusterIP is an address
of a link of type dummy, as in kube-proxy (REFERENCE D). The link is made and removed by pyroute2.
Addresses are told by messages of our own: pyroute2 takes 0.2 ms to encode one, and there may be ten
thousand.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from endpoints.addresses import pack, unpack
from endpoints.names import Family
from modes.base import EnvironmentFault, KernelFault, NotPermitted
from modes.ipvs import sysctls
from modes.ipvs.channel import Channel, Request
from modes.ipvs.persistence import Kept, kept
from modes.ipvs.servers import LINK
from modes.ipvs.sysctls import Sysctl
from modes.ipvs.table import Table, table
from modes.wire import (
    ADDRESS_FAMILY,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Refusal,
    attr,
    attributes,
    u32,
)

PATIENCE_SECONDS = 2.0
"""For addresses of IPv6 to be of use."""

_NEWADDR, _DELADDR, _GETADDR, _GETROUTE = 20, 21, 22, 26
_IPV6_ROUTES = 0x400  # RTMGRP_IPV6_ROUTE
_DATAGRAM = 1 << 16
_ROUTE = struct.Struct(
    "=BBBBBBBBI"
)  # family, two lengths, TOS, table, protocol, scope, type, flags
_TYPE, _LOCAL_TYPE = 7, 2
_ADDRESS, _LOCAL, _CACHEINFO, _FLAGS = 1, 2, 6, 8
_NODAD, _NOPREFIXROUTE = 0x02, 0x200
_LINK_SCOPE, _HOST_SCOPE = 253, 254
_MESSAGE = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_SIZES = {ADDRESS_FAMILY[Family.IPV4]: 4, ADDRESS_FAMILY[Family.IPV6]: 16}
_LIFETIMES = struct.Struct("=IIII")  # preferred, valid, and two that only the kernel tells
_FOR_EVER = 0xFFFFFFFF
_SETTINGS = Path("/proc/sys/net")
_SERVERS = Path("/proc/thread-self/net/ip_vs")
_MODULES, _MODULE = Path("/sys/module"), "ip_vs_"
_CONNECTIONS = Path("/proc/thread-self/net/ip_vs_conn")


class Link:
    """The link kube-ipvs0 in the network namespace of the thread that makes this."""

    def __init__(self) -> None:
        """Open the socket; no link is made yet."""
        self._channel = Channel(socket.NETLINK_ROUTE, opening=0)

    def close(self) -> None:
        """Give the socket back."""
        self._channel.close()

    @property
    def messages(self) -> int:
        """Netlink messages sent so far."""
        return self._channel.messages

    @property
    def sends(self) -> int:
        """System calls that it took to send them."""
        return self._channel.sends

    def ensure(self) -> None:
        """Make the link if there is none; one that is there stays as it is.

        It stays down: its addresses are local to the host nevertheless, and a link that is up would
        get an IPv6 address of its own, and show in routes.

        Raises EnvironmentFault if the kernel cannot make one, or the process may not.
        """
        if _index() is not None:
            return
        from pyroute2 import IPRoute, NetlinkError  # noqa: PLC0415 (130 ms, once in a host's life)

        try:
            with IPRoute() as routes:
                routes.link("add", ifname=LINK, kind="dummy")
        except NetlinkError as fault:
            if fault.code == errno.EPERM:
                raise NotPermitted(
                    f"{LINK} cannot be made: CAP_NET_ADMIN is missing (run as root)"
                ) from fault
            if fault.code == errno.EOPNOTSUPP:
                raise EnvironmentFault("this kernel has no dummy link (modprobe dummy)") from fault
            if fault.code != errno.EEXIST:
                raise KernelFault(f"{LINK} cannot be made: {fault}") from fault

    def addresses(self) -> frozenset[str] | None:
        """The addresses of the link, whoever gave them to it; None if there is no link."""
        index = _index()
        if index is None:
            return None
        return frozenset(address for of, address in _listed(self._channel) if of == index)

    def bind(self, addresses: Iterable[str]) -> list[Refusal]:
        """Make these addresses local to the host; one that the link has already is no fault.

        Never a source of packets to anybody else: IPv4 by the scope "host", IPv6 because they are
        deprecated from the start (RFC 6724, rule 3). Those are put to use by a thread of the
        kernel, which is waited for: rules that lead past IPVS must not go before.

        Returns the refusals, by the places of the addresses. Raises KernelFault: there is no link.
        """
        index = _index()
        if index is None:
            raise KernelFault(f"there is no link {LINK}")
        addresses = list(addresses)
        told = [_binding(address, index) for address in addresses]
        refusals = _faults(self._channel.send(told), errno.EEXIST)
        refused = {refusal.index for refusal in refusals}
        in_use = [a for number, a in enumerate(addresses) if ":" in a and number not in refused]
        if in_use:
            self._await(in_use[-1])
        return refusals

    def _await(self, address: str) -> None:
        """Until packets to an IPv6 address stay on this host, PATIENCE_SECONDS at the most."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as news:
            news.bind((0, _IPV6_ROUTES))
            while not self._is_local(address):
                if not select.select([news], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    return
                with suppress(OSError):  # ENOBUFS: more news than there is room for
                    news.recv(_DATAGRAM)

    def _is_local(self, address: str) -> bool:
        packed = pack(address)
        where = _ROUTE.pack(socket.AF_INET6, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
        found, _ = self._channel.ask(Request(_GETROUTE, 0, where + attr(_ADDRESS, packed)))
        return any(_ROUTE.unpack_from(answer.payload)[_TYPE] == _LOCAL_TYPE for answer in found)

    def unbind(self, addresses: Iterable[str]) -> list[Refusal]:
        """Take these addresses away; one that the link does not have is no fault."""
        index = _index()
        if index is None:
            return []
        told = [_unbinding(address, index) for address in addresses]
        return _faults(self._channel.send(told), errno.EADDRNOTAVAIL)

    def remove_if_empty(self) -> bool:
        """Remove the link unless it has an address. Returns whether it is gone."""
        index = _index()
        if index is None:
            return True
        if self.addresses():
            return False
        from pyroute2 import IPRoute  # noqa: PLC0415 (as above)

        with IPRoute() as routes:
            routes.link("del", index=index)
        return True


def local_addresses() -> frozenset[str]:
    """The addresses of every link of this host but ours, IPv4 and IPv6.

    Those of the scope "link" are left out: no Service can have one.
    """
    channel = Channel(socket.NETLINK_ROUTE, opening=0)
    try:
        index = _index()
        return frozenset(address for of, address in _listed(channel) if of != index)
    finally:
        channel.close()


def _index() -> int | None:
    try:
        return socket.if_nametoindex(LINK)
    except OSError:
        return None


def _listed(channel: Channel) -> Iterator[tuple[int, str]]:
    """Addresses, each with the index of its link."""
    found, end = channel.dump(Request(_GETADDR, 0, bytes(_MESSAGE.size)))
    if end.error:
        raise KernelFault(f"addresses cannot be listed: {channel.said(end)}")
    return filter(None, (decode(answer.payload) for answer in found))


def decode(payload: bytes) -> tuple[int, str] | None:
    """The index of a link and an address of it; None for one that only the link itself knows."""
    if len(payload) < _MESSAGE.size:
        return None
    family, _, _, scope, index = _MESSAGE.unpack_from(payload)
    told = dict(attributes(payload, _MESSAGE.size))
    packed = told.get(_LOCAL) or told.get(_ADDRESS) or b""
    if len(packed) != _SIZES.get(family) or scope == _LINK_SCOPE:
        return None
    return index, unpack(packed)


def _binding(address: str, index: int) -> Request:
    family, payload = _said(address, index)
    if family is Family.IPV6:
        payload += u32(_FLAGS, _NODAD | _NOPREFIXROUTE)
        payload += attr(_CACHEINFO, _LIFETIMES.pack(0, _FOR_EVER, 0, 0))
    return Request(_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, payload)


def _unbinding(address: str, index: int) -> Request:
    return Request(_DELADDR, 0, _said(address, index)[1])


def _said(address: str, index: int) -> tuple[Family, bytes]:
    packed = pack(address)
    family = Family.IPV6 if ":" in address else Family.IPV4
    scope = _HOST_SCOPE if family is Family.IPV4 else 0
    head = _MESSAGE.pack(ADDRESS_FAMILY[family], len(packed) * 8, 0, scope, index)
    return family, head + attr(_LOCAL, packed) + attr(_ADDRESS, packed)


def _faults(refusals: Sequence[Refusal], expected: int) -> list[Refusal]:
    if any(refusal.errno == errno.EPERM for refusal in refusals):
        raise NotPermitted(
            f"addresses of {LINK} cannot be changed: CAP_NET_ADMIN is missing (run as root)"
        )
    return [refusal for refusal in refusals if refusal.errno != expected]


def set_sysctls(*, strict_arp: bool, kernel_version: tuple[int, int]) -> list[str]:
    """Set what IPVS needs, in the network namespace of the calling thread; as `sysctls.needed`.

    Returns why one could not be set, a sentence each.
    """
    wanted = sysctls.needed(strict_arp=strict_arp, kernel_version=kernel_version)
    return [complaint for of in wanted if (complaint := _set(of))]


def read_sysctls() -> dict[str, str]:
    """What is set now of all that IPVS may need, by path; what the kernel lacks is left out.

    Raises OSError for what may not be read.
    """
    there = ((path, _SETTINGS / path) for path in sysctls.PATHS)
    return {path: file.read_text().strip() for path, file in there if file.exists()}


def persistent_clients() -> tuple[Kept, ...]:
    """Whom affinity keeps where, by what the kernel lists of connections as a text.

    Nothing where it does not list them, or not to us.
    """
    try:
        with _CONNECTIONS.open("rb") as lines:
            return tuple(kept(lines))
    except OSError:
        return ()


def loaded_schedulers() -> frozenset[str]:
    """The schedulers whose modules are loaded: what is built in is not among them."""
    return frozenset(path.name.removeprefix(_MODULE) for path in _MODULES.glob(f"{_MODULE}*"))


def is_loaded() -> bool:
    """Whether the kernel has IPVS by now: a question to it would load the module."""
    return _SERVERS.exists()


def listed_servers() -> Table:
    """What the kernel lists of servers as a text; nothing if it does not, or not to us."""
    try:
        with _SERVERS.open("rb") as lines:
            return table(lines)
    except OSError:
        return {}


def keeps_conntrack() -> bool:
    """Whether IPVS can tell conntrack what it translates (CONFIG_IP_VS_NFCT); it is there itself.

    Without, nothing masquerades after IPVS, and answers find no way back.
    """
    return (_SETTINGS / "ipv4/vs/conntrack").exists()


def _set(of: Sysctl) -> str:
    setting = _SETTINGS / of.path
    try:
        if setting.read_text().strip() != of.value:
            setting.write_text(of.value)
    except OSError as fault:
        return f"{setting} cannot be set to {of.value}, for {of.reason}: {fault.strerror}"
    return ""
