"""How do commands reach IPVS and ipset, and what do they hold?"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence

from endpoints.names import Family
from modes.base import EnvironmentFault, KernelFault, Missing, NotPermitted
from modes.ipvs import ipset_messages as ip
from modes.ipvs import netlink as nl
from modes.ipvs.channel import Channel, Request, spelled
from modes.ipvs.ipsets import (
    Element,
    Extra,
    FoundSet,
    SetChange,
    SetName,
    SetSpec,
    SetVerb,
    Type,
)
from modes.ipvs.links import listed_servers
from modes.ipvs.servers import Command, FoundReal, FoundServer, RealServer, ServerKey
from modes.wire import NLM_F_EXCL, Refusal, Reply

_NETLINK_NETFILTER, _NETLINK_GENERIC = 12, 16
_NO_IPVS = "this kernel has no IPVS (modprobe ip_vs)"
_NO_IPSET = "this kernel has no ipset (modprobe ip_set)"
_NO_PRIVILEGE = "the kernel does not answer us: CAP_NET_ADMIN is missing (run as root)"


class Ipvs:
    """A connection to IPVS in the network namespace of the thread that makes it.

    Raises Missing where the kernel has no IPVS, EnvironmentFault where the process has no
    CAP_NET_ADMIN.
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
            raise Missing(_NO_IPVS)
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
            raise NotPermitted(_NO_PRIVILEGE)
        return refusals

    def servers(
        self, *, counted: bool = True, wanted: Callable[[ServerKey], bool] = lambda _: True
    ) -> dict[ServerKey, FoundServer]:
        """The virtual servers that are wanted, with their real ones, whoever made them.

        Only if `counted`, with what went through them: that is a question for each, and costs
        several times as much.
        """
        found, end = self._channel.dump(self._request(nl.opening(nl.GET_SERVICE)))
        self._check(end)
        decoded = [nl.decode_server(answer.payload, counted=counted) for answer in found]
        reals = {} if counted else listed_servers()
        return {
            key: FoundServer(server, reals[key] if key in reals else self.reals(key), traffic)
            for key, server, traffic in filter(None, decoded)
            if wanted(key)
        }

    def server(self, key: ServerKey) -> FoundServer | None:
        """One virtual server with its real ones, if it exists."""
        found, end = self._channel.ask(self._request(nl.get_server(key)))
        if end.error == errno.ESRCH:
            return None
        self._check(end)
        decoded = nl.decode_server(found[0].payload)
        return decoded and FoundServer(decoded.server, self.reals(key), decoded.traffic)

    def holds(self, key: ServerKey) -> bool:
        """Whether there is such a virtual server."""
        _, end = self._channel.ask(self._request(nl.get_server(key)))
        if end.error != errno.ESRCH:
            self._check(end)
        return not end.error

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
            raise NotPermitted(_NO_PRIVILEGE)
        if end.error:
            raise KernelFault(f"IPVS does not do what it is asked: {self._channel.said(end)}")


