"""How do transactions reach the kernel, and what does it answer?

The only file of this mode that opens a socket. One transaction is one sendmsg: when it returns,
nfnetlink has taken or refused the whole of it, and every answer is in our receive buffer.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from endpoints.names import Family
from modes.base import EnvironmentFault, ForeignWatch, KernelFault, Missing
from modes.listening import CommitWatch
from modes.nftables import codec, notices, ruleset, strangers
from modes.nftables import netlink as nl
from modes.nftables.adopt import TableFound
from modes.nftables.elements import Elements, set_of
from modes.nftables.sets import S, set_specs
from modes.nftables.skeleton import TABLE, BaseChain, Chain, Rule

NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_SEND_BUFFER, _RECEIVE_BUFFER = 1 << 28, 1 << 23
_DATAGRAM = 1 << 16
"""Room for an answer: the kernel makes the datagrams of a dump 32 KB at most (since 4.9)."""
_DUMP_ATTEMPTS = 20
_QUESTIONS = 64
"""At once: without privilege a socket has room for about a hundred answers."""
_ROUTE_LOCALNET = Path("/proc/sys/net/ipv4/conf/all/route_localnet")


Payloads = dict[tuple[Family, S], list[bytes]]
"""What the kernel says of each set, in order, as `codec.decode_elements` takes it."""


class Failure(NamedTuple):
    """Why the kernel refused a transaction: one of its messages."""

    message: nl.Message | None
    """None: the transaction as a whole."""
    errno: int
    reason: str
    key: bytes | None
    """The element at fault, where the kernel says which; the first of the message if not."""

    def __str__(self) -> str:
        """`Device or resource busy (EBUSY)` with the kernel's own words where it has some."""
        name = errno.errorcode.get(self.errno, str(self.errno))
        words = f": {self.reason}" if self.reason else ""
        return f"{os.strerror(self.errno)} ({name}){words}"


