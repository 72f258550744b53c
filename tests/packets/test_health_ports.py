"""Does a load balancer that asks a healthCheckNodePort hear the truth, where and when it should?

A node in a network namespace of its own, with real sockets.
"""

from __future__ import annotations

import http.client
import logging
import os
import queue
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import NamedTuple

import pytest

from endpoints.names import Family, ObjectName, Protocol, ServicePortName
from endpoints.node import NodePortAddresses, NodeView
from endpoints.plan import Endpoint, ServicePlan
from modes.base import ApplyReport, Plans
from proxy import open_files
from proxy.observer import Synced
from proxy.serving import health_ports
from proxy.serving.health_ports import HealthPorts
from tests.lab import namespaces, sandbox

PAY, CART = ObjectName("shop", "pay"), ObjectName("shop", "cart")
HOST_V4, OTHER_V4, HOST_V6 = "192.168.0.11", "192.168.0.12", "fd00:192:168::11"
PORT = 32100
PRIMARY = NodeView(
    "node-a",
    node_ports_v4=NodePortAddresses(addresses=(HOST_V4,)),
    node_ports_v6=NodePortAddresses(addresses=(HOST_V6,)),
)
EVERYWHERE = NodeView(
    "node-a",
    node_ports_v4=NodePortAddresses(match_all=True),
    node_ports_v6=NodePortAddresses(match_all=True),
)


class Said(NamedTuple):
    """An answer."""

    status: int
    weight: str | None
    body: bytes


def ask(address: str, port: int = PORT, method: str = "GET", path: str = "/") -> Said | None:
    """What is said there; None: nobody listens."""
    connection = http.client.HTTPConnection(address, port, timeout=10)
    try:
        connection.request(method, path, b"" if method == "POST" else None)
        response = connection.getresponse()
        weight = response.getheader("X-Load-Balancing-Endpoint-Weight")
        return Said(response.status, weight, response.read())
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()


def weights(*addresses: str, port: int = PORT) -> list[str | None]:
    return [said.weight if (said := ask(address, port)) else None for address in addresses]


def plans(name: ObjectName = PAY, port: int | None = PORT, **local: int) -> Plans:
    """A Service with so many local endpoints in the families `v4` and `v6`."""
    found = []
    for key, count in local.items():
        family, network = (
            (Family.IPV4, "10.244.1.") if key == "v4" else (Family.IPV6, "fd00:10:244:1::")
        )
        rows = tuple(Endpoint(f"{network}{n + 2}", 8080, is_local=True) for n in range(count))
        of = ServicePortName(name.namespace, name.name, "http", Protocol.TCP)
        found.append(
            ServicePlan(of, family, (), rows, rows, bool(rows), health_check_node_port=port)
        )
    return tuple(found)


class Node:
    """The ports of a node, told of what syncs do."""

    def __init__(self) -> None:
        self.healthy = True
        self.failures: queue.SimpleQueue[tuple[ObjectName, int, str]] = queue.SimpleQueue()
        self.ports = HealthPorts(lambda: self.healthy, lambda *failure: self.failures.put(failure))

    def sync(self, *changes: tuple[ObjectName, Plans], view: NodeView = PRIMARY) -> None:
        """A sync carries these changes; return when the ports are as they should be."""
        for name, of in changes:
            self.ports.planned(name, of)
        self.finish(view)

    def sync_all(self, *services: tuple[ObjectName, Plans], view: NodeView = PRIMARY) -> None:
        self.ports.planning_all()
        self.sync(*services, view=view)

    def finish(self, view: NodeView = PRIMARY) -> None:
        self.ports.synced(Synced(0.1, ApplyReport(), full=False, services=1, node=view))
        if self.ports._web is not None:
            done = threading.Event()
            self.ports._web.call(done.set)
            assert done.wait(10)

    def failed(self) -> list[tuple[ObjectName, int, str]]:
        return [self.failures.get_nowait() for _ in range(self.failures.qsize())]


