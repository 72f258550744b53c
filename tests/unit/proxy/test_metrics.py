"""Do the figures have kube-proxy's names, and say what happened?"""

from __future__ import annotations

import threading

import pytest

from modes.base import ApplyReport
from proxy.metrics import Metrics
from tests.unit.proxy.build import CART, PAY

NOON = 1_795_000_000.25


def samples(metrics: Metrics) -> dict[str, float]:
    """Each series and its value."""
    lines = [line for line in metrics.text().decode().splitlines() if not line.startswith("#")]
    return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}


@pytest.fixture
def iptables() -> Metrics:
    return Metrics("iptables", now=lambda: NOON)


def test_before_the_first_sync_everything_is_there(iptables: Metrics) -> None:
    found = samples(iptables)
    assert set(found.values()) == {0}
    names = {series.partition("{")[0] for series in found}
    duration = "kubeproxy_sync_proxy_rules_duration_seconds"
    assert names == {
        f"{duration}_bucket",
        f"{duration}_count",
        f"{duration}_sum",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
        "headgate_xtables_lock_wait_seconds_total",
    }
    buckets = [series for series in found if "bucket" in series and "IPv6" in series]
    assert len(buckets) == 16
    assert buckets[0] == f'{duration}_bucket{{ip_family="IPv6",le="0.001"}}'
    assert buckets[-2:] == [
        f'{duration}_bucket{{ip_family="IPv6",le="16.384"}}',
        f'{duration}_bucket{{ip_family="IPv6",le="+Inf"}}',
    ]


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_a_sync_counts_for_both_families(iptables: Metrics, family: str) -> None:
    iptables.synced(0.003, ApplyReport())
    iptables.synced(20, ApplyReport())
    found = samples(iptables)
    duration, label = "kubeproxy_sync_proxy_rules_duration_seconds", f'{{ip_family="{family}"}}'
    assert found[f"{duration}_count{label}"] == 2
    assert found[f"{duration}_sum{label}"] == pytest.approx(20.003)
    bucket = f'{duration}_bucket{{ip_family="{family}",le='
    assert [found[f'{bucket}"{le}"}}'] for le in ("0.002", "0.004", "+Inf")] == [0, 1, 2]
    assert found[f"kubeproxy_sync_proxy_rules_last_timestamp_seconds{label}"] == NOON
    assert found[f"kubeproxy_sync_proxy_rules_iptables_restore_failures_total{label}"] == 0


def test_the_wait_for_the_lock_adds_up(iptables: Metrics) -> None:
    iptables.synced(2, ApplyReport(waited_seconds=1.5))
    iptables.synced(2, ApplyReport(waited_seconds=0.25))
    assert samples(iptables)["headgate_xtables_lock_wait_seconds_total"] == 1.75


def test_failures(iptables: Metrics) -> None:
    iptables.failed()
    iptables.synced(1, ApplyReport(failed={PAY: "too long", CART: "too long"}))
    found = samples(iptables)
    name = "kubeproxy_sync_proxy_rules_iptables_restore_failures_total"
    assert [found[f'{name}{{ip_family="{family}"}}'] for family in ("IPv4", "IPv6")] == [2, 2]
    # A sync that failed as a whole did not bring the kernel up to date.
    assert found['kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"}'] == 1


def test_the_nftables_mode_has_no_lock_and_no_restore() -> None:
    metrics = Metrics("nftables", now=lambda: NOON)
    metrics.failed()
    metrics.synced(1, ApplyReport(failed={PAY: "too long"}))
    assert not [series for series in samples(metrics) if "iptables" in series or "lock" in series]


def test_two_runs_in_one_process_count_for_themselves(iptables: Metrics) -> None:
    other = Metrics("iptables", now=lambda: NOON)
    other.failed()
    assert set(samples(iptables).values()) == {0}


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
        iptables.synced(0.001, ApplyReport(waited_seconds=1))
    stop.set()
    reader.join()
    assert samples(iptables)["headgate_xtables_lock_wait_seconds_total"] == 200


def test_what_the_kernel_counts_is_asked_when_it_is_read() -> None:
    packets = {"kubeproxy_iptables_ct_state_invalid_dropped_packets": 0}
    counting = Metrics("iptables", lambda: packets)
    packets["kubeproxy_iptables_ct_state_invalid_dropped_packets"] = 7
    line = b"kubeproxy_iptables_ct_state_invalid_dropped_packets_total 7.0"
    assert line in counting.text().splitlines()


def test_the_ipvs_mode_writes_rules_of_iptables_too(iptables: Metrics) -> None:
    ipvs = Metrics("ipvs", now=lambda: NOON)
    assert samples(ipvs).keys() == samples(iptables).keys()
    ipvs.synced(0.1, ApplyReport(waited_seconds=0.5))
    ipvs.failed()
    found = samples(ipvs)
    assert found["headgate_xtables_lock_wait_seconds_total"] == 0.5
    failures = "kubeproxy_sync_proxy_rules_iptables_restore_failures_total"
    assert found[f'{failures}{{ip_family="IPv4"}}'] == 1
