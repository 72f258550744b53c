"""Does the bench still measure what it says? Figures of time are never judged here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache

import msgspec
import pytest

from endpoints.decode import decode_list
from endpoints.objects import Kind
from modes.iptables.looking import look
from tests.bench import __main__ as bench
from tests.bench import cluster, instruments, kube_proxy, measure, program, report
from tests.bench.cluster import Size
from tests.bench.results import Measured, Report
from tests.bench.targets import targets
from tests.lab import modes, sandbox

SMALLEST = Size(20, 3)
VARIANTS = ("iptables-nft", "iptables-legacy")

Of = Callable[[str], Measured]


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing() -> Iterator[None]:
    """What is measured leaves its rules: the tests after these ones get a network without any."""
    yield
    sandbox.enter_private()


@pytest.fixture(scope="module")
def of() -> Of:
    """The smallest size, measured once in each back end that is asked for."""

    @cache
    def measured(back_end: str) -> Measured:
        found = measure.measured(back_end, SMALLEST, 8, lambda _: None)
        if measure.variant(back_end):
            found.stand_in = measure.stand_in(back_end, SMALLEST, 4, lambda _: None)
        sandbox.enter_private()
        return found

    return measured


def test_the_load_writes_every_element_once(of: Of) -> None:
    load = of("nftables").loaded.load
    # A Service's dispatch, slots and cluster IP, and the hairpins of the pods that are here.
    assert load.elements == 20 * (1 + 3 + 1) + 60 // 3 + node_port_addresses()
    assert not load.kept
    assert load.whole > load.encode_and_commit > load.kernel > 0
    assert load.user == load.system == 0
    assert load.peak_megabytes > 20


def node_port_addresses() -> int:
    """The node's own elements: the primary address, in nodeport-ips and in special-ips."""
    return 2


@pytest.mark.parametrize("back_end", VARIANTS)
def test_the_load_writes_every_rule_once(of: Of, back_end: str) -> None:
    load = of(back_end).loaded.load
    # Of a Service: a chain for each endpoint, its own, its line in KUBE-SERVICES, its cluster IP.
    # Of an endpoint: two rules and the choice of it. The mark of what does not come from a pod.
    services = 20 * (3 * 3 + 1 + 1 + 1)
    chains = 20 * (3 + 1)
    assert services < load.elements < services + 100  # and the skeletons of both families
    assert load.messages > load.elements + chains
    assert not load.kept
    assert load.whole > load.encode_and_commit > load.kernel > 0
    assert load.user + load.system > 0
    assert load.child_processes > 2


@pytest.mark.parametrize("back_end", modes.offered())
def test_a_restart_writes_nothing(of: Of, back_end: str) -> None:
    restart = of(back_end).restarted.load
    assert restart.kept
    assert (restart.elements, restart.messages, restart.bytes_sent) == (0, 0, 0)
    assert restart.read_back > 0


def test_a_replaced_endpoint_is_one_slot(of: Of) -> None:
    replaced = of("nftables").loaded.replaced
    assert replaced.count == 8
    # The slot deleted and added; a pod of this node has its hairpin besides.
    assert 2 <= replaced.elements <= 4
    assert 2 <= replaced.messages <= 4


def test_a_change_of_the_count_moves_the_dispatch_too(of: Of) -> None:
    resized = of("nftables").loaded.resized
    # Dispatch deleted and added, and one slot; a slot in the middle is filled by the last one.
    assert 3 <= resized.elements <= 6


def test_a_service_comes_and_goes_with_all_that_is_its(of: Of) -> None:
    loaded = of("nftables").loaded
    # Its dispatch, slots, cluster IP, and the hairpin of every third pod.
    assert loaded.arrived.elements == loaded.departed.elements == 1 + 3 + 1 + 1


def test_a_change_is_one_transaction_and_no_process(of: Of) -> None:
    loaded = of("nftables").loaded
    for changes in (loaded.replaced, loaded.resized, loaded.arrived, loaded.departed):
        assert changes.child_processes == 0
        # One sendmsg, the answer, and the look that finds no other answer.
        assert changes.system_calls == 3


@pytest.mark.parametrize("back_end", VARIANTS)
def test_a_change_in_iptables_mode_is_one_process_and_its_own_rules(of: Of, back_end: str) -> None:
    loaded = of(back_end).loaded
    for changes in (loaded.replaced, loaded.resized, loaded.arrived, loaded.departed):
        assert changes.child_processes == changes.count == 8
        assert changes.p50 > changes.kernel_p50 > 0
        assert changes.elements < 20


@pytest.mark.parametrize("back_end", VARIANTS)
def test_the_programs_are_weighed_themselves(of: Of, back_end: str) -> None:
    measured = of(back_end)
    assert measured.weighed is not None
    ours = measured.loaded.load.peak_megabytes
    assert 1 < measured.weighed.load < ours / 2
    assert 1 < measured.weighed.change < ours / 2


def test_nothing_is_weighed_where_no_program_is_started(of: Of) -> None:
    assert of("nftables").weighed is None


