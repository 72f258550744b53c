"""Does every kubeconfig that leads nowhere get one clear line?"""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.sources.kubeconfig import ApiConfig, BadKubeconfig, checked, loaded

GOOD = """
current-context: test
contexts: [{name: test, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://192.0.2.1:6443/"}}]
users: [{name: u, user: {tokenFile: secrets/token}}]
"""


def refusal(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(BadKubeconfig) as refused:
        checked(ApiConfig("node-a", str(path)))
    line = str(refused.value)
    assert "\n" not in line
    return line.removeprefix(f"--kubeconfig: {path}: ")


def test_what_is_known_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(GOOD)
    identity = checked(ApiConfig("node-a", str(tmp_path / "config")))
    assert identity.server == "https://192.0.2.1:6443"
    assert identity.token_file == tmp_path / "secrets/token"
    assert identity.plugin == ""
    overridden = checked(ApiConfig("node-a", str(tmp_path / "config"), "https://192.0.2.2"))
    assert overridden.server == "https://192.0.2.2"


def test_a_token_file_beats_a_token(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(GOOD.replace("tokenFile:", "token: abc, tokenFile:"))
    assert checked(ApiConfig("node-a", str(tmp_path / "config"))).token_file is not None


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("current-context: test", "", "has no current-context"),
        ("current-context: test", "current-context: ''", "has no current-context"),
        (
            "current-context: test",
            "current-context: prod",
            "has no context named prod, its current-context",
        ),
        ("cluster: c,", "cluster: d,", "has no cluster named d"),
        ("user: u}", "user: v}", "has no user named v"),
        ("server:", "host:", "its cluster names no server"),
        (
            "server:",
            "certificate-authority: ca.crt, server:",
            "names the file ca.crt, which does not exist",
        ),
        (
            "tokenFile: secrets/token",
            "client-certificate: me.crt",
            "names the file me.crt, which does not exist",
        ),
        ("contexts: [", "contexts: [[", "is no YAML: "),
        (
            "name: test, context",
            "context",
            "is no kubeconfig: Object missing required field `name`",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert refusal(tmp_path / "config", GOOD.replace(old, new, 1)).startswith(line)


@pytest.mark.parametrize("text", ["", "just words", "[]"])
def test_what_is_no_kubeconfig_at_all(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path / "config", text).startswith("is no kubeconfig: Expected `object`")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "config"
    with pytest.raises(BadKubeconfig, match=f"^--kubeconfig: {path}: does not exist$"):
        checked(ApiConfig("node-a", str(path)))


def test_who_named_it_is_told(tmp_path: Path) -> None:
    config = ApiConfig("node-a", f"{tmp_path}/k", origin="a.conf: clientConnection.kubeconfig")
    reason = f"^a.conf: clientConnection.kubeconfig: {tmp_path}/k: does not exist$"
    with pytest.raises(BadKubeconfig, match=reason):
        checked(config)


@pytest.mark.parametrize(
    ("given", "lacking"),
    [
        ({}, "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set"),
        ({"HOST": "10.96.0.1", "PORT": ""}, "KUBERNETES_SERVICE_PORT is not set"),
        (
            {"HOST": "10.96.0.1", "PORT": "443"},
            "its service account is incomplete: Service token file does not exist",
        ),
    ],
)
def test_what_a_pod_has(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], lacking: str
) -> None:
    for name in ("HOST", "PORT"):
        monkeypatch.delenv(f"KUBERNETES_SERVICE_{name}", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(f"KUBERNETES_SERVICE_{name}", value)
    config = ApiConfig("node-a")
    with pytest.raises(BadKubeconfig) as refused:
        loaded(config, checked(config))
    reason = "no --kubeconfig is given, and this is no pod of a cluster"
    assert str(refused.value) == f"{reason}: {lacking}"


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadKubeconfig, match="Is a directory"):
        checked(ApiConfig("node-a", str(tmp_path)))