def wait_until_local(address: str) -> None:
    """The kernel says yes to an address of IPv6, and makes its local route a moment later.

    Until then the route of its prefix leads there, by which connections begin and get nowhere.
    """
    listing = ["ip", "-6", "route", "show", "table", "local", address]
    while not subprocess.run(listing, check=True, capture_output=True).stdout:
        os.sched_yield()


@pytest.fixture
def node() -> Iterator[Node]:
    with sandbox.own_network():
        namespaces.loopback_up()
        for address in (f"{HOST_V4}/32", f"{OTHER_V4}/32", f"{HOST_V6}/128"):
            # Without nodad an address is tentative for a moment, even on lo: nothing can use it.
            flags = ["nodad"] if ":" in address else []
            subprocess.run(["ip", "address", "add", address, "dev", "lo", *flags], check=True)
        wait_until_local(HOST_V6)
        built = Node()
        try:
            yield built
        finally:
            built.ports.stop()


def web_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "health-ports"]


def test_without_such_services_there_is_no_thread(node: Node) -> None:
    node.sync_all((PAY, plans(port=None, v4=1)))
    assert web_threads() == []
    node.sync((PAY, plans(v4=1)))
    assert web_threads() == ["health-ports"]
    node.ports.stop()
    assert web_threads() == []
    assert ask(HOST_V4) is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_any_path_and_method_is_answered(node: Node, method: str) -> None:
    node.sync((PAY, plans(v4=2)))
    for path in ("/", "/healthz?x=1", "*"):
        said = ask(HOST_V4, PORT, method, path)
        assert said is not None
        assert said[:2] == (200, "2")
        assert (said.body == b"") is (method == "HEAD")


def test_it_follows_the_endpoints_of_each_family(node: Node) -> None:
    node.sync((PAY, plans(v4=2, v6=1)))
    assert weights(HOST_V4, HOST_V6) == ["2", "1"]
    node.sync((PAY, plans(v4=0, v6=3)))
    assert ask(HOST_V4) == Said(
        503,
        "0",
        b'{\n\t"service": {\n\t\t"namespace": "shop",\n\t\t"name": "pay"\n\t},\n'
        b'\t"localEndpoints": 0,\n\t"serviceProxyHealthy": true\n}',
    )
    assert weights(HOST_V6) == ["3"]
    node.sync((PAY, plans(v6=3)))
    assert weights(HOST_V4, HOST_V6) == [None, "3"]


def test_a_node_that_is_unhealthy_says_so(node: Node) -> None:
    node.sync((PAY, plans(v4=2)))
    node.healthy = False
    said = ask(HOST_V4)
    assert said is not None
    assert said[:2] == (503, "2")
    assert b'"serviceProxyHealthy": false' in said.body
    node.healthy = True
    assert (ask(HOST_V4) or said).status == 200


def test_nothing_is_told_before_the_kernel_has_it(node: Node) -> None:
    node.ports.planned(PAY, plans(v4=1))
    node.ports.failed("busy")
    assert ask(HOST_V4) is None
    node.ports.planning_all()
    node.ports.failed("busy")
    node.ports.planning_all()
    node.sync((PAY, plans(v4=2)))
    node.ports.planned(PAY, plans(v4=5))
    assert weights(HOST_V4) == ["2"]


def test_it_listens_on_the_addresses_of_node_ports_only(node: Node) -> None:
    node.sync((PAY, plans(v4=1, v6=1)))
    assert weights(HOST_V4, OTHER_V4, "127.0.0.1", HOST_V6, "::1") == ["1", None, None, "1", None]
    node.sync(view=EVERYWHERE)
    assert weights(HOST_V4, OTHER_V4, "127.0.0.1", HOST_V6, "::1") == ["1"] * 5
    both = NodeView("node-a", node_ports_v4=NodePortAddresses(addresses=(HOST_V4, OTHER_V4)))
    node.sync(view=both)
    assert weights(HOST_V4, OTHER_V4, "127.0.0.1", HOST_V6) == ["1", "1", None, None]


