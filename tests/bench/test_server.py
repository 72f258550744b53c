"""Does the benchmark's API server hold the cluster, and tell at once what is changed in it?"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.apiserver.store import Json
from tests.bench import cluster
from tests.bench.cluster import Size
from tests.bench.whole import content
from tests.bench.whole.server import ApiServer, serving
from tests.bench.whole.writing import Refused

OF = Size(7, 4)
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
SECONDS = 20.0
FLOWING = 100


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with serving(OF, tmp_path_factory.mktemp("server"), lambda _: None) as served:
        yield served


def test_it_holds_the_cluster(api: ApiServer) -> None:
    names = {item["metadata"]["name"] for item in _get(api, "/api/v1/services")["items"]}
    assert names >= {f"service-{number}" for number in range(OF.services)}
    slices = _get(api, SLICES)["items"]
    assert sum(len(item["endpoints"]) for item in slices) == OF.services * OF.endpoints
    node = _get(api, f"/api/v1/nodes/{cluster.SETTINGS.name}")
    assert node["metadata"]["labels"] == {"kubernetes.io/hostname": cluster.SETTINGS.name}
    namespaces = {item["metadata"]["name"] for item in _get(api, "/api/v1/namespaces")["items"]}
    assert namespaces >= set(cluster.namespaces(OF))


def test_its_kubeconfig_names_it(api: ApiServer) -> None:
    config = json.loads(api.kubeconfig.read_text())
    assert [one["cluster"]["server"] for one in config["clusters"]] == [api.url]
    assert config["current-context"] == config["contexts"][0]["name"]


def test_a_write_is_told_to_who_watches(api: ApiServer) -> None:
    before, after = content.slices(OF, 3), content.slices(OF, 3, cluster.pods(OF, 3)[:1])
    with _watched(api, SLICES) as lines:
        first = api.write("PUT", after[0])
        second = api.write("PUT", before[0])
        told = [json.loads(next(lines))["object"] for _ in range(2)]
    assert first < second
    assert [len(one["endpoints"]) for one in told] == [OF.endpoints - 1, OF.endpoints]
    assert int(told[0]["metadata"]["resourceVersion"]) < int(told[1]["metadata"]["resourceVersion"])


def test_an_object_comes_and_goes(api: ApiServer) -> None:
    service = content.service(OF, OF.services)
    with _watched(api, "/api/v1/services") as lines:
        api.write("POST", service)
        with pytest.raises(Refused, match="POST"):
            api.write("POST", service)
        api.write("DELETE", service)
        with pytest.raises(Refused, match="404"):
            api.write("DELETE", service)
        told = [json.loads(next(lines)) for _ in range(2)]
    assert [line["type"] for line in told] == ["ADDED", "DELETED"]
    assert {line["object"]["metadata"]["name"] for line in told} == {f"service-{OF.services}"}


def test_slices_change_by_themselves(tmp_path: Path) -> None:
    of = Size(5, 10)
    with (
        serving(of, tmp_path, lambda _: None, fake=True) as api,
        _watched(api, SLICES) as lines,
    ):
        assert api.can_flow
        api.flow(of, rate=500, seconds=0.2)
        assert api.flowed() == FLOWING
        told = [json.loads(next(lines))["object"] for _ in range(FLOWING)]
    versions = [int(one["metadata"]["resourceVersion"]) for one in told]
    assert versions == sorted(set(versions))
    counts: dict[str, list[int]] = {}
    for one in told:
        service = one["metadata"]["labels"]["kubernetes.io/service-name"]
        counts.setdefault(service, []).append(len(one["endpoints"]))
    assert set(counts) == {f"service-{number}" for number in range(1, of.services)}
    for seen in counts.values():
        assert seen == [9, 10] * (len(seen) // 2) + [9] * (len(seen) % 2)


def _get(api: ApiServer, path: str) -> Json:
    with closing(_connection(api)) as connection:
        connection.request("GET", path, headers=_headers(api))
        found: Json = json.load(connection.getresponse())
        return found


@contextmanager
def _watched(api: ApiServer, path: str) -> Iterator[Iterator[bytes]]:
    """What happens from now on, line by line."""
    version = _get(api, path)["metadata"]["resourceVersion"]
    target = f"{path}?watch=true&resourceVersion={version}"
    with closing(_connection(api)) as connection:
        connection.request("GET", target, headers=_headers(api))
        yield iter(connection.getresponse().readline, b"")


def _connection(api: ApiServer) -> http.client.HTTPConnection:
    """To what the kubeconfig names."""
    (one,) = json.loads(api.kubeconfig.read_text())["clusters"]
    url = urlsplit(one["cluster"]["server"])
    if url.scheme == "http":
        return http.client.HTTPConnection(url.netloc, timeout=SECONDS)
    context = ssl.create_default_context(cafile=one["cluster"]["certificate-authority"])
    return http.client.HTTPSConnection(url.netloc, timeout=SECONDS, context=context)


def _headers(api: ApiServer) -> dict[str, str]:
    (one,) = json.loads(api.kubeconfig.read_text())["users"]
    token = one["user"].get("token")
    return {"Authorization": f"Bearer {token}"} if token else {}
