"""Is each of twelve faults named by at most two commands, and nothing named where nothing is wrong?"""

from __future__ import annotations

import itertools
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import pytest

from endpoints.names import Protocol
from proxy.debug.explain import Answer as Explained
from proxy.debug.explain import text
from proxy.debug.screen import PLAIN
from proxy.facts.finding import Finding
from tests.lab import modes, namespaces, objects, topology
from tests.lab.lab import Lab
from tests.lab.probes import IS_USER_MODE_LINUX, Answer, Outcome
from tests.lab.topology import CLIENT_ADDRESSES
from tests.packets import guide
from tests.packets.faults import FAULTS, Ask, Fault, in_family
from tests.packets.planting import (
    BALANCER,
    CLIENT,
    ELSEWHERE,
    LISTENED,
    NEAR,
    NODE,
    NODE_PORT,
    POD,
    PORTS,
    VIPS,
    Reach,
    World,
    published,
    serving,
)
from tests.packets.tracing import HEADGATE, started

FAMILIES = ("IPv4", "IPv6")
MOST_COMMANDS = 2


@pytest.fixture(scope="module")
def node(lab: Lab, mode: str) -> Iterator[Lab]:
    """A healthy cluster, in which headgate runs on node-a."""
    lab.serve(ELSEWHERE, [LISTENED], called="zoned")
    for name in VIPS:
        lab.apply(*published(name, *serving(lab, name)))
    lab.apply(*objects.nodes())
    lab.start_headgate(NODE.name, mode=mode)
    lab.wait_synced()
    yield lab
    lab.stop_headgate(NODE.name)
    lab.exec(NODE.name, [str(HEADGATE), "cleanup"])
    lab.stop_serving("zoned")


class Ran(NamedTuple):
    """What a command did."""

    status: int
    out: str


def started_on_node(world: World, words: Sequence[str]) -> subprocess.Popen[str]:
    """`headgate WORDS` on the node, as its operator types it."""
    pipe = subprocess.PIPE
    with namespaces.inside(world.lab.network[NODE.name]):
        return subprocess.Popen([HEADGATE, *words], stdout=pipe, stderr=pipe, text=True)


def ended(process: subprocess.Popen[str]) -> Ran:
    out, err = process.communicate(timeout=60)
    assert err == ""
    return Ran(process.returncode, out)


def words_of(world: World, ask: Ask) -> list[str]:
    flags = [*modes.arguments(world.mode)[:1], f"--cluster-cidr={','.join(topology.CLUSTER_CIDRS)}"]
    stand_for = {"FOLDER": [str(world.lab.manifests.folder)], "FLAGS": flags}
    words = in_family(ask.words, world.family).split()
    return list(itertools.chain.from_iterable(stand_for.get(word, [word]) for word in words))


def said(world: World, ask: Ask, reach: Reach) -> Ran:
    """What the command says; while it traces, somebody connects."""
    words = words_of(world, ask)
    if words[0] != "trace":
        return ended(started_on_node(world, words))
    with started(world.lab, NODE.name, [*words[1:], "--timeout=20s"]) as process:
        reach()
        return ended(process)


def explained(world: World, ask: Ask) -> tuple[int, Explained]:
    """The same answer as a value, with the exit status of `--check`."""
    words = [*words_of(world, ask), "--check", "-o", "json"]
    status, out = ended(started_on_node(world, words))
    return status, msgspec.json.decode(out, type=Explained)


def tells(out: str, words: Sequence[str]) -> bool:
    """Whether these words stand there, wherever lines end: workers of pytest have 80 columns."""
    return " ".join(words) in " ".join(out.split())


def assert_named(world: World, ask: Ask, reach: Reach) -> Finding | None:
    """The command says what is wrong, and nothing else; returns the finding."""
    says = in_family(ask.says, world.family).split()
    if not ask.words.startswith("explain"):
        status, out = said(world, ask, reach)
        assert tells(out, says) or (ask.untraced and tells(out, ask.untraced.split()))
        assert status == 1
        return None
    status, answer = explained(world, ask)
    assert tells("\n".join(text(answer, PLAIN)), says)
    if not (world.family or IS_USER_MODE_LINUX):  # a command takes a second and a half there
        assert tells(said(world, ask, reach).out, says)
    found = [(finding.cause, finding.breaks) for finding in answer.findings]
    assert found == ([(ask.cause, ask.breaks)] if ask.cause else [])
    assert status == int(ask.breaks and ask.cause is not None)
    return answer.findings[0] if answer.findings else None


