"""What API server do both proxies follow where there is no real one? A process of its own.

`python -m tests.bench.whole.fake_server SERVICESxENDPOINTS` serves such a cluster on loopback, in
the network namespace that it was started in, and ends with its standard input. It prints its URL
when everything is there; for a line `RATE SECONDS` it lets EndpointSlices change, and prints a
`Flow` when that is over.
"""

from __future__ import annotations

import gc
import sys
import threading

import msgspec

from tests.apiserver.fake import FakeApiServer
from tests.apiserver.requests import SERVICE_CIDR
from tests.apiserver.store import Json, Store
from tests.bench import cluster
from tests.bench.cluster import Size
from tests.bench.whole.flow import flow
from tests.bench.whole.stored import everything

_SWITCH_SECONDS = 0.0005
"""A thread that is at work lets others go on after so long: who waits for an answer waits less."""
_SERVICE_CIDR: Json = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": SERVICE_CIDR,
    "metadata": {"name": "kubernetes"},
    "spec": {"cidrs": ["10.96.0.0/16"]},
}


def fill(store: Store, of: Size) -> None:
    """Put in a cluster of a size, with its node and namespaces."""
    store.put(_SERVICE_CIDR)
    store.put_all(everything(of))


def main(of: Size) -> None:
    """Serve until the standard input ends."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    server = FakeApiServer()
    try:
        fill(server.store, of)
        gc.freeze()  # what is there stays, and is not looked through again and again
        print(server.url, flush=True)
        for line in sys.stdin:
            rate, seconds = map(float, line.split())
            threading.Thread(target=_flow, args=(server.store, rate, seconds), daemon=True).start()
    finally:
        server.stop()


def _flow(store: Store, rate: float, seconds: float) -> None:
    """Let it flow, and print how much there was; an empty line if it broke off."""
    told = ""
    try:
        told = msgspec.json.encode(
            flow(store, cluster.service_port(0).name, rate, seconds)
        ).decode()
    finally:
        print(told, flush=True)


if __name__ == "__main__":
    main(cluster.size(sys.argv[1]))
