"""What API server do both proxies follow where there is no real one? A process of its own.

`python -m tests.bench.whole.fake_server SERVICESxENDPOINTS` serves such a cluster on loopback, in
the network namespace that it was started in, and ends with its standard input. It prints its URL
when everything is there.
"""

from __future__ import annotations

import gc
import sys

from tests.apiserver.fake import FakeApiServer
from tests.apiserver.requests import SERVICE_CIDR
from tests.apiserver.store import Json, Store
from tests.bench import cluster
from tests.bench.cluster import Size
from tests.bench.whole import content

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
    store.put(content.node(cluster.ZONES[0]))
    store.put(_SERVICE_CIDR)
    store.put_all(content.namespace(name) for name in cluster.namespaces(of))
    store.put_all(content.objects(of))


def main(of: Size) -> None:
    """Serve until the standard input ends."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    server = FakeApiServer()
    try:
        fill(server.store, of)
        gc.freeze()  # what is there stays, and is not looked through again and again
        print(server.url, flush=True)
        sys.stdin.read()
    finally:
        server.stop()


if __name__ == "__main__":
    main(cluster.size(sys.argv[1]))
