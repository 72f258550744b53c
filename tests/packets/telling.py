"""What do the packets of the stories meet in the kernel?

All stories of the same settings are told at once, in one cluster, step by step: their objects are
saved together, every node's headgate programs them, then every row's packets are sent. What they
met is kept by row, and judged story by story.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from endpoints.explain import Drop, Forward, Pass, Reject
from endpoints.names import Family, Protocol
from tests.lab import network, objects, topology
from tests.lab.lab import Lab
from tests.lab.probes import DROP_SECONDS, Answer, Outcome
from tests.lab.probes import Target as Probe
from tests.lab.protocols import spoken
from tests.lab.servers import PORTS
from tests.scenarios.model import Document, Key, Row, Settings, Story
from tests.scenarios.places import (
    BALANCED,
    BRIDGES,
    CLIENT,
    NODES,
    PODS,
    SERVED_PORT,
    owner_of,
)
from tests.scenarios.world import Judgement, World

_WORDS = {Forward: "forward", Reject: "reject", Drop: "drop", Pass: "pass"}

ANSWERED_WITHIN_SECONDS = 0.9
"""Less than the first retransmission of TCP takes: a packet that was dropped is noticed."""
REFUSED_WITHIN_SECONDS = 0.25
"""Less than the first retransmission of TCP takes; a kernel within a kernel takes its time."""
_TRIES = 3
_STICKY_CONNECTIONS = 20
_CONNECTIONS_PER_ENDPOINT = 6
_ROUNDS = 6
"""Six rounds of six connections per endpoint miss one of six with a chance of 1e-13."""

_ADDRESS_NETWORKS = {True: Family.IPV6, False: Family.IPV4}


class Met(msgspec.Struct, frozen=True):
    """What the packets of one row met, and what the specification says they should."""

    row: Row
    expect: str
    """The word of the story; where the node holds the addresses of Services, the verdict's."""
    judgement: Judgement
    answers: Sequence[Answer]


def furnish(lab: Lab) -> None:
    """Save the Nodes, and let who answers tell its port: `pod-a1` on 8080, `pod-a1:8081`.

    Nodes answer on 8080, in their host network.
    """
    lab.apply(*objects.nodes())
    for pod in PODS:
        lab.stop_serving(pod)
        for port in PORTS:
            lab.serve(pod, [port], called=_called(pod, port))
    for node in NODES:
        lab.serve(node, [SERVED_PORT])


def _called(name: str, port: int) -> str:
    return name if port == SERVED_PORT else f"{name}:{port}"


def _is_sent(row: Row) -> bool:
    """Whether real packets can be sent for a row; tests/uml has a kernel with SCTP."""
    return row.explain_only is None and row.protocol in spoken()


class Tellings:
    """Tells all chosen stories of the same settings when the first of them is asked for."""

    def __init__(self, lab: Lab, mode: str, stories: Sequence[Story]) -> None:
        """Tell nothing yet. The lab is furnished, and has no Services."""
        self._lab = lab
        self._mode = mode
        self._stories = stories
        self._told: dict[Settings, Mapping[Row, Met] | TimeoutError] = {}

    def of(self, story: Story) -> list[Met]:
        """What the rows of a story met. Raises TimeoutError if a headgate did not keep up."""
        settings = story.settings
        if settings not in self._told:
            try:
                self._told[settings] = self._tell(settings)
            except TimeoutError as error:
                self._told[settings] = error
        told = self._told[settings]
        if isinstance(told, TimeoutError):
            raise told
        return [told[row] for step in story.steps for row in step.rows if _is_sent(row)]

    def _tell(self, settings: Settings) -> dict[Row, Met]:
        """Start from nothing and leave nothing but the rules in the kernels."""
        stories = [story for story in self._stories if story.settings == settings]
        nodes = sorted({node for story in stories for node in _nodes_of(story)})
        holds_addresses = self._mode == "ipvs"
        world = World(settings, holds_addresses=holds_addresses)
        held: Mapping[Key, Document] = {}
        found: dict[Row, Met] = {}
        try:
            for node in nodes:
                self._lab.start_headgate(node, *settings.arguments(), mode=self._mode)
            for number in range(max(len(story.steps) for story in stories)):
                wanted = _objects(stories, number)
                _save(self._lab, held, wanted)
                held = wanted
                world.become(wanted)
                self._lab.wait_synced()
                for node in nodes:  # a source port that is used again must not find its old flow
                    self._lab.exec(node, ["conntrack", "-F"])
                rows = [row for story in stories for row in _rows(story, number)]
                judged = {row: world.judge(row) for row in rows}
                expected = {
                    row: _word(judged[row]) if holds_addresses else row.expect for row in rows
                }
                answers = _Sending(self._lab, expected).send()
                found |= {row: Met(row, expected[row], judged[row], answers[row]) for row in rows}
        finally:
            _save(self._lab, held, {})
            for node in nodes:
                self._lab.stop_headgate(node)
        return found


