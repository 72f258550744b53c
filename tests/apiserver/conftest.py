"""Which API servers do the stories run against? The small one, and the real one where there is one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apiserver.fake import FakeApiServer
from tests.apiserver.real import RealApiServer, assets
from tests.apiserver.story import ApiServer
from tests.apiserver.wire import Wire


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApiServer]:
    folder = assets()
    if folder is None:
        pytest.skip("KUBEBUILDER_ASSETS names no folder with etcd and kube-apiserver")
    server = RealApiServer(folder, tmp_path_factory.mktemp("apiserver"))
    yield server
    server.stop()


@pytest.fixture
def fake() -> Iterator[FakeApiServer]:
    server = FakeApiServer()
    yield server
    server.stop()


@pytest.fixture(params=["fake", "real"])
def server(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """An API server: the test runs with each."""
    if request.param == "fake":
        yield request.getfixturevalue("fake")
        return
    real: RealApiServer = request.getfixturevalue("real_server")
    yield real
    real.clear()


@pytest.fixture
def wire(server: ApiServer) -> Iterator[Wire]:
    """The way to the server, with nothing wrong with it yet."""
    wire = Wire(server)
    yield wire
    wire.close()
