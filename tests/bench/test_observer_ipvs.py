"""Does the observer of IPVS tell what leads somewhere from what does not any more, or not yet?

What holds of every back end is in `test_observer`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from endpoints.names import Family, Protocol
from modes.ipvs.kernel import Ipvs as Kernel
from modes.ipvs.servers import Command, RealServer, ServerKey, Verb, VirtualServer
from tests.bench import cluster
from tests.bench.cluster import PORT, TARGET_PORT
from tests.bench.whole.content import Wanted
from tests.bench.whole.ipvs import Ipvs
from tests.lab import modes, sandbox

pytestmark = pytest.mark.skipif("ipvs" not in modes.offered(), reason=modes.NO_IPVS)

SERVICE = 7
ADDRESS = cluster.cluster_ip(SERVICE)
KEY = ServerKey(Family.IPV4, Protocol.TCP, ADDRESS, PORT)
NEW, DELETE = Command(Verb.NEW_SERVER, KEY, VirtualServer()), Command(Verb.DELETE_SERVER, KEY)
PODS = [f"10.128.0.{number}" for number in range(1, 41)]
ALL, EMPTY, ABSENT = (
    Wanted(SERVICE, None if of is None else frozenset(of)) for of in (PODS, (), None)
)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """One without a virtual server."""
    sandbox.enter_private()
    opened = Kernel()
    yield opened
    opened.close()
    sandbox.enter_private()


@pytest.fixture
def observer(kernel: Kernel) -> Iterator[Ipvs]:
    assert not kernel.servers()
    opened = Ipvs("kube-proxy")
    yield opened
    opened.close()


def _real(verb: Verb, pod: str, weight: int = 1, port: int = TARGET_PORT) -> Command:
    return Command(verb, KEY, real=RealServer(pod, port), weight=weight)


def _address(verb: str) -> None:
    subprocess.run(["ip", "address", verb, f"{ADDRESS}/32", "dev", "lo"], check=True)


def _write(kernel: Kernel, *commands: Command) -> None:
    assert not kernel.send(commands)


def test_what_drains_is_not_held(kernel: Kernel, observer: Ipvs) -> None:
    _address("add")
    _write(kernel, NEW, *(_real(Verb.NEW_REAL, pod) for pod in PODS))
    assert observer.holds(ALL)
    drains, *others = PODS
    rest = Wanted(SERVICE, frozenset(others))
    for weight, held, gone in ((0, rest, ALL), (1, ALL, rest)):
        mark = observer.mark()
        assert observer.mark() == mark
        _write(kernel, _real(Verb.SET_REAL, drains, weight))
        assert observer.mark() != mark
        assert observer.holds(held)
        assert not observer.holds(gone)


def test_another_port_is_another_endpoint(kernel: Kernel, observer: Ipvs) -> None:
    _address("add")
    _write(kernel, NEW, *(_real(Verb.NEW_REAL, pod) for pod in PODS[1:]))
    _write(kernel, _real(Verb.NEW_REAL, PODS[0], port=TARGET_PORT + 1))
    assert not observer.holds(ALL)


def test_a_virtual_server_needs_its_address(kernel: Kernel, observer: Ipvs) -> None:
    _write(kernel, NEW, *(_real(Verb.NEW_REAL, pod) for pod in PODS))
    assert not observer.holds(ALL)
    mark = observer.mark()
    _address("add")
    assert observer.mark() != mark
    assert observer.holds(ALL)
    _write(kernel, DELETE)
    assert observer.holds(EMPTY)
    assert not observer.holds(ABSENT)
    mark = observer.mark()
    _address("delete")
    assert observer.mark() != mark
    assert observer.holds(ABSENT)
    assert not observer.holds(EMPTY)
    _write(kernel, NEW, *(_real(Verb.NEW_REAL, pod) for pod in PODS))
    assert not observer.holds(ALL)