def _word(judgement: Judgement) -> str:
    return _WORDS[type(judgement.explanation.verdict)]


def _nodes_of(story: Story) -> Iterator[str]:
    for step in story.steps:
        for row in step.rows:
            yield row.via
            yield owner_of(row.destination) or row.via


def _objects(stories: Iterable[Story], number: int) -> dict[Key, Document]:
    """What exists in step `number`; a story that is over stays as it ended."""
    return {
        key: document
        for story in stories
        for key, document in story.steps[min(number, len(story.steps) - 1)].objects.items()
    }


def _rows(story: Story, number: int) -> list[Row]:
    steps = story.steps[number : number + 1]
    return [row for step in steps for row in step.rows if _is_sent(row)]


def _save(lab: Lab, held: Mapping[Key, Document], wanted: Mapping[Key, Document]) -> None:
    lab.delete(*(document for key, document in held.items() if key not in wanted))
    lab.apply(*(document for key, document in wanted.items() if held.get(key) != document))


class _Sending:
    """Sends packets for many rows at a time."""

    def __init__(self, lab: Lab, expected: Mapping[Row, str]) -> None:
        self._lab = lab
        self._expected = expected
        self._answers: dict[Row, list[Answer]] = defaultdict(list)

    def send(self) -> Mapping[Row, Sequence[Answer]]:
        """All rows; those that need the router to send somewhere else come one node at a time."""
        by_route: dict[str, list[Row]] = defaultdict(list)
        for row in self._expected:
            routed = row.sender == CLIENT and owner_of(row.destination) is None
            by_route[row.via if routed else "node-a"].append(row)
        for node, some in by_route.items():
            for prefix in BALANCED:
                network.route_through(self._lab.network, prefix, topology.node_named(node))
            self._refusals(row for row in some if self._expected[row] == "reject")
            self._round(row for row in some if self._expected[row] != "reject")
            for _ in range(_ROUNDS - 1):
                self._round([row for row in some if self._needs_more(row)])
        return self._answers

    def _refusals(self, rows: Iterable[Row]) -> None:
        """One row after the other, so that nothing of ours adds to the time that a refusal takes."""
        for row in rows:
            self._answers[row] += self._lab.connect_all(row.sender.name, _probes([row] * _TRIES))

    def _round(self, rows: Iterable[Row]) -> None:
        """Silence takes long: it comes last, so that nothing waits behind it."""
        some = list(rows)
        silent = [row for row in some if self._expected[row] in ("drop", "pass")]
        self._at_once([row for row in some if row not in silent], ANSWERED_WITHIN_SECONDS)
        self._at_once(silent, DROP_SECONDS)

    def _at_once(self, rows: Iterable[Row], timeout: float) -> None:
        by_sender: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_sender[row.sender.name] += [row] * _connections(row)
        if not by_sender:
            return

        def connect(sender: str) -> list[Answer]:
            return self._lab.connect_all(sender, _probes(by_sender[sender]), timeout=timeout)

        with ThreadPoolExecutor(len(by_sender)) as pool:
            all_answers = pool.map(connect, by_sender)
            for repeated, answers in zip(by_sender.values(), all_answers, strict=True):
                for row, answer in zip(repeated, answers, strict=True):
                    self._answers[row].append(answer)

    def _needs_more(self, row: Row) -> bool:
        """Whether all is well so far, but not every endpoint has answered yet."""
        seen = {answer.by for answer in self._answers[row]}
        everybody = {_called(target.name, target.port) for target in row.targets}
        return row.affinity_seconds is None and seen < everybody