def test_a_port_that_changes_and_a_service_that_goes(node: Node) -> None:
    node.sync((PAY, plans(v4=1)), (CART, plans(CART, 32200, v4=2)))
    assert (weights(HOST_V4), weights(HOST_V4, port=32200)) == (["1"], ["2"])
    node.sync((PAY, plans(port=32300, v4=1)))
    assert (weights(HOST_V4), weights(HOST_V4, port=32300)) == ([None], ["1"])
    node.sync((CART, ()))
    assert weights(HOST_V4, port=32200) == [None]
    node.sync((PAY, plans(port=None, v4=1)))
    assert weights(HOST_V4, port=32300) == [None]


def test_a_service_that_went_while_nobody_told_is_gone_after_a_full_sync(node: Node) -> None:
    node.sync((PAY, plans(v4=1)), (CART, plans(CART, 32200, v4=2)))
    node.sync_all((CART, plans(CART, 32200, v4=2)))
    assert (weights(HOST_V4), weights(HOST_V4, port=32200)) == ([None], ["2"])
    node.sync_all()
    assert weights(HOST_V4, port=32200) == [None]


def test_a_port_that_is_taken_is_told_once_and_had_when_it_is_free(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server((HOST_V4, PORT)):
        for _ in range(3):
            node.sync((PAY, plans(v4=1, v6=1)))
        reason = f"{HOST_V4}: Address already in use"
        assert node.failed() == [(PAY, PORT, reason)]
        warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert [record.message for record in warnings] == ["No health checks"]
        # The other family is served meanwhile.
        assert weights(HOST_V6) == ["1"]
    node.sync()  # nothing but another sync
    assert weights(HOST_V4) == ["1"]
    assert node.failed() == []


def test_a_port_that_is_taken_is_tried_again_by_itself(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_ports, "RETRY_SECONDS", 0.05)
    with socket.create_server((HOST_V4, PORT)):
        node.sync((PAY, plans(v4=1)))
        assert node.failures.get(timeout=10)[0] == PAY
    deadline = time.monotonic() + 10
    while weights(HOST_V4) == [None]:
        assert time.monotonic() < deadline
    assert weights(HOST_V4) == ["1"]


def test_an_address_that_is_not_there_yet(node: Node) -> None:
    late = NodeView("node-a", node_ports_v4=NodePortAddresses(addresses=(HOST_V4, "192.168.0.99")))
    node.sync((PAY, plans(v4=1)), view=late)
    assert node.failed() == [(PAY, PORT, "192.168.0.99: Cannot assign requested address")]
    assert weights(HOST_V4) == ["1"]


def test_two_services_with_one_port(node: Node) -> None:
    node.sync((PAY, plans(v4=1)))
    node.sync((CART, plans(CART, v4=2)))
    assert node.failed() == [(CART, PORT, "the port is that of Service shop/pay")]
    assert weights(HOST_V4) == ["1"]
    node.sync((PAY, ()))
    assert weights(HOST_V4) == ["2"]
    assert node.failed() == []


def test_health_checks_leave_files_for_everything_else(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_files, "limit", lambda: 102)
    late = ObjectName("shop", "search")
    node.sync((PAY, plans(v4=1)), (CART, plans(CART, 32200, v4=1)))
    node.sync((late, plans(late, 32300, v4=1)))
    reason = "2 sockets are open already: raise the limit of open files (ulimit -n)"
    assert node.failed() == [(late, 32300, reason)]
    assert [weights(HOST_V4, port=port) for port in (PORT, 32200, 32300)] == [["1"], ["1"], [None]]
    node.sync((PAY, ()))
    assert [weights(HOST_V4, port=port) for port in (PORT, 32200, 32300)] == [[None], ["1"], ["1"]]
    assert node.failed() == []


def test_silent_clients_in_thousands_keep_no_balancer_waiting(node: Node) -> None:
    node.sync((PAY, plans(v4=1)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    try:
        with ExitStack() as stack:
            for _ in range(2000):
                client = stack.enter_context(socket.create_connection((HOST_V4, PORT), timeout=10))
                with suppress(OSError):  # who came first may have had to go already
                    client.sendall(b"GET / HTTP")
            assert weights(HOST_V4) == ["1"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