@pytest.mark.parametrize("back_end", VARIANTS)
def test_what_stands_in_for_kube_proxy_is_its_layout(of: Of, back_end: str) -> None:
    stand_in = of(back_end).stand_in
    assert stand_in is not None
    # Chains and rules of an endpoint: 1 + 3; of a Service: 1 + 1, and one in KUBE-SERVICES.
    service = 3 * (1 + 3) + 1 + 1
    shared = 20
    constant = stand_in.lines - 20 * service - shared
    assert 10 < constant < 30
    # A change holds what is shared, and one Service with all endpoints or without one.
    assert stand_in.change_lines == constant + shared + service - 4 / 2
    assert stand_in.first.seconds > 0
    assert stand_in.change_p90 >= stand_in.change_p50 > 0


def test_the_stand_in_is_a_program_that_serves_every_service() -> None:
    sandbox.enter_private()
    restore = ["iptables-nft-restore", "--noflush"]
    program.launch(restore, kube_proxy.JUMPS.encode())
    program.launch(restore, kube_proxy.first(SMALLEST))
    frontends = [one for of in look().services for one in of.frontends]
    wanted = [
        (cluster.cluster_ip(n), tuple(f"{pod}:8080" for pod in cluster.pods(SMALLEST, n)))
        for n in range(20)
    ]
    assert sorted((one.address, one.endpoints) for one in frontends) == sorted(wanted)


def test_a_weighed_program_that_refuses_is_told_as_one() -> None:
    sandbox.enter_private()
    programs = instruments.MeasuredPrograms(instruments.Stopwatch(), weighed=True)
    text = "*nat\n-A OUTPUT --no-such-option\nCOMMIT\n"
    answer = programs.run(["iptables-nft-restore", "--noflush"], text)
    assert answer.status != 0
    assert answer.line == 2


@pytest.mark.parametrize("back_end", modes.offered())
def test_the_program_is_measured_from_its_start_to_its_exit(back_end: str) -> None:
    sandbox.enter_private()
    ran = program.run_once(back_end, SMALLEST)
    assert ran.size == SMALLEST
    assert ran.cost.seconds > 0
    assert ran.cost.user > 0
    assert 15 < ran.cost.peak_megabytes < 60


def test_a_program_that_fails_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = msgspec.structs.replace(cluster.SETTINGS, cluster_cidrs=("10.128.0.0/99",))
    monkeypatch.setattr(program, "SETTINGS", wrong)
    with pytest.raises(program.Failed, match=r"10\.128\.0\.0/99"):
        program.run_once("nftables", SMALLEST)


def test_the_report_names_every_size_and_is_json(of: Of) -> None:
    sizes = [of(back_end) for back_end in modes.offered()]
    found = Report("here", sizes, [], targets(sizes, []))
    told = report.text(found)
    for back_end in modes.offered():
        assert f"{back_end}, Services x endpoints" in told
    assert told.count("20 x 3") == len(modes.offered())
    assert told.count("kube-proxy's layout") == len(VARIANTS)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Report) == found


def test_targets_are_judged_at_their_size(of: Of) -> None:
    large = msgspec.convert(msgspec.to_builtins(of("nftables")), Measured)
    large.services, large.endpoints = 10_000, 10
    judged = {target.what: target.met for target in targets([large], [])}
    assert judged["elements written by a restart"]
    large.restarted.load.elements = 1
    judged = {target.what: target.met for target in targets([large], [])}
    assert not judged["elements written by a restart"]


@pytest.mark.parametrize(("back_end", "limit"), [("iptables-nft", 219), ("iptables-legacy", 380)])
def test_a_change_must_be_twice_as_fast_as_kube_proxys(of: Of, back_end: str, limit: float) -> None:
    large = msgspec.convert(msgspec.to_builtins(of(back_end)), Measured)
    assert targets([large], []) == []
    large.services, large.endpoints = 5_000, 10
    for slowest, met in ((limit, True), (limit + 1, False)):
        large.loaded.replaced.p50 = slowest
        judged = {target.what: target.met for target in targets([large], [])}
        assert judged["one endpoint changed, p50"] is met


@pytest.mark.parametrize(("size", "limit"), [(Size(1_000, 10), 5.9), (Size(5_000, 10), 31.1)])
def test_a_start_with_nft_has_a_limit(size: Size, limit: float) -> None:
    for seconds, met in ((limit - 0.01, True), (limit + 0.01, False)):
        cost = program.Launched(seconds, 0.0, 0.0, 0.0)
        (judged,) = targets([], [program.Ran("iptables-nft", *size, cost)])
        assert judged.met is met


def test_a_closed_standard_output_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert bench.main([]) == 2
    assert "standard output is closed" in capsys.readouterr().err


def test_a_mode_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--mode", "ebpf"]) == 2
    assert "iptables-legacy, ipvs, iptables" in capsys.readouterr().err


def test_pages_follow_the_limit_and_are_accepted_whole() -> None:
    size = Size(501, 101)
    counts = {kind: [0, 0] for kind in Kind}
    for kind, data in cluster.lists(size):
        page = decode_list(data, kind)
        assert page.problems == ()
        assert len(page.objects) <= cluster.PAGE
        counts[kind][0] += 1
        counts[kind][1] += len(page.objects)
    assert counts[Kind.SERVICE] == [2, 501]
    assert counts[Kind.ENDPOINT_SLICE] == [3, 2 * 501]


@pytest.mark.parametrize(
    "text", ["", "10", "0x1", "1x0", "10x", "x10", "1x1x1", "-1x5", "65001x1", "5000x1601"]
)
def test_sizes_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=repr(text)):
        cluster.size(text)