def _connections(row: Row) -> int:
    if row.affinity_seconds is not None:
        return _STICKY_CONNECTIONS
    return _CONNECTIONS_PER_ENDPOINT * len(row.targets) or _TRIES


def _probes(rows: Iterable[Row]) -> list[Probe]:
    return [
        Probe(
            row.destination,
            row.port,
            Protocol(row.protocol),
            row.source if row.protocol is Protocol.SCTP else "",
        )
        for row in rows
    ]


def difference(met: Met) -> str:
    """What the packets met otherwise than the story or the specification says; empty if nothing."""
    judge = _JUDGES[met.expect]
    said = judge(met)
    return f"{met.row}: {said}\n  the specification: {met.judgement}" if said else ""


def _forwarded(met: Met) -> str:
    row = met.row
    if others := {str(a) for a in met.answers if a.kind is not Outcome.ANSWERED}:
        return f"not only answered but {', '.join(sorted(others))}"
    seen = {(str(answer.by), str(answer.saw)) for answer in met.answers}
    allowed = {(name, _source(met, address, masqueraded=m)) for name, address, m in _ends(met)}
    if seen - allowed:
        return f"answers (who, which saw) {sorted(seen - allowed)}, allowed are {sorted(allowed)}"
    if row.affinity_seconds is not None:
        return "" if len(seen) == 1 else f"affinity, but answers came from {sorted(seen)}"
    missing = allowed - seen
    return f"nothing from {sorted(missing)} in {len(met.answers)} connections" if missing else ""


def _ends(met: Met) -> Iterator[tuple[str, str, bool]]:
    """The endpoints that the specification allows: name, address, masqueraded."""
    places = {
        address: place.name
        for place in (*PODS.values(), *NODES.values())
        for address in place.addresses.values()
    }
    for address, port, masqueraded in met.judgement.hops:
        yield _called(places[address], port), address, masqueraded


def _source(met: Met, endpoint: str, *, masqueraded: bool) -> str:
    """Whose address the endpoint should see: that of the interface that a packet leaves by."""
    if not masqueraded:
        return met.row.source
    family = _ADDRESS_NETWORKS[":" in endpoint]
    node = met.judgement.node
    here = any(pod.node == node and endpoint == pod.addresses[family] for pod in PODS.values())
    return BRIDGES[node][family] if here else NODES[node].addresses[family]


def _rejected(met: Met) -> str:
    if others := {str(a) for a in met.answers if a.kind is not Outcome.REFUSED}:
        return f"not refused but {', '.join(sorted(others))}"
    fastest = min(answer.seconds for answer in met.answers)
    return f"refused after {fastest:.3f} s only" if fastest > REFUSED_WITHIN_SECONDS else ""


def _dropped(met: Met) -> str:
    others = {str(answer) for answer in met.answers if answer.kind is not Outcome.TIMEOUT}
    return f"not dropped but {', '.join(sorted(others))}" if others else ""


def _passed(met: Met) -> str:
    """Nobody answers; and nobody refuses either, where there is no machine that would."""
    wrong = {Outcome.ANSWERED, Outcome.BROKEN}
    destination = met.row.destination
    machines = {a for pod in PODS.values() for a in pod.addresses.values()} | {"127.0.0.1", "::1"}
    if owner_of(destination) is None and destination not in machines:
        wrong.add(Outcome.REFUSED)
    others = {str(answer) for answer in met.answers if answer.kind in wrong}
    return f"not left alone but {', '.join(sorted(others))}" if others else ""


_JUDGES = {"forward": _forwarded, "reject": _rejected, "drop": _dropped, "pass": _passed}
