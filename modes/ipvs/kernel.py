"""How do commands reach IPVS and ipset, and what do they hold?"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from modes.base import EnvironmentFault, KernelFault
from modes.ipvs import netlink as nl
from modes.ipvs.channel import Channel, Request
from modes.ipvs.servers import Command, FoundReal, FoundServer, RealServer, ServerKey
from modes.wire import Refusal, Reply

_NETLINK_GENERIC = 16
_NO_IPVS = "this kernel has no IPVS (modprobe ip_vs)"
_NO_PRIVILEGE = "IPVS does not answer us: CAP_NET_ADMIN is missing (run as root)"


class Ipvs:
    """A connection to IPVS in the network namespace of the thread that makes it.

    Raises EnvironmentFault where the kernel has no IPVS or the process no CAP_NET_ADMIN.
    """

    def __init__(self) -> None:
        """Open the socket, which loads the module ip_vs."""
        self._channel = Channel(_NETLINK_GENERIC)
        try:
            self._family = self._resolve()
            _, end = self._channel.ask(self._request(nl.opening(nl.GET_INFO)))
            self._check(end)
        except BaseException:
            self._channel.close()
            raise

    def _resolve(self) -> int:
        found, end = self._channel.ask(Request(nl.GENL_ID_CTRL, 0, nl.get_family()))
        if end.error == errno.ENOENT:
            raise EnvironmentFault(_NO_IPVS)
        self._check(end)
        return nl.decode_family(found[0].payload)

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

    def send(self, commands: Sequence[Command]) -> list[Refusal]:
        """Give these commands, in order; a refused one does not stop those after it.

        Raises EnvironmentFault (no privilege) and KernelFault (what became of them is not known).
        """
        refusals = self._channel.send([self._request(nl.encode(command)) for command in commands])
        if any(refusal.errno == errno.EPERM for refusal in refusals):
            raise EnvironmentFault(_NO_PRIVILEGE)
        return refusals

    def servers(self) -> dict[ServerKey, FoundServer]:
        """All virtual servers with their real ones, whoever made them."""
        found, end = self._channel.dump(self._request(nl.opening(nl.GET_SERVICE)))
        self._check(end)
        decoded = [nl.decode_server(answer.payload) for answer in found]
        return {
            key: FoundServer(server, self.reals(key), traffic)
            for key, server, traffic in filter(None, decoded)
        }

    def server(self, key: ServerKey) -> FoundServer | None:
        """One virtual server with its real ones, if it exists."""
        found, end = self._channel.ask(self._request(nl.get_server(key)))
        if end.error == errno.ESRCH:
            return None
        self._check(end)
        decoded = nl.decode_server(found[0].payload)
        return decoded and FoundServer(decoded.server, self.reals(key), decoded.traffic)

    def reals(self, key: ServerKey) -> dict[RealServer, FoundReal]:
        """The real servers of a virtual one; none if it does not exist."""
        found, end = self._channel.dump(self._request(nl.get_reals(key)))
        self._check(end)
        decoded = (nl.decode_real(answer.payload, key.family) for answer in found)
        return dict(filter(None, decoded))

    def set_timeouts(self, tcp: int, tcpfin: int, udp: int) -> None:
        """How long idle connections are kept, in seconds; 0 keeps the old one.

        Raises KernelFault if the kernel does not accept one of them.
        """
        if tcp or tcpfin or udp:
            _, end = self._channel.ask(self._request(nl.set_timeouts(tcp, tcpfin, udp)))
            self._check(end)

    def _request(self, payload: bytes) -> Request:
        return Request(self._family, 0, payload)

    def _check(self, end: Reply) -> None:
        if end.error == errno.EPERM:
            raise EnvironmentFault(_NO_PRIVILEGE)
        if end.error:
            raise KernelFault(f"IPVS does not do what it is asked: {self._channel.said(end)}")
