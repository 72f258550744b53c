"""Does the bench still measure what it says? Figures of time are never judged here."""

from __future__ import annotations

import msgspec
import pytest

from endpoints.decode import decode_list
from endpoints.objects import Kind
from tests.bench import cluster, measure, program, report
from tests.bench.cluster import Size
from tests.bench.report import Measured, Report
from tests.lab import sandbox

SMALLEST = Size(20, 3)


@pytest.fixture(scope="module")
def smallest() -> Measured:
    measured = measure.measured(SMALLEST, 8, lambda _: None)
    sandbox.enter_private()
    return measured


def test_the_load_writes_every_element_once(smallest: Measured) -> None:
    load = smallest.loaded.load
    # A Service's dispatch, slots and cluster IP, and the hairpins of the pods that are here.
    assert load.elements == 20 * (1 + 3 + 1) + 60 // 3 + node_port_addresses()
    assert not load.kept
    assert load.whole > load.encode_and_commit > load.kernel > 0
    assert load.peak_megabytes > 20


def node_port_addresses() -> int:
    """The node's own elements: the primary address, in nodeport-ips."""
    return 1


def test_a_restart_writes_nothing(smallest: Measured) -> None:
    restart = smallest.restart
    assert restart.kept
    assert (restart.elements, restart.messages, restart.bytes_sent) == (0, 0, 0)
    assert restart.read_back > 0


def test_a_replaced_endpoint_is_one_slot(smallest: Measured) -> None:
    replaced = smallest.loaded.replaced
    assert replaced.count == 8
    # The slot deleted and added; a pod of this node has its hairpin besides.
    assert 2 <= replaced.elements <= 4
    assert 2 <= replaced.messages <= 4


def test_a_change_of_the_count_moves_the_dispatch_too(smallest: Measured) -> None:
    resized = smallest.loaded.resized
    # Dispatch deleted and added, and one slot; a slot in the middle is filled by the last one.
    assert 3 <= resized.elements <= 6


def test_a_change_is_one_transaction_and_no_process(smallest: Measured) -> None:
    for changes in (smallest.loaded.replaced, smallest.loaded.resized):
        assert changes.child_processes == 0
        # One sendmsg, the answer, and the look that finds no other answer.
        assert changes.system_calls == 3


def test_the_program_is_measured_from_its_start_to_its_exit() -> None:
    sandbox.enter_private()
    ran = program.run_once(SMALLEST)
    assert ran.size == SMALLEST
    assert ran.seconds > 0
    assert 15 < ran.peak_megabytes < 60


def test_a_program_that_fails_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = msgspec.structs.replace(cluster.SETTINGS, cluster_cidrs=("10.128.0.0/99",))
    monkeypatch.setattr(program, "SETTINGS", wrong)
    with pytest.raises(RuntimeError, match=r"10\.128\.0\.0/99"):
        program.run_once(SMALLEST)


def test_the_report_names_every_size_and_is_json(smallest: Measured) -> None:
    found = Report("here", [smallest], [], report.targets([smallest], []))
    assert "20 x 3" in report.text(found)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Report) == found


def test_targets_are_judged_at_their_size(smallest: Measured) -> None:
    large = msgspec.structs.replace(smallest, services=10_000, endpoints=10)
    judged = {target.what: target.met for target in report.targets([large], [])}
    assert judged["elements written by a restart"]
    large.restart.elements = 1
    judged = {target.what: target.met for target in report.targets([large], [])}
    assert not judged["elements written by a restart"]


def test_pages_follow_the_limit_and_are_accepted_whole() -> None:
    of = Size(501, 101)
    counts = {kind: [0, 0] for kind in Kind}
    for kind, data in cluster.lists(of):
        page = decode_list(data, kind)
        assert page.problems == ()
        assert len(page.objects) <= cluster.PAGE
        counts[kind][0] += 1
        counts[kind][1] += len(page.objects)
    assert counts[Kind.SERVICE] == [2, 501]
    assert counts[Kind.ENDPOINT_SLICE] == [3, 2 * 501]


@pytest.mark.parametrize("text", ["", "10", "0x1", "1x0", "10x", "x10", "1x1x1", "-1x5"])
def test_sizes_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=repr(text)):
        cluster.size(text)