class Ipset:
    """A connection to ipset in the network namespace of the thread that makes it.

    Raises EnvironmentFault where the kernel has no ipset or the process no CAP_NET_ADMIN.
    """

    TEMPORARY = "KUBE-HEADGATE-NEW"
    """Where `replace` fills a set before it takes the place of another."""

    def __init__(self) -> None:
        """Open the socket, which loads the module ip_set."""
        try:
            self._channel = Channel(_NETLINK_NETFILTER, _spelled)
        except OSError as fault:
            raise EnvironmentFault(f"this kernel has no nfnetlink: {fault.strerror}") from fault
        self._revisions: dict[tuple[Type, Family | None], int] = {}
        try:
            self.names()
        except BaseException:
            self._channel.close()
            raise

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

    def names(self) -> set[str]:
        """The names of all sets, whoever made them."""
        found, end = self._channel.dump(Request(ip.kind(ip.LIST), 0, ip.list_names()))
        if end.error in (errno.EINVAL, errno.EOPNOTSUPP):
            raise EnvironmentFault(_NO_IPSET)
        self._check(end)
        return {ip.decode_name(answer.payload) for answer in found}

    def find(self, name: SetName) -> FoundSet | None:
        """A set and everything in it, if it exists."""
        found, end = self._channel.dump(Request(ip.kind(ip.LIST), 0, ip.named(str(name))))
        if end.error == errno.ENOENT:
            return None
        self._check(end)
        spec: SetSpec | None = None
        elements: dict[Element, Extra] = {}
        for part in (ip.decode_set(answer.payload) for answer in found):
            if part.elements is None:
                return FoundSet(None, {})
            spec = part.spec if part.has_header else spec
            elements.update(part.elements)
        return FoundSet(spec, elements if spec else {})

    def create(self, name: SetName, spec: SetSpec) -> None:
        """Make an empty set.

        Raises KernelFault: there is one of this name, or the kernel has no such type.
        """
        self._create(str(name), spec)

    def _create(self, name: str, spec: SetSpec) -> None:
        payload = ip.create(name, spec, self._revision(spec))
        _, end = self._channel.ask(Request(ip.kind(ip.CREATE), NLM_F_EXCL, payload))
        self._check(end, f"{name} cannot be made")

    def _revision(self, spec: SetSpec) -> int:
        """The newest of the kernel's, which understands what those before it did."""
        kind = spec.type, spec.family
        if kind not in self._revisions:
            found, end = self._channel.ask(Request(ip.kind(ip.TYPE), 0, ip.get_type(*kind)))
            self._check(end, f"there are no sets of type {spec.type}")
            self._revisions[kind] = ip.decode_revision(found[0].payload)
        return self._revisions[kind]

    def change(self, changes: Sequence[SetChange]) -> list[Refusal]:
        """Make these changes, in order; a refused one does not stop those after it."""
        return self._send([ip.change(asked) for asked in changes])

    def _send(self, asked: Sequence[tuple[int, bytes]]) -> list[Refusal]:
        refusals = self._channel.send([Request(ip.kind(verb), 0, told) for verb, told in asked])
        if any(refusal.errno == errno.EPERM for refusal in refusals):
            raise NotPermitted(_NO_PRIVILEGE)
        return refusals

    def replace(
        self, name: SetName, spec: SetSpec, elements: Mapping[Element, Extra]
    ) -> list[Refusal]:
        """Make a set exactly this, at once for every packet, whether it is there or not.

        Returns which elements (by their place) were refused; the others are in.

        Raises:
            KernelFault: the set is of another type, and in use by rules.
        """
        self.destroy_temporary()
        self._create(self.TEMPORARY, spec)
        adding = [
            ip.element(SetVerb.ADD, self.TEMPORARY, element, extra)
            for element, extra in elements.items()
        ]
        refusals = self._send(adding)
        end = self._pair(ip.SWAP, name)
        # Only sets of one type swap. One of another type goes first, if no rule uses it.
        if end.error in (ip.NO_SECOND_SET, ip.TYPE_MISMATCH) and self.destroy(name):
            end = self._pair(ip.RENAME, name)
        self.destroy_temporary()
        self._check(end, f"{name} cannot be replaced")
        return refusals

    def _pair(self, command: int, name: SetName) -> Reply:
        told = ip.pair(self.TEMPORARY, str(name))
        return self._channel.ask(Request(ip.kind(command), 0, told))[1]

    def destroy(self, name: SetName) -> bool:
        """Remove a set, unless rules use it. Returns whether it is gone."""
        return self._destroy(str(name))

    def destroy_temporary(self) -> None:
        """Remove what a `replace` left behind that was killed, if one was."""
        self._destroy(self.TEMPORARY)

    def _destroy(self, name: str) -> bool:
        _, end = self._channel.ask(Request(ip.kind(ip.DESTROY), 0, ip.named(name)))
        if end.error == ip.BUSY:
            return False
        if end.error != errno.ENOENT:
            self._check(end, f"{name} cannot be destroyed")
        return True

    def _check(self, end: Reply, what: str = "ipset does not do what it is asked") -> None:
        if end.error == errno.EPERM:
            raise NotPermitted(_NO_PRIVILEGE)
        if end.error:
            raise KernelFault(f"{what}: {self._channel.said(end)}")


def _spelled(error: int) -> str:
    return ip.spelled(error) or spelled(error)
