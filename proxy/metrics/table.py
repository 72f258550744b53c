"""Which metrics are there? Pure.

Names, labels and buckets of `kubeproxy_*` are kube-proxy's, so that its dashboards work (REFERENCE
C); `headgate_*` tell what it cannot. docs/metrics.md is made of this table.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from endpoints.names import Family


class Kind(StrEnum):
    """What a metric is."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Row(NamedTuple):
    """A metric."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()
    """Values of the labels that are there from the start, at 0."""
    modes: tuple[str, ...] = ("nftables", "iptables", "ipvs")
    """Those that have it."""
    buckets: tuple[float, ...] = ()
    is_collected: bool = False
    """The kernel counts it, and is asked each time it is read."""


SYNC_BUCKETS = tuple(0.001 * 2**power for power in range(15))
"""1 ms to 16.384 s."""
PROGRAMMING_BUCKETS = (
    0.25,
    0.5,
    *map(float, range(1, 60)),
    *map(float, range(60, 120, 5)),
    *map(float, range(120, 301, 30)),
)
REQUEST_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)

_FAMILY = ("ip_family",)
_FAMILIES = tuple((str(of),) for of in Family)
_CODES = (("200",), ("503",))
_POLICIES = tuple((str(of), policy) for of in Family for policy in ("internal", "external"))
_TABLES = tuple((str(of), table) for of in Family for table in ("filter", "nat"))
_IPTABLES = ("iptables",)
_XTABLES = ("iptables", "ipvs")
_NFTABLES = ("nftables",)
_IN_PARTS = ("nftables", "iptables")

SYNC = "kubeproxy_sync_proxy_rules"

SYNCS = (
    Row(
        f"{SYNC}_duration_seconds",
        Kind.HISTOGRAM,
        "How long syncs took.",
        _FAMILY,
        _FAMILIES,
        buckets=SYNC_BUCKETS,
    ),
    Row(
        "kubeproxy_sync_full_proxy_rules_duration_seconds",
        Kind.HISTOGRAM,
        "How long syncs took that compared all Services with the kernel.",
        _FAMILY,
        _FAMILIES,
        _IN_PARTS,
        SYNC_BUCKETS,
    ),
    Row(
        "kubeproxy_sync_partial_proxy_rules_duration_seconds",
        Kind.HISTOGRAM,
        "How long syncs took that wrote only what had changed.",
        _FAMILY,
        _FAMILIES,
        _IN_PARTS,
        SYNC_BUCKETS,
    ),
    Row(
        f"{SYNC}_last_timestamp_seconds",
        Kind.GAUGE,
        "When the last successful sync ended, or all rules were last compared and found right.",
        _FAMILY,
        _FAMILIES,
    ),
    Row(
        f"{SYNC}_last_queued_timestamp_seconds",
        Kind.GAUGE,
        "When a change last asked for a sync.",
        _FAMILY,
        _FAMILIES,
    ),
    Row(
        "kubeproxy_network_programming_duration_seconds",
        Kind.HISTOGRAM,
        "From the cause of a change of an EndpointSlice, as its annotation tells, to the kernel's "
        "answer. Causes from before the start of the process do not count.",
        _FAMILY,
        _FAMILIES,
        buckets=PROGRAMMING_BUCKETS,
    ),
    Row(
        f"{SYNC}_endpoint_changes_pending",
        Kind.GAUGE,
        "Changed EndpointSlices that no sync has carried yet.",
    ),
    Row(f"{SYNC}_endpoint_changes_total", Kind.COUNTER, "Changes of EndpointSlices."),
    Row(
        f"{SYNC}_service_changes_pending",
        Kind.GAUGE,
        "Changed Services that no sync has carried yet.",
    ),
    Row(f"{SYNC}_service_changes_total", Kind.COUNTER, "Changes of Services."),
    Row(
        f"{SYNC}_no_local_endpoints_total",
        Kind.GAUGE,
        "Service ports that have endpoints, but none on this node, under traffic policy Local.",
        ("ip_family", "traffic_policy"),
        _POLICIES,
    ),
)

OF_MODES = (
    Row(
        f"{SYNC}_iptables_total",
        Kind.GAUGE,
        "Rules in the kernel.",
        ("ip_family", "table"),
        _TABLES,
        _IPTABLES,
    ),
    Row(
        f"{SYNC}_iptables_last",
        Kind.GAUGE,
        "Rules that the last sync wrote.",
        ("ip_family", "table"),
        _TABLES,
        _IPTABLES,
    ),
    Row(
        f"{SYNC}_iptables_restore_failures_total",
        Kind.COUNTER,
        "Syncs that the kernel refused, as a whole or in some Services.",
        _FAMILY,
        _FAMILIES,
        _XTABLES,
    ),
    Row(
        f"{SYNC}_iptables_partial_restore_failures_total",
        Kind.COUNTER,
        "Those of them that wrote only what had changed.",
        _FAMILY,
        _FAMILIES,
        _IPTABLES,
    ),
    Row(
        f"{SYNC}_nftables_sync_failures_total",
        Kind.COUNTER,
        "Syncs that the kernel refused, as a whole or in some Services.",
        _FAMILY,
        _FAMILIES,
        _NFTABLES,
    ),
    Row(
        f"{SYNC}_nftables_cleanup_failures_total",
        Kind.COUNTER,
        "Always 0: nothing is left to be cleaned up by a later transaction.",
        _FAMILY,
        _FAMILIES,
        _NFTABLES,
    ),
    Row(
        "kubeproxy_iptables_ct_state_invalid_dropped_packets_total",
        Kind.COUNTER,
        "Packets that were dropped because conntrack calls them INVALID.",
        modes=_IPTABLES,
        is_collected=True,
    ),
    Row(
        "kubeproxy_iptables_localhost_nodeports_accepted_packets_total",
        Kind.COUNTER,
        "Packets to NodePorts on 127.0.0.1.",
        modes=_IPTABLES,
        is_collected=True,
    ),
    Row(
        "headgate_xtables_lock_wait_seconds_total",
        Kind.COUNTER,
        "How long syncs waited for the xtables lock.",
        modes=_XTABLES,
    ),
)

AROUND = (
    Row(
        "kubeproxy_conntrack_reconciler_sync_duration_seconds",
        Kind.HISTOGRAM,
        "How long it took to find and delete flows that had become lies.",
        _FAMILY,
        _FAMILIES,
        buckets=SYNC_BUCKETS,
    ),
    Row(
        "kubeproxy_conntrack_reconciler_deleted_entries_total",
        Kind.COUNTER,
        "Flows that were deleted.",
        _FAMILY,
        _FAMILIES,
    ),
    Row("kubeproxy_proxy_healthz_total", Kind.COUNTER, "Answers of /healthz.", ("code",), _CODES),
    Row("kubeproxy_proxy_livez_total", Kind.COUNTER, "Answers of /livez.", ("code",), _CODES),
    Row(
        "rest_client_requests_total",
        Kind.COUNTER,
        "Requests to the API server; `<error>`: no answer.",
        ("code", "method", "host"),
    ),
    Row(
        "rest_client_request_duration_seconds",
        Kind.HISTOGRAM,
        "From a request to the API server to the head of its answer.",
        ("verb", "host"),
        buckets=REQUEST_BUCKETS,
    ),
    Row(
        "kubernetes_build_info",
        Kind.GAUGE,
        "Always 1; the labels tell which headgate this is, and what it runs on.",
        ("git_version", "major", "minor", "compiler", "platform"),
    ),
    Row(
        "kubernetes_feature_enabled",
        Kind.GAUGE,
        "No series: headgate has no feature gates.",
        ("name", "stage"),
    ),
)

OURS = (
    Row(
        "headgate_sync_failures_total",
        Kind.COUNTER,
        "Syncs that failed as a whole: what the kernel held then is not known.",
        ("mode",),
    ),
    Row("headgate_services", Kind.GAUGE, "Services that are ours to serve."),
    Row(
        "headgate_refused_services",
        Kind.GAUGE,
        "Services that the kernel refuses now; each is named in the log.",
    ),
    Row(
        "headgate_skipped_objects_total",
        Kind.COUNTER,
        "Objects, or parts of them, that could not be used; each is named in the log.",
        ("kind",),
        (("Service",), ("EndpointSlice",), ("Node",), ("other",)),
    ),
    Row(
        "headgate_first_sync_timestamp_seconds",
        Kind.GAUGE,
        "When the first sync ended; 0: not yet.",
    ),
    Row(
        "headgate_first_sync_duration_seconds",
        Kind.GAUGE,
        "From the start of the process to the end of the first sync; 0: not yet.",
    ),
    Row(
        "headgate_queue_depth",
        Kind.GAUGE,
        "Messages that wait for the thread that syncs.",
    ),
    Row(
        "headgate_sync_busy_seconds",
        Kind.GAUGE,
        "For how long that thread has worked without a pause; 0: it waits.",
    ),
    Row(
        "headgate_drift_found_total",
        Kind.COUNTER,
        "Times that our rules were found changed, by the name of the process that did it: "
        "`unknown` where the kernel does not tell, `other` after the first 20 names.",
        ("author",),
    ),
    Row("headgate_drift_repaired_total", Kind.COUNTER, "Times that they were repaired."),
    Row(
        "headgate_drift_repair_duration_seconds",
        Kind.HISTOGRAM,
        "From the notice of a change to the kernel's last answer to its repair.",
        buckets=SYNC_BUCKETS,
    ),
    Row(
        "headgate_drift_fights_total",
        Kind.COUNTER,
        "Repairs after which the next had to wait: another program changes the rules back.",
    ),
    Row(
        "headgate_config_reloads_total",
        Kind.COUNTER,
        "Changes of the configuration file.",
        ("result",),
        (("applied",), ("refused",), ("restart",)),
    ),
)

PROCESS = (
    Row("process_cpu_seconds_total", Kind.COUNTER, "Time on processors.", is_collected=True),
    Row("process_resident_memory_bytes", Kind.GAUGE, "Memory in use.", is_collected=True),
    Row("process_virtual_memory_bytes", Kind.GAUGE, "Address space.", is_collected=True),
    Row("process_start_time_seconds", Kind.GAUGE, "When it started.", is_collected=True),
    Row("process_open_fds", Kind.GAUGE, "Open files.", is_collected=True),
    Row("process_max_fds", Kind.GAUGE, "How many may be open.", is_collected=True),
)

TABLE = (*SYNCS, *OF_MODES, *AROUND, *OURS, *PROCESS)