class Kernel:
    """A connection to nf_tables in the network namespace of the thread that makes it.

    Raises EnvironmentFault where the kernel has no nf_tables or the process no CAP_NET_ADMIN.
    """

    def __init__(self) -> None:
        """Open the socket; nothing is asked yet."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        except OSError as fault:
            raise EnvironmentFault(f"this kernel has no nfnetlink: {fault.strerror}") from fault
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        _enlarge(self._socket, _SO_SNDBUFFORCE, socket.SO_SNDBUF, _SEND_BUFFER)
        _enlarge(self._socket, _SO_RCVBUFFORCE, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._sequence = 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    @property
    def port(self) -> int:
        """The netlink port of the socket: the kernel names it in what it tells of our changes."""
        port: int = self._socket.getsockname()[0]
        return port

    def listen(self) -> ForeignWatch:
        """Hear of changes to our tables by any socket but this one. Raises OSError."""
        return CommitWatch(notices.MARKS, notices.is_ours, notices.judge, {self.port})

    def transact(self, messages: Sequence[nl.Message], *, commit: bool = True) -> Sent:
        """Send one transaction and read every answer.

        Raises EnvironmentFault (no privilege, no nf_tables) and KernelFault (too large to send, or
        a table that belongs to another program).
        """
        data = nl.batch(messages, commit=commit)
        try:
            self._socket.sendall(data)
        except OSError as fault:
            raise KernelFault(
                f"a transaction of {len(data)} bytes cannot be sent: {fault.strerror}"
            ) from fault
        answers = list(self._drain())
        failures = [_failure(messages, answer) for answer in answers if answer.error]
        acknowledged = any(answer.sequence == len(messages) for answer in answers)
        if not failures and not acknowledged:
            raise KernelFault("the kernel gave no answer to a transaction")
        for failure in failures:
            if failure.errno == errno.EPERM and failure.message is not None:
                raise KernelFault(self._whose(failure, failure.message))
        _raise_environment(failures)
        return Sent(failures, len(data))

    def _whose(self, failure: Failure, refused: nl.Message) -> str:
        """Why a message is not permitted to us, although asking is: its table has an owner."""
        for answer in self.dump(nl.GETTABLE, nl.NFPROTO[refused.family]):
            name, owner = strangers.ownership(refused.family, answer.payload)
            if owner and refused.body.startswith(nl.text(nl.NFTA_TABLE_NAME, name)):
                return owner
        return f"the kernel refused a change: {failure}"

    def _drain(self) -> Iterator[nl.Reply]:
        while True:
            try:
                datagram = self._socket.recv(_DATAGRAM, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            yield from nl.replies(datagram)

    def dump(self, kind: int, nfproto: int, body: bytes = b"") -> list[nl.Reply]:
        """All objects of a kind; read again when the ruleset changed meanwhile.

        Returns an empty list if what is asked for does not exist. Raises EnvironmentFault and
        KernelFault.
        """
        for _ in range(_DUMP_ATTEMPTS):
            answers = self._request(kind, nl.NLM_F_DUMP, nfproto, body)
            if not any(map(_is_torn, answers)):
                break
        else:
            raise KernelFault("the ruleset changes too fast to be read")
        _raise_unless_absent(answers)
        return [answer for answer in answers if answer.kind not in (nl.NLMSG_ERROR, nl.NLMSG_DONE)]

    def _request(self, kind: int, flags: int, nfproto: int, body: bytes) -> list[nl.Reply]:
        self._sequence += 1
        self._socket.sendall(nl.nft_message(kind, flags, nfproto, self._sequence, body))
        answers: list[nl.Reply] = []
        while True:
            for answer in nl.replies(self._socket.recv(_DATAGRAM)):
                if answer.sequence != self._sequence:
                    continue
                answers.append(answer)
                if answer.kind in (nl.NLMSG_ERROR, nl.NLMSG_DONE):
                    return answers

    def check(self) -> None:
        """Raises EnvironmentFault if we may not ask nf_tables anything, or there is none."""
        self.generation()

    def generation(self) -> int:
        """The number of the ruleset, of all tables together: each commit makes another one.

        Raises EnvironmentFault.
        """
        answers = self._request(nl.GETGEN, nl.NLM_F_ACK, 0, b"")
        _raise_environment(
            [Failure(None, answer.error, "", None) for answer in answers if answer.error]
        )
        return next(ruleset.decode_generation(a.payload) for a in answers if a.payload)

    def tables(self) -> dict[tuple[Family, str], int]:
        """The tables of both families, whoever made them, with their flags."""
        found: dict[tuple[Family, str], int] = {}
        for answer in self.dump(nl.GETTABLE, 0):
            if answer.family is not None:
                name, flags = ruleset.decode_table(answer.payload)
                found[answer.family, name] = flags
        return found

    def table(self, family: Family) -> TableFound | None:
        """The structure of our table in this family, if it exists."""
        flags = self.tables().get((family, TABLE))
        if flags is None:
            return None
        nfproto = nl.NFPROTO[family]
        rules: dict[str, list[Rule]] = {}
        wanted = nl.text(nl.NFTA_RULE_TABLE, TABLE)
        for answer in self.dump(nl.GETRULE, nfproto, wanted):
            table, chain, rule = ruleset.decode_rule(answer.payload)
            if table == TABLE:
                rules.setdefault(chain, []).append(rule)
        chains: dict[str, Chain] = {}
        for answer in self.dump(nl.GETCHAIN, nfproto):
            chain_table, name, base = ruleset.decode_chain(answer.payload)
            if chain_table == TABLE and not strangers.is_bound(answer.payload):
                chains[name] = _chain(name, rules, base)
        wanted = nl.text(nl.NFTA_SET_TABLE, TABLE)
        sets = [ruleset.decode_set(a.payload) for a in self.dump(nl.GETSET, nfproto, wanted)]
        ours = {
            found.name: found
            for found in sets
            if found.table == TABLE and not strangers.is_anonymous(found)
        }
        return TableFound(chains, ours, flags, self._strangers(family))

    def _strangers(self, family: Family) -> tuple[strangers.Stranger, ...]:
        """Objects and flowtables in our table of this family."""
        objects = self.dump(nl.GETOBJ, nl.NFPROTO[family], nl.text(nl.NFTA_OBJ_TABLE, TABLE))
        found = [strangers.decode_object(answer.payload) for answer in objects]
        wanted = nl.text(nl.NFTA_FLOWTABLE_TABLE, TABLE)
        flowtables = self.dump(nl.GETFLOWTABLE, nl.NFPROTO[family], wanted)
        found += [strangers.decode_flowtable(answer.payload) for answer in flowtables]
        return tuple(stranger for table, stranger in found if table == TABLE)

    def elements(self, family: Family, set_id: S) -> Iterator[codec.Found]:
        """The elements of one of our sets; none if there is no such set."""
        for payload in self._payloads(family, set_id):
            yield from codec.decode_elements(family, set_id, payload)

    def _payloads(self, family: Family, set_id: S) -> Iterator[bytes]:
        body = nl.element_list(TABLE, set_id.set_name, ())
        return (of.payload for of in self.dump(nl.GETSETELEM, nl.NFPROTO[family], body))

    def listed(self, family: Family, set_id: S) -> tuple[list[bytes], bool]:
        """The same, not yet decoded, and whether the ruleset changed meanwhile.

        It is not read again then. Raises EnvironmentFault and KernelFault.
        """
        body = nl.element_list(TABLE, set_id.set_name, ())
        answers = self._request(nl.GETSETELEM, nl.NLM_F_DUMP, nl.NFPROTO[family], body)
        torn = any(map(_is_torn, answers))
        _raise_unless_absent([answer for answer in answers if not _is_torn(answer)])
        return [answer.payload for answer in answers if answer.payload], torn

    def these(self, keys: Iterable[bytes]) -> Elements:
        """The elements with these keys, of those that are there; one system call for many.

        Raises EnvironmentFault and KernelFault.
        """
        found: Elements = {}
        rest = codec.questions(keys)
        while asked := list(islice(rest, _QUESTIONS)):
            for question, answer in self._answers(asked):
                _raise_unless_absent([answer])
                family, set_id = set_of(question.keys[0])
                for element in codec.decode_elements(family, set_id, answer.payload):
                    found[element.key] = element.value
        return found

    def _answers(self, asked: Sequence[nl.Message]) -> Iterator[tuple[nl.Message, nl.Reply]]:
        """What the kernel says to each of several messages, their acknowledgements included."""
        first = self._sequence + 1
        self._sequence += len(asked)
        self._socket.sendall(
            b"".join(
                nl.nft_message(of.kind, of.flags, nl.NFPROTO[of.family], sequence, of.body)
                for sequence, of in enumerate(asked, first)
            )
        )
        while True:
            for answer in nl.replies(self._socket.recv(_DATAGRAM)):
                if answer.sequence < first:
                    continue
                yield asked[answer.sequence - first], answer
                if answer.kind == nl.NLMSG_ERROR and answer.sequence == self._sequence:
                    return

    def all_elements(self, family: Family, read: Payloads | None = None) -> Elements:
        """What our table of this family holds, except what packets put there.

        What was `read` of it already is taken out of there, for it is large.
        """
        found: Elements = {}
        for spec in set_specs(family):
            if spec.dynamic_size:
                continue
            if read is None:
                payloads = self._payloads(family, spec.id)
            else:
                payloads = iter(read.pop((family, spec.id), []))
            for payload in payloads:
                for some in codec.pairs(family, spec.id, payload):
                    found.update(some)
        return found


def route_loopback() -> str:
    """Let packets from 127.0.0.1 leave this host, as NodePorts there need (REFERENCE A.2).

    Only in the network namespace of the calling thread. Returns why that could not be done, in
    one sentence; empty if it is done.
    """
    try:
        if _ROUTE_LOCALNET.read_text().strip() != "1":
            _ROUTE_LOCALNET.write_text("1")
    except OSError as fault:
        return f"NodePorts on localhost need {_ROUTE_LOCALNET} = 1: {fault.strerror}"
    return ""


def lookups_can_miss() -> bool:
    """Whether this kernel's set lookups may miss an element while a commit replaces it (< 6.17)."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is None or (int(found[1]), int(found[2])) < (6, 17)


