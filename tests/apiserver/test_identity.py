"""Are we let in where we should be, and told clearly why not?"""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.config import incluster_config

from proxy.sources.api import ApiSource
from proxy.sources.kubeconfig import ApiConfig, BadKubeconfig
from tests.apiserver.fake import FakeApiServer
from tests.apiserver.story import NODE, Follower, node, service
from tests.apiserver.test_outages import EAGER, PROMPT_SECONDS, Log, log, source_threads

__all__ = ["log"]
TOKEN = "a-token"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that is its own authority; its key lies beside it."""
    return make_certificate(tmp_path_factory.mktemp("server"))


def make_certificate(folder: Path) -> Path:
    subject = ["-subj", "/CN=headgate-test", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", "tls.key", "-out", "tls.crt"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", *curve, *subject, *files]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "tls.crt"


@contextmanager
def serving(certificate: Path, *, client_authority: Path | None = None) -> Iterator[FakeApiServer]:
    """A server with TLS that wants our token, or a certificate of this authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("tls.key"))
    if client_authority is not None:
        context.load_verify_locations(client_authority)
        context.verify_mode = ssl.CERT_REQUIRED
    server = FakeApiServer(token="" if client_authority else TOKEN, context=context)
    server.headers = {"Authorization": f"Bearer {TOKEN}"}
    server.client_context = ssl.create_default_context(cafile=certificate)
    if client_authority is not None:
        server.client_context.load_cert_chain(
            client_authority, client_authority.with_name("tls.key")
        )
    server.store.put_all([service("pay"), node()])
    try:
        yield server
    finally:
        server.stop()


def kubeconfig(folder: Path, server: str, user: Any, **cluster: Any) -> ApiConfig:  # noqa: ANN401
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return ApiConfig(NODE, str(path))


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def script(folder: Path, text: str) -> str:
    path = folder / "plugin"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def plugin(command: str) -> dict[str, Any]:
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": command, "interactiveMode": "Never"}}


def test_a_token_and_an_authority_in_the_kubeconfig(certificate: Path, tmp_path: Path) -> None:
    with serving(certificate) as server:
        authority = {"certificate-authority-data": encoded(certificate)}
        config = kubeconfig(tmp_path, server.url, {"token": TOKEN}, **authority)
        with Follower(ApiSource(config, EAGER)) as follower:
            follower.agrees(server)
            server.create(service("new"))
            follower.agrees(server)
            began = time.monotonic()
        assert time.monotonic() - began < PROMPT_SECONDS
        assert source_threads() == []


def test_a_client_certificate_in_files_beside_the_kubeconfig(
    certificate: Path, tmp_path: Path
) -> None:
    (tmp_path / "client").mkdir()
    own = make_certificate(tmp_path / "client")
    with serving(certificate, client_authority=own) as server:
        user = {"client-certificate": "client/tls.crt", "client-key": "client/tls.key"}
        authority = {"certificate-authority": str(certificate)}
        config = kubeconfig(tmp_path, server.url, user, **authority)
        with Follower(ApiSource(config, EAGER)) as follower:
            follower.agrees(server)


def test_an_authority_that_did_not_sign_is_one_clear_line(
    certificate: Path, tmp_path: Path, log: Log
) -> None:
    with serving(certificate) as server:
        other = {"certificate-authority-data": encoded(make_certificate(tmp_path))}
        config = kubeconfig(tmp_path, server.url, {"token": TOKEN}, **other)
        with Follower(ApiSource(config, EAGER)) as follower:
            line = log.next()
            assert f"server={server.url} reason=its certificate is not trusted: self" in line
            right = {"certificate-authority-data": encoded(certificate)}
            kubeconfig(tmp_path, server.url, {"token": TOKEN}, **right)  # somebody corrects it
            follower.agrees(server)
            assert "serves us again" in log.next()
    assert log.silent()


def test_a_token_file_is_read_again(fake: FakeApiServer, tmp_path: Path, log: Log) -> None:
    fake.token = TOKEN
    fake.headers = {"Authorization": f"Bearer {TOKEN}"}
    fake.create(service("pay"))
    token = tmp_path / "token"
    token.write_text("an-old-token\n")
    config = kubeconfig(tmp_path, fake.url, {"tokenFile": "token"})
    with Follower(ApiSource(config, EAGER)) as follower:
        assert "reason=401 Unauthorized" in log.next()
        token.write_text(f"{TOKEN}\n")
        follower.agrees(fake)


def test_a_plugin_that_fails_is_not_an_anonymous_request(
    fake: FakeApiServer, tmp_path: Path, log: Log
) -> None:
    command = script(tmp_path, "echo no network yet >&2; exit 7")
    config = kubeconfig(tmp_path, fake.url, plugin(command))
    with Follower(ApiSource(config, EAGER)) as follower:
        line = log.next()
        assert f"no credentials from {command}: " in line
        assert "7" in line
        assert follower.quiet()
        status = {"token": TOKEN}
        credential = {"apiVersion": plugin("")["exec"]["apiVersion"], "kind": "ExecCredential"}
        script(tmp_path, f"echo '{json.dumps(credential | {'status': status})}'")
        fake.token = TOKEN
        fake.headers = {"Authorization": f"Bearer {TOKEN}"}
        follower.agrees(fake)


def test_in_a_pod_a_newline_after_the_token_is_no_part_of_it(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(certificate))
    with serving(certificate) as server:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", server.url.rpartition(":")[2])
        with Follower(ApiSource(ApiConfig(NODE), EAGER)) as follower:
            follower.agrees(server)


def test_outside_a_pod_without_a_kubeconfig_there_is_no_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    source = ApiSource(ApiConfig(NODE), EAGER)
    with pytest.raises(BadKubeconfig, match="no --kubeconfig is given, and this is no pod"):
        Follower(source).__enter__()


def test_master_overrides_the_server_of_the_kubeconfig(fake: FakeApiServer, tmp_path: Path) -> None:
    fake.token = TOKEN
    fake.headers = {"Authorization": f"Bearer {TOKEN}"}
    given = kubeconfig(tmp_path, "http://127.0.0.1:1", {"token": TOKEN})
    config = ApiConfig(NODE, given.kubeconfig, fake.url)
    with Follower(ApiSource(config, EAGER)) as follower:
        follower.agrees(fake)


def test_a_proxy_of_the_environment_is_not_asked_for_an_address_it_is_not_for(
    fake: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert os.environ["http_proxy"]
    with Follower(ApiSource(ApiConfig(NODE, master=fake.url), EAGER)) as follower:
        follower.agrees(fake)
