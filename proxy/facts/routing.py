"""How is the kernel asked where it would send a packet?

It answers as it would treat the packet itself: reverse path filter, forwarding, policy routing and
loopback addresses included. Nothing is sent and nothing is changed.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from endpoints.addresses import family
from endpoints.explain import Explanation, Forward, Hook, Packet
from endpoints.names import Family
from endpoints.nodeports import is_loopback
from modes.wire import NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, message, replies
from proxy.facts import rtnetlink
from proxy.facts.facts import Facts, Link, Way, Ways

MOST_ENDPOINTS = 100
"""So many are asked about; of more, the first ones stand for all."""
_AT_ONCE = 64
"""Questions of one send: their answers fit into any receive buffer."""
_BUFFER_SIZE = 1 << 16
_NO_LINK = 0


class _Question(NamedTuple):
    """About a packet from `source` (empty: the kernel may choose) that arrives on a link."""

    source: str
    destination: str
    arrival: str = ""


class Rtnetlink:
    """A connection to the routing of the calling thread's network namespace."""

    def __init__(self) -> None:
        """Open the socket. Needs no privilege."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        """Kind and body of each message of a list; one that changes meanwhile may have gaps.

        Whoever does not read to the end must not ask anything else. Raises OSError.
        """
        self._socket.send(message(kind, NLM_F_DUMP, 1, body))
        while True:
            for answer in replies(self._socket.recv(_BUFFER_SIZE), opening=0):
                if answer.error:
                    raise OSError(answer.error, "the kernel does not list its links and routes")
                if answer.kind == NLMSG_DONE:
                    return
                yield answer.kind, answer.payload

    def routes(
        self, of: Family, questions: Sequence[tuple[str, str, int]]
    ) -> list[tuple[bytes, int]]:
        """For each (destination, source, index of the arriving link) the answer, or an errno."""
        answers: list[tuple[bytes, int]] = [(b"", 0)] * len(questions)
        for start in range(0, len(questions), _AT_ONCE):
            batch = questions[start : start + _AT_ONCE]
            self._socket.send(
                b"".join(
                    message(rtnetlink.GET_ROUTE, 0, number, rtnetlink.route_of(of, *question))
                    for number, question in enumerate(batch, start)
                )
            )
            missing = len(batch)
            while missing:
                for answer in replies(self._socket.recv(_BUFFER_SIZE), opening=0):
                    if answer.kind in (NLMSG_ERROR, rtnetlink.NEW_ROUTE):
                        answers[answer.sequence] = (answer.payload, answer.error)
                        missing -= 1
        return answers


def ways(packet: Packet, explanation: Explanation, facts: Facts) -> Ways:
    """Ask about a packet, the endpoints that it may reach, and their answers.

    `facts`: of the same network namespace, as of now. Raises OSError if rtnetlink refuses, which
    it does to nobody.
    """
    route = Rtnetlink()
    try:
        return _Asking(route, packet, facts).ways(explanation)
    finally:
        route.close()


class _Asking:
    """The questions that one packet raises."""

    def __init__(self, route: Rtnetlink, packet: Packet, facts: Facts) -> None:
        self._route = route
        self._packet = packet
        self._of = family(packet.destination)
        self._facts = facts
        self._index = {link.name: link.index for link in facts.links}
        self._names = {link.index: link.name for link in facts.links}

    def ways(self, explanation: Explanation) -> Ways:
        verdict = explanation.verdict
        aims = [self._packet.destination]
        if isinstance(verdict, Forward):
            aims = sorted({hop.endpoint.address for hop in verdict.hops})[:MOST_ENDPOINTS]
        if self._packet.hook is Hook.OUTPUT:
            return self._sent(aims)
        return self._received(aims, is_answered=isinstance(verdict, Forward))

    def _sent(self, aims: Sequence[str]) -> Ways:
        """Of a packet that this machine sends; the answers come to the machine itself."""
        source = self._packet.source
        source = source if self._facts.is_own(source) else ""
        first, *there = self._ask([_Question(source, a) for a in (self._packet.destination, *aims)])
        return Ways(before=first, there=tuple(there))

    def _received(self, aims: Sequence[str], *, is_answered: bool) -> Ways:
        source = self._packet.source
        arrival = self._facts.receiver(self._packet.interface)
        is_known = bool(arrival)
        if not is_known:
            (home,) = self._ask([_Question("", source)])
            arrival = "" if home.is_local else home.interface
        by = source if arrival else ""
        there = self._ask([_Question(by, aim, arrival) for aim in aims])
        answers = [_answer(way, source) for way in there if way.interface] if is_answered else []
        suspects = [] if is_known else [link.name for link in self._suspects(arrival)]
        refused = self._ask([_Question(source, aims[0], link) for link in suspects])
        return Ways(
            there=tuple(there),
            back=tuple(self._ask(answers)),
            suspected=tuple(way for way in refused if way.error and not way.route_error),
            is_arrival_known=is_known,
        )

    def _suspects(self, arrival: str) -> Iterator[Link]:
        """Where a packet may arrive that does not come the way back: links to other machines.

        Worth asking only if rp_filter did drop something: most machines have several networks.
        """
        if self._of is Family.IPV6 or not self._facts.reverse_path_drops:
            return
        uplinks = {route.interface for route in self._facts.routes if route.gateway}
        for link in self._facts.links:
            is_network = any(
                family(held) is self._of and not held.endswith("/32") for held in link.addresses
            )
            is_end = self._facts.receiver(link.name) == link.name and link.name not in (
                "lo",
                arrival,
            )
            is_outward = link.kind != "bridge" or link.name in uplinks
            if is_network and is_end and is_outward and link.is_up and self._facts.rp_filter(link):
                yield link

    def _ask(self, questions: Sequence[_Question]) -> list[Way]:
        """The way of each; where the kernel takes no such packet, also that of any packet."""
        answers = self._answers(questions)
        refused = [n for n, (_, error) in enumerate(answers) if error]
        plain = [_Question("", questions[n].destination) for n in refused]
        again = dict(zip(refused, self._answers(plain), strict=True))
        found = []
        for number, (question, (body, error)) in enumerate(zip(questions, answers, strict=True)):
            answer, route_error = again.get(number, (body, 0))
            match = rtnetlink.match(answer, self._names)
            found.append(
                Way(
                    source=question.source or self._packet.source,
                    destination=question.destination,
                    arrival=question.arrival,
                    interface=match.interface if match else "",
                    gateway=match.gateway if match else "",
                    network=match.network if match else "",
                    is_local=match.is_local if match else False,
                    error=_name(error),
                    route_error=_name(route_error),
                )
            )
        return found

    def _answers(self, questions: Sequence[_Question]) -> list[tuple[bytes, int]]:
        asked = [(q.destination, q.source, self._index.get(q.arrival, _NO_LINK)) for q in questions]
        return self._route.routes(self._of, asked)


def _answer(way: Way, client: str) -> _Question:
    """What an endpoint says in return, on the link by which it is reached."""
    if way.is_local or is_loopback(way.destination):
        return _Question("", client)
    return _Question(way.destination, client, way.interface)


def _name(error: int) -> str:
    return errno.errorcode.get(error, str(error)) if error else ""
