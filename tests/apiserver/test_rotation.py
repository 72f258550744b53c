"""Do credentials and authorities that are replaced on disk take effect, without a restart?"""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kubernetes.config import incluster_config

from endpoints.events import Replace
from endpoints.objects import Kind
from proxy.sources import api
from proxy.sources.api import ApiSource
from proxy.sources.kubeconfig import ApiConfig
from tests.apiserver.fake import FakeApiServer
from tests.apiserver.story import NODE, Follower, node, service
from tests.apiserver.test_identity import kubeconfig, make_certificate
from tests.apiserver.test_outages import EAGER, LINE_SECONDS, Log, log

__all__ = ["log"]


@pytest.fixture(autouse=True)
def short_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch ends after a second: each request looks at the files."""
    monkeypatch.setattr(api, "WATCH_SECONDS", 1)


def issued(folder: Path) -> Path:
    folder.mkdir()
    return make_certificate(folder)


def der(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


def replace(certificate: Path, target: Path) -> None:
    """Put certificate and key in the place of others, each at once."""
    for name in ("tls.key", "tls.crt"):
        new = target.with_name(f".{name}")
        shutil.copy(certificate.with_name(name), new)
        new.rename(target.with_name(name))


@contextmanager
def serving(certificate: Path, *clients: Path) -> Iterator[tuple[FakeApiServer, ssl.SSLContext]]:
    """A server with TLS; with `clients` it wants one of these certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("tls.key"))
    for client in clients:
        context.load_verify_locations(client)
        context.verify_mode = ssl.CERT_REQUIRED
    server = FakeApiServer(context=context)
    server.store.put_all([service("pay"), node()])
    try:
        yield server, context
    finally:
        server.stop()


def held(server: FakeApiServer, follower: Follower, name: str) -> Callable[[], bool]:
    """A new Service comes through."""
    server.create(service(name))
    return lambda: any(of.name == name for of in follower.objects.get(Kind.SERVICE, ()))


def asks_again(server: FakeApiServer, times: int) -> None:
    """Wait for so many requests from now on."""
    while server.asked.acquire(blocking=False):
        pass
    for _ in range(times):
        assert server.asked.acquire(timeout=LINE_SECONDS)


def test_a_client_certificate_that_is_replaced_is_shown_by_every_thread(
    tmp_path: Path, log: Log
) -> None:
    own, old, new = (issued(tmp_path / name) for name in ("server", "old", "new"))
    (tmp_path / "client").mkdir()
    mine = tmp_path / "client/tls.crt"
    replace(old, mine)
    with serving(own, old, new) as (server, _):
        user = {"client-certificate": "client/tls.crt", "client-key": "client/tls.key"}
        config = kubeconfig(tmp_path, server.url, user, **{"certificate-authority": str(own)})
        with Follower(ApiSource(config, EAGER)) as follower:
            follower.until(lambda: len(follower.objects) == len(Kind))
            follower.until(held(server, follower, "before"))
            assert set(server.peers) == {der(old)}
            asked = len(server.peers)
            replace(new, mine)
            assert "Credentials were replaced" in log.next()
            follower.until(held(server, follower, "after"))
            follower.until(held(server, follower, "later"))
            shown = server.peers[asked:]
        # Who asks by the old one does so before the first that asks by the new one.
        assert der(new) in shown
        assert der(old) not in shown[shown.index(der(new)) + 2 :]
        assert sum(isinstance(m, Replace) for m in follower.messages) == len(Kind)


def test_an_authority_that_is_replaced_is_trusted_from_then_on(tmp_path: Path, log: Log) -> None:
    old, new = (issued(tmp_path / name) for name in ("old", "new"))
    authority = tmp_path / "ca.crt"
    shutil.copy(old, authority)
    with serving(old) as (server, context):
        config = kubeconfig(tmp_path, server.url, {}, **{"certificate-authority": "ca.crt"})
        with Follower(ApiSource(config, EAGER)) as follower:
            follower.until(lambda: len(follower.objects) == len(Kind))
            follower.until(held(server, follower, "before"))
            context.load_cert_chain(new, new.with_name("tls.key"))  # for connections to come
            (tmp_path / "next.crt").write_bytes(new.read_bytes())
            (tmp_path / "next.crt").rename(authority)
            assert "Credentials were replaced" in log.next()
            follower.until(held(server, follower, "after"))
    assert log.silent()


def test_a_server_that_shows_the_new_certificate_first_is_trusted_when_the_file_comes(
    tmp_path: Path, log: Log
) -> None:
    old, new = (issued(tmp_path / name) for name in ("old", "new"))
    authority = tmp_path / "ca.crt"
    shutil.copy(old, authority)
    with serving(new) as (server, _):
        config = kubeconfig(tmp_path, server.url, {}, **{"certificate-authority": "ca.crt"})
        with Follower(ApiSource(config, EAGER)) as follower:
            assert "its certificate is not trusted" in log.next()
            assert follower.quiet()
            shutil.copy(new, authority)
            follower.until(held(server, follower, "after"))


def test_a_file_that_is_away_for_a_moment_changes_nothing(tmp_path: Path, log: Log) -> None:
    own = issued(tmp_path / "server")
    authority = tmp_path / "ca.crt"
    shutil.copy(own, authority)
    with serving(own) as (server, _):
        config = kubeconfig(tmp_path, server.url, {}, **{"certificate-authority": "ca.crt"})
        with Follower(ApiSource(config, EAGER)) as follower:
            follower.until(lambda: len(follower.objects) == len(Kind))
            follower.until(held(server, follower, "before"))
            authority.rename(tmp_path / "away")
            asks_again(server, 4)
            follower.until(held(server, follower, "meanwhile"))
            (tmp_path / "away").rename(authority)
            follower.until(held(server, follower, "after"))
    assert log.silent()


def test_in_a_pod_a_token_that_was_rotated_is_read_when_the_old_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    own = issued(tmp_path / "server")
    token = tmp_path / "token"
    token.write_text("old")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(own))
    with serving(own) as (server, _):
        server.token = "old"
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", server.url.rpartition(":")[2])
        with Follower(ApiSource(ApiConfig(NODE), EAGER)) as follower:
            follower.until(lambda: len(follower.objects) == len(Kind))
            follower.until(held(server, follower, "before"))
            token.write_text("new")
            server.token = "new"
            assert "401 Unauthorized" in log.next()
            follower.until(held(server, follower, "after"))
        assert sum(isinstance(m, Replace) for m in follower.messages) == len(Kind)
