"""What is in docs/metrics.md? Prints it, made from the table of metrics."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from modes.registry import MODES
from proxy.metrics.table import (
    AROUND,
    OF_MODES,
    OURS,
    PROCESS,
    PROGRAMMING_BUCKETS,
    REQUEST_BUCKETS,
    SYNC_BUCKETS,
    SYNCS,
    Row,
)

HEAD = """\
# Health and metrics

Made from the code by `make docs`; a test compares.

## Health

On `--healthz-bind-address`, 0.0.0.0:10256 if nothing is said; a wildcard stands for both families.
Status 200 or 503, and kube-proxy's JSON; a 503 has a field `reason` besides, in words.

| path | 503 when |
|---|---|
| `/healthz` | the first sync is not done; a change has waited for the kernel, or a sync has not \
ended, for two sync periods (60 s); rules that somebody else changed are not repaired after 5 s; \
the Node is not there, is being deleted, or has the taint `ToBeDeletedByClusterAutoscaler` |
| `/livez` | the first sync is done, and a change has waited, or a sync has not ended, for two \
sync periods |

`/livez` is for liveness and startup probes: while it is 200, a restart would not help. `/healthz`
is for readiness probes and load balancers. A Service that the kernel refuses makes nobody
unhealthy: see `headgate_refused_services` and the log.

Load balancers ask the `healthCheckNodePort` of a Service (LoadBalancer, externalTrafficPolicy
Local) where NodePorts answer: 200 if ready endpoints are on this node and `/healthz` would be 200
but for the Node, else 503; the header `X-Load-Balancing-Endpoint-Weight` tells how many. A port
that cannot be listened on is told by an Event `FailedToStartServiceHealthcheck`, and tried again.

## Figures

On `--metrics-bind-address`, 127.0.0.1:10249 if nothing is said: `/metrics`, `/proxyMode`,
`/configz`, and `/healthz`, which says `ok`. deploy/grafana-dashboard.json shows them,
deploy/alerts.yaml has alerts, and [monitoring.md](monitoring.md) says how they are reached.

Names, labels and buckets of `kubeproxy_*` are kube-proxy's. It has a loop for each family; here
one sync brings up both, and counts for both. Not there: `kubeproxy_nftables_localhost_nodeport_*`
(they count kube-proxy's listeners on 127.0.0.1; here the kernel does that), `go_*`, and of
`rest_client_*` what only Go's client has.

Buckets in seconds: {sync} for syncs; {programming} for the
latency of programming; {request} for requests.
"""
SECTIONS = (
    ("Syncs", SYNCS),
    ("Of some modes", OF_MODES),
    ("Around", AROUND),
    ("Only here", OURS),
    ("Of the process", PROCESS),
)


def page() -> Iterator[str]:
    """The lines of the page."""
    yield from HEAD.format(
        sync=f"{SYNC_BUCKETS[0]} to {SYNC_BUCKETS[-1]}, each twice the one before,",
        programming=f"{PROGRAMMING_BUCKETS[0]} to {PROGRAMMING_BUCKETS[-1]:.0f}",
        request=f"{REQUEST_BUCKETS[0]} to {REQUEST_BUCKETS[-1]:.0f}",
    ).splitlines()
    for title, rows in SECTIONS:
        yield from ("", f"### {title}", "")
        yield "| metric | type | labels | modes | meaning |"
        yield "|---|---|---|---|---|"
        yield from map(line, rows)


def line(row: Row) -> str:
    """The row of a metric."""
    labels = ", ".join(f"`{label}`" for label in row.labels)
    modes = "all" if set(row.modes) == set(MODES) else ", ".join(row.modes)
    return f"| `{row.name}` | {row.kind} | {labels} | {modes} | {row.meaning} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(page()) + "\n")
