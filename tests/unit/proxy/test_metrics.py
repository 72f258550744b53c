"""Do the figures have kube-proxy's names, and say what happened?"""

from __future__ import annotations

import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from endpoints.events import Problem
from endpoints.names import Family, ObjectName
from endpoints.objects import EndpointSlice, ServicePort
from modes.base import ApplyReport, Foreign, TableRules
from modes.registry import MODES
from proxy.metrics.metrics import MOST_AUTHORS, Metrics, Sources
from proxy.metrics.no_local import NoLocal
from proxy.metrics.table import PROGRAMMING_BUCKETS, TABLE
from proxy.observer import Repair, Synced
from tests.unit.endpoints.build import NODE_A, endpoint, endpoint_slice, planned, service
from tests.unit.proxy.build import CART, PAY

NOON = 1_795_000_000.25
SYNC = "kubeproxy_sync_proxy_rules"
BOTH_FAMILIES = pytest.mark.parametrize("family", ["IPv4", "IPv6"])


class Clock:
    """A time of the day that moves when it is told to."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def iptables(clock: Clock) -> Metrics:
    return Metrics("iptables", now=clock)


@pytest.fixture
def nftables(clock: Clock) -> Metrics:
    return Metrics("nftables", now=clock)


def samples(metrics: Metrics) -> dict[str, float]:
    """Each series and its value, without those of the process."""
    lines = [line for line in metrics.text().decode().splitlines() if not line.startswith("#")]
    found = {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}
    return {series: value for series, value in found.items() if not series.startswith("process_")}


def changed(metrics: Metrics, before: dict[str, float]) -> dict[str, float]:
    """What is different now, without buckets."""
    after = samples(metrics)
    return {
        series: value
        for series, value in after.items()
        if value != before.get(series, 0.0) and "_bucket" not in series
    }


def sync(
    *,
    seconds: float = 0.25,
    full: bool = False,
    report: ApplyReport | None = None,
    triggered: tuple[float, ...] = (),
) -> Synced:
    return Synced(seconds, report or ApplyReport(), full, 7, NODE_A, triggered)


@pytest.mark.parametrize("mode", MODES)
def test_all_that_a_mode_has_is_there_from_the_start_and_nothing_else(mode: str) -> None:
    packets = {
        "kubeproxy_iptables_ct_state_invalid_dropped_packets": 0,
        "kubeproxy_iptables_localhost_nodeports_accepted_packets": 0,
    }
    metrics = Metrics(mode, Sources(lambda: packets if mode == "iptables" else {}))
    families = text_string_to_metric_families(metrics.text().decode())
    found = {
        (f"{family.name}_total" if family.type == "counter" else family.name): family.type
        for family in families
    }
    assert found == {row.name: row.kind for row in TABLE if mode in row.modes}
    values = {series: value for series, value in samples(metrics).items() if value}
    [(build, one)] = values.items()
    assert one == 1
    assert build.startswith('kubernetes_build_info{compiler="CPython')
    assert 'git_version="v0.1.0"' in build


def test_a_name_twice_is_no_table() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE)


def test_the_buckets_of_kube_proxy(iptables: Metrics) -> None:
    found = samples(iptables)
    buckets = [s for s in found if s.startswith(f"{SYNC}_duration_seconds_bucket") and "v6" in s]
    assert len(buckets) == 16
    assert buckets[0] == f'{SYNC}_duration_seconds_bucket{{ip_family="IPv6",le="0.001"}}'
    assert buckets[-2:] == [
        f'{SYNC}_duration_seconds_bucket{{ip_family="IPv6",le="16.384"}}',
        f'{SYNC}_duration_seconds_bucket{{ip_family="IPv6",le="+Inf"}}',
    ]
    assert len(PROGRAMMING_BUCKETS) == 2 + 59 + 12 + 7
    assert PROGRAMMING_BUCKETS[:4] == (0.25, 0.5, 1, 2)
    assert PROGRAMMING_BUCKETS[60:63] == (59, 60, 65)
    assert PROGRAMMING_BUCKETS[-8:] == (115, 120, 150, 180, 210, 240, 270, 300)


@BOTH_FAMILIES
def test_a_sync_counts_for_both_families(iptables: Metrics, clock: Clock, family: str) -> None:
    iptables.synced(sync(seconds=0.003, full=True))
    clock.now = NOON + 5
    iptables.synced(sync(seconds=20))
    found, label = samples(iptables), f'{{ip_family="{family}"}}'
    assert found[f"{SYNC}_duration_seconds_count{label}"] == 2
    assert found[f"{SYNC}_duration_seconds_sum{label}"] == pytest.approx(20.003)
    bucket = f'{SYNC}_duration_seconds_bucket{{ip_family="{family}",le='
    assert [found[f'{bucket}"{le}"}}'] for le in ("0.002", "0.004", "+Inf")] == [0, 1, 2]
    assert found[f"kubeproxy_sync_full_proxy_rules_duration_seconds_sum{label}"] == 0.003
    assert found[f"kubeproxy_sync_partial_proxy_rules_duration_seconds_sum{label}"] == 20
    assert found[f"{SYNC}_last_timestamp_seconds{label}"] == NOON + 5
    assert found["headgate_services"] == 7


def test_the_first_sync(nftables: Metrics, clock: Clock) -> None:
    clock.now = NOON + 1.5
    nftables.synced(sync(full=True))
    clock.now = NOON + 9
    nftables.synced(sync(full=True))
    found = samples(nftables)
    assert found["headgate_first_sync_timestamp_seconds"] == NOON + 1.5
    assert found["headgate_first_sync_duration_seconds"] == 1.5


def test_what_waits_for_a_sync(nftables: Metrics, clock: Clock) -> None:
    clock.now = NOON + 3
    nftables.queued(2, 5)
    nftables.queued(0, 1)
    assert (
        changed(nftables, {}).items()
        >= {
            f"{SYNC}_service_changes_pending": 2.0,
            f"{SYNC}_service_changes_total": 2.0,
            f"{SYNC}_endpoint_changes_pending": 6.0,
            f"{SYNC}_endpoint_changes_total": 6.0,
            f'{SYNC}_last_queued_timestamp_seconds{{ip_family="IPv4"}}': NOON + 3,
            f'{SYNC}_last_queued_timestamp_seconds{{ip_family="IPv6"}}': NOON + 3,
        }.items()
    )
    nftables.failed("busy")
    assert samples(nftables)[f"{SYNC}_endpoint_changes_pending"] == 6
    nftables.synced(sync(full=True))
    found = samples(nftables)
    assert (
        found[f"{SYNC}_endpoint_changes_pending"] == found[f"{SYNC}_service_changes_pending"] == 0
    )
    assert found[f"{SYNC}_endpoint_changes_total"] == 6


@BOTH_FAMILIES
def test_the_latency_of_programming(nftables: Metrics, clock: Clock, family: str) -> None:
    clock.now = NOON + 10
    # One from before the start, and one of a clock that is ahead of ours.
    nftables.synced(sync(triggered=(NOON - 1, NOON + 9.6, NOON + 4, NOON + 11)))
    found, label = samples(nftables), f'{{ip_family="{family}"'
    name = "kubeproxy_network_programming_duration_seconds"
    assert found[f"{name}_count{label}}}"] == 3
    assert found[f"{name}_sum{label}}}"] == pytest.approx(6.4)
    assert [found[f'{name}_bucket{label},le="{le}"}}'] for le in ("0.25", "0.5", "5.0", "6.0")] == [
        1,
        2,
        2,
        3,
    ]


def test_the_wait_for_the_lock_adds_up(iptables: Metrics) -> None:
    iptables.synced(sync(report=ApplyReport(waited_seconds=1.5)))
    iptables.synced(sync(report=ApplyReport(waited_seconds=0.25)))
    assert samples(iptables)["headgate_xtables_lock_wait_seconds_total"] == 1.75


def test_rules_of_iptables(iptables: Metrics) -> None:
    def told() -> list[float]:
        found, nat = samples(iptables), '{ip_family="IPv6",table="nat"}'
        return [found[f"{SYNC}_iptables_{what}{nat}"] for what in ("total", "last")]

    assert told() == [0, 0]
    rules = TableRules(Family.IPV6, "nat", total=40, written=7)
    iptables.synced(sync(full=True, report=ApplyReport(tables=(rules,))))
    assert told() == [40, 7]
    iptables.synced(sync())
    assert told() == [40, 0]


FAILURES = {
    "iptables": {f"{SYNC}_iptables_restore_failures_total": 5},
    "nftables": {f"{SYNC}_nftables_sync_failures_total": 5},
    "ipvs": {f"{SYNC}_iptables_restore_failures_total": 5},
}
PARTIAL = f"{SYNC}_iptables_partial_restore_failures_total"


@pytest.mark.parametrize("mode", MODES)
def test_failures(mode: str) -> None:
    metrics = Metrics(mode, now=lambda: NOON)
    before = samples(metrics)
    assert before[f'headgate_sync_failures_total{{mode="{mode}"}}'] == 0
    metrics.planning_all()
    metrics.failed("busy")
    metrics.planning_all()
    metrics.synced(sync(full=True, report=ApplyReport(failed={PAY: "too long"})))
    metrics.synced(sync(report=ApplyReport(failed={PAY: "too long", CART: "too long"})))
    metrics.failed("busy")
    metrics.failed("cannot even begin")  # what follows a failure compares everything
    expected = FAILURES[mode] | ({PARTIAL: 2} if mode == "iptables" else {})
    wanted = {
        f'{name}{{ip_family="{family}"}}': value
        for name, value in expected.items()
        for family in Family
    }
    found = {s: v for s, v in changed(metrics, before).items() if "failures" in s}
    assert found == wanted | {f'headgate_sync_failures_total{{mode="{mode}"}}': 3}


def test_services_that_are_refused_now(nftables: Metrics) -> None:
    def refused() -> float:
        return samples(nftables)["headgate_refused_services"]

    nftables.synced(sync(full=True, report=ApplyReport(failed={PAY: "too long", CART: "no"})))
    assert refused() == 2
    nftables.planned(ObjectName("shop", "other"), ())
    nftables.synced(sync())
    assert refused() == 2
    nftables.planned(PAY, ())
    nftables.synced(sync())
    assert refused() == 1
    nftables.planned(CART, ())
    nftables.synced(sync(report=ApplyReport(failed={CART: "still"})))
    assert refused() == 1
    nftables.planning_all()
    nftables.synced(sync(full=True))
    assert refused() == 0


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        ("Service shop/pay", "Service"),
        ("pay.yaml:12: EndpointSlice shop/pay-1", "EndpointSlice"),
        ("Node node-a", "Node"),
        ("pay.yaml:12", "other"),
        ("Services", "other"),
    ],
)
def test_objects_that_are_skipped(nftables: Metrics, subject: str, kind: str) -> None:
    before = samples(nftables)
    nftables.skipped(Problem(subject, "spec.ports", "x", "no"))
    assert changed(nftables, before) == {f'headgate_skipped_objects_total{{kind="{kind}"}}': 1}


def test_drift(nftables: Metrics) -> None:
    before = samples(nftables)
    cause = Foreign("table ip headgate deleted", "nft", 4711)
    nftables.drifted(cause)
    nftables.drifted(cause)  # the same, while nobody may look yet
    nftables.settled()
    nftables.repaired(Repair(cause, 0.125, ApplyReport()))
    nftables.drifted(Foreign("a rule deleted"))
    nftables.settled()
    nftables.drifted(cause)
    nftables.repaired(Repair(cause, 0.125, ApplyReport()))
    nftables.fought(cause, 2)
    assert changed(nftables, before) == {
        'headgate_drift_found_total{author="nft"}': 2,
        'headgate_drift_found_total{author="unknown"}': 1,
        "headgate_drift_repaired_total": 2,
        "headgate_drift_repair_duration_seconds_count": 2,
        "headgate_drift_repair_duration_seconds_sum": 0.25,
        "headgate_drift_fights_total": 1,
    }


def test_authors_without_end_are_no_series_without_end(nftables: Metrics) -> None:
    for number in (*range(500), 3):
        nftables.drifted(Foreign("flushed", f"script-{number}"))
        nftables.settled()
    found = {s: v for s, v in samples(nftables).items() if s.startswith("headgate_drift_found")}
    assert len(found) == MOST_AUTHORS + 1
    assert found['headgate_drift_found_total{author="other"}'] == 500 - MOST_AUTHORS
    assert found['headgate_drift_found_total{author="script-3"}'] == 2


def test_flows_that_are_deleted(nftables: Metrics) -> None:
    before = samples(nftables)
    nftables.cleaned({Family.IPV4: 3}, {Family.IPV4: 0.5, Family.IPV6: 0.25})
    reconciler = "kubeproxy_conntrack_reconciler"
    assert changed(nftables, before) == {
        f'{reconciler}_deleted_entries_total{{ip_family="IPv4"}}': 3,
        f'{reconciler}_sync_duration_seconds_count{{ip_family="IPv4"}}': 1,
        f'{reconciler}_sync_duration_seconds_sum{{ip_family="IPv4"}}': 0.5,
        f'{reconciler}_sync_duration_seconds_count{{ip_family="IPv6"}}': 1,
        f'{reconciler}_sync_duration_seconds_sum{{ip_family="IPv6"}}': 0.25,
    }


def test_probes_requests_and_reloads(nftables: Metrics) -> None:
    before = samples(nftables)
    nftables.probed("/healthz", 503)
    nftables.probed("/livez", 200)
    nftables.answered("GET", "200", "10.0.0.1:6443", 0.5)
    nftables.reloaded("refused")
    assert changed(nftables, before) == {
        'kubeproxy_proxy_healthz_total{code="503"}': 1,
        'kubeproxy_proxy_livez_total{code="200"}': 1,
        'rest_client_requests_total{code="200",host="10.0.0.1:6443",method="GET"}': 1,
        'rest_client_request_duration_seconds_count{host="10.0.0.1:6443",verb="GET"}': 1,
        'rest_client_request_duration_seconds_sum{host="10.0.0.1:6443",verb="GET"}': 0.5,
        'headgate_config_reloads_total{result="refused"}': 1,
    }


def test_what_others_count_is_asked_when_it_is_read() -> None:
    packets, depth, busy = {"kubeproxy_iptables_ct_state_invalid_dropped_packets": 0}, 0.0, 0.0
    counting = Metrics("iptables", Sources(lambda: packets, lambda: depth, lambda: busy))
    packets["kubeproxy_iptables_ct_state_invalid_dropped_packets"] = 7
    depth, busy = 3, 0.5
    found = samples(counting)
    assert found["kubeproxy_iptables_ct_state_invalid_dropped_packets_total"] == 7
    assert (found["headgate_queue_depth"], found["headgate_sync_busy_seconds"]) == (3, 0.5)


def test_two_runs_in_one_process_count_for_themselves(iptables: Metrics, clock: Clock) -> None:
    before = samples(iptables)
    Metrics("iptables", now=clock).failed("busy")
    assert samples(iptables) == before


def test_they_are_read_while_they_count(iptables: Metrics) -> None:
    reading = threading.Event()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            iptables.text()
            reading.set()

    reader = threading.Thread(target=read)
    reader.start()
    reading.wait()
    for _ in range(200):
        iptables.synced(sync(report=ApplyReport(waited_seconds=1)))
    stop.set()
    reader.join()
    assert samples(iptables)["headgate_xtables_lock_wait_seconds_total"] == 200


PORTS = [ServicePort(port=80, name="http", node_port=30080)]
AWAY = endpoint_slice(endpoint("10.244.2.2", "node-b"))
HERE = endpoint_slice(endpoint("10.244.2.2", "node-b"), endpoint("10.244.1.2", "node-a"))
GONE = endpoint_slice()


@pytest.mark.parametrize(
    ("internal", "external", "slices", "expected"),
    [
        ("Local", "Local", AWAY, {"internal": 1, "external": 1}),
        ("Local", "Cluster", AWAY, {"internal": 1}),
        ("Cluster", "Local", AWAY, {"external": 1}),
        ("Cluster", "Cluster", AWAY, {}),
        ("Local", "Local", HERE, {}),
        ("Local", "Local", GONE, {}),
    ],
)
def test_who_has_no_local_endpoints(
    internal: str, external: str, slices: EndpointSlice, expected: dict[str, int]
) -> None:
    of = service(type="NodePort", ports=PORTS, internal=internal, external=external)
    counting = NoLocal()
    counting.put(PAY, (planned(of, slices),))
    assert counting.counts == {(Family.IPV4, policy): n for policy, n in expected.items()}
    # Said again it is the same; another Service counts besides; what goes counts no more.
    counting.put(PAY, (planned(of, slices),))
    counting.put(CART, (planned(of, AWAY), planned(of, AWAY)))
    counting.put(PAY, (planned(of, HERE),))
    counting.put(CART, ())
    assert not any(counting.counts.values())


def test_no_local_endpoints_are_told_after_the_sync(nftables: Metrics) -> None:
    plan = planned(service(internal="Local"), AWAY)
    series = f'{SYNC}_no_local_endpoints_total{{ip_family="IPv4",traffic_policy="internal"}}'
    nftables.planned(PAY, (plan,))
    nftables.planned(CART, (plan,))
    assert samples(nftables)[series] == 0
    nftables.synced(sync())
    assert samples(nftables)[series] == 2
    nftables.planning_all()
    nftables.planned(CART, (plan,))
    nftables.synced(sync(full=True))
    assert samples(nftables)[series] == 1