def assert_as_shown(world: World, fault: Fault, reach: Reach) -> None:
    """What the guide shows of this fault is what is printed."""
    for (number, words), shown in guide.blocks().items():
        if number == fault.number:
            (ask,) = (ask for ask in fault.asks if ask.words == words)
            printed = said(world, ask, reach).out
            printed = printed.replace(str(world.lab.manifests.folder), "FOLDER")
            assert guide.is_as_shown(printed, shown), printed


def assert_silent(world: World, ask: Ask, reach: Reach) -> None:
    """The same command finds nothing wrong."""
    if ask.words.startswith("explain"):
        status, answer = explained(world, ask)
        assert (status, answer.verdict, answer.findings) == (0, "FORWARD", ())
        return
    status, out = said(world, ask, reach)
    assert status == 0
    assert out.startswith("SAME" if ask.words.startswith("diff") else "REACHED")


def connected(world: World, fault: Fault) -> Answer:
    address, _, port = fault.target.rpartition(":")
    to = in_family(address, world.family)
    return world.lab.connect(fault.sender, to, int(port), fault.protocol)


def follow(world: World, remedy: str) -> None:
    """Do what is advised, as far as it is a command."""
    world.lab.exec(NODE.name, shlex.split(remedy.partition(",")[0]))


CASES = [(fault, family) for fault in FAULTS for family in range(2) if family == 0 or fault.ipv6]
IDS = [f"{fault.number}-{FAMILIES[family]}" for fault, family in CASES]


def test_the_guide_tells_of_these_faults() -> None:
    wanted = [
        (fault.number, fault.name, tuple((ask.words, ask.says) for ask in fault.asks))
        for fault in FAULTS
    ]
    rows = guide.rows()
    assert [(row.number, row.name, row.asks) for row in rows] == wanted
    for row, fault in zip(rows, FAULTS, strict=True):
        assert len(row.asks) <= MOST_COMMANDS
        words = [guide.SEEN[met] for met in fault.meets if isinstance(met, Outcome)]
        assert all(word in row.sees for word in words or ["another pod"])
    assert {number for number, _ in guide.blocks()} <= {row.number for row in rows}
    assert guide.TEXT.count("```console") == len(guide.blocks())


@pytest.mark.parametrize(("fault", "family"), CASES, ids=IDS)
def test_a_fault_is_named(node: Lab, mode: str, fault: Fault, family: int) -> None:
    world = World(node, mode, family)

    def anew() -> Answer:
        return connected(world, fault)

    right = anew().by
    assert right is not None
    with fault.plant(world) as kept:
        reach = kept or anew
        met = reach()
        assert (met.by or met.kind) in fault.meets
        found = [assert_named(world, ask, reach) for ask in fault.asks]
        if mode == "nftables" and family == 0:
            assert_as_shown(world, fault, reach)
        if fault.is_advised:
            assert found[-1] is not None
            follow(world, found[-1].remedy)
            assert reach().by == right
    assert anew().by == right
    for ask in () if IS_USER_MODE_LINUX else fault.asks:
        assert_silent(world, ask, anew)


def questions() -> Iterator[tuple[str, str, int, Protocol]]:
    """Who asks for what, where nothing is wrong."""
    for sender in (POD, NEAR, NODE.name):
        for name in VIPS:
            yield sender, VIPS[name][0], PORTS[name][0].port, PORTS[name][0].protocol
    for sender in (POD, CLIENT, NODE.name):
        yield sender, NODE.addresses[0], NODE_PORT, Protocol.TCP
        yield sender, BALANCER[0], 80, Protocol.TCP


@pytest.mark.parametrize("family", range(2), ids=FAMILIES)
def test_where_nothing_is_wrong_nothing_is_found(node: Lab, mode: str, family: int) -> None:
    world = World(node, mode, family)
    sources = {POD: node.pods[POD].ipv4, NEAR: node.pods[NEAR].ipv4, CLIENT: CLIENT_ADDRESSES[0]}
    asked = list(questions())[:: 3 if IS_USER_MODE_LINUX else 1]
    for sender, address, port, protocol in asked:
        to = in_family(address, family)
        assert world.lab.connect(sender, to, port, protocol).by is not None
        source = sources.get(sender, NODE.addresses[0])
        question = Ask(f"explain {address}:{port}/{protocol.lower()} --from {source}", "")
        assert explained(world, question)[1].findings == ()