class Sent(NamedTuple):
    """What became of a transaction: no failures, and it is in the kernel; else none of it is."""

    failures: list[Failure]
    size: int


def _enlarge(sock: socket.socket, force: int, plain: int, size: int) -> None:
    """Without privilege in the first user namespace the system's limit holds."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, plain, size)


def _chain(name: str, rules: dict[str, list[Rule]], base: BaseChain | None) -> Chain:
    return Chain(name, tuple(rules.get(name, ())), base)


def _failure(messages: Sequence[nl.Message], answer: nl.Reply) -> Failure:
    if not 0 < answer.sequence <= len(messages):
        return Failure(None, answer.error, answer.reason, None)
    message = messages[answer.sequence - 1]
    key = None
    if message.keys:
        index = nl.element_at(message.body, answer.offset) if answer.offset is not None else None
        key = message.keys[index or 0]
    return Failure(message, answer.error, answer.reason, key)


def _is_torn(answer: nl.Reply) -> bool:
    """Whether a dump is of no one state of the ruleset."""
    return answer.interrupted or answer.error == errno.EINTR


def _raise_environment(failures: Sequence[Failure]) -> None:
    for failure in failures:
        if failure.errno == errno.EPERM:
            raise EnvironmentFault(
                "nf_tables does not answer us: CAP_NET_ADMIN is missing (run as root)"
            )
        if failure.message is None and failure.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            raise Missing("this kernel has no nf_tables (CONFIG_NF_TABLES, module nf_tables)")


def _raise_unless_absent(answers: Sequence[nl.Reply]) -> None:
    for answer in answers:
        failure = Failure(None, answer.error, answer.reason, None)
        if answer.error and answer.error != errno.ENOENT:
            _raise_environment([failure])
            raise KernelFault(f"the ruleset cannot be read: {failure}")
