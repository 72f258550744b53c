"""Does headgate start with what the DaemonSet gives it, and do the probes ask where it answers?"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
import yaml

from modes.registry import AUTO, MODES
from proxy.cli import Parser
from proxy.config import Config, Listener, config
from proxy.flags import COMMANDS
from proxy.sources.kubeconfig import ApiConfig, checked
from tests.unit.deploy import DEPLOY, ROOT, kustomize
from tests.unit.deploy.kustomize import BASE, OVERLAYS, Object, build

ACCOUNT = PurePosixPath("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where every pod finds who it is."""
NEW_CLUSTER = DEPLOY / "overlays" / "new-cluster"
"""The overlay that brings a ConfigMap."""
KUBEADM = ROOT / "docs" / "examples" / "kube-proxy.conf"
"""Of the shape that kubeadm gives the ConfigMap kube-proxy."""


def objects(folder: Path) -> dict[str, Object]:
    return {item["kind"]: item for item in build(folder)}


def pod(folder: Path) -> Object:
    spec: Object = objects(folder)["DaemonSet"]["spec"]["template"]["spec"]
    return spec


def files() -> dict[str, str]:
    data: dict[str, str] = objects(NEW_CLUSTER)["ConfigMap"]["data"]
    return data


def read(container: Object, text: str, folder: Path) -> Config:
    """What the program makes of a container's arguments and of this config.conf."""
    (mount,) = (of for of in container["volumeMounts"] if of["name"] == "config")
    (folder / "config.conf").write_text(text)
    arguments = [
        argument.replace(mount["mountPath"], str(folder)).replace("$(NODE_NAME)", "worker-2")
        for argument in container["args"]
    ]
    parser = Parser("run", "")
    COMMANDS["run"].add_flags(parser)
    return config(parser.parse_args(arguments))


@pytest.mark.parametrize("folder", [BASE, *OVERLAYS], ids=lambda path: path.name)
@pytest.mark.parametrize(
    "text", [files()["config.conf"], KUBEADM.read_text()], ids=["ours", "kubeadm"]
)
def test_headgate_takes_the_arguments_and_the_file(folder: Path, text: str, tmp_path: Path) -> None:
    (init,), (main,) = pod(folder)["initContainers"], pod(folder)["containers"]
    wanted = read(main, text, tmp_path)
    assert wanted.warnings == ()
    assert wanted.node.name == "worker-2"
    assert wanted.mode == (folder.name if folder.name in MODES else AUTO)
    assert wanted.init_only is False
    assert read(init, text, tmp_path).init_only is True
    (name,) = (env["name"] for env in main["env"])
    assert f"--hostname-override=$({name})" in main["args"]


@pytest.mark.parametrize(
    "text", [files()["config.conf"], KUBEADM.read_text()], ids=["ours", "kubeadm"]
)
def test_the_probes_ask_where_it_answers(text: str, tmp_path: Path) -> None:
    (main,) = pod(BASE)["containers"]
    wanted = read(main, text, tmp_path)
    probes = {
        name: main[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")
    }
    for probe in probes.values():
        assert probe["host"] == "127.0.0.1"  # of the host: the pod has no network of its own
        assert wanted.health == Listener("0.0.0.0", probe["port"])
    paths = {name: probe["path"] for name, probe in probes.items()}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/healthz"}


def test_the_api_server_is_asked_as_the_pods_account(tmp_path: Path) -> None:
    (main,) = pod(BASE)["containers"]
    named = PurePosixPath(read(main, files()["config.conf"], tmp_path).kubeconfig)
    (mount,) = (of for of in main["volumeMounts"] if of["name"] == "config")
    assert named.parent == PurePosixPath(mount["mountPath"])
    text = files()[named.name]
    assert text.count(f"{ACCOUNT}/") == 2
    for name in ("ca.crt", "token"):
        (tmp_path / name).touch()
    kubeconfig = tmp_path / "kubeconfig.conf"
    kubeconfig.write_text(text.replace(str(ACCOUNT), str(tmp_path)))
    identity = checked(ApiConfig("worker-2", str(kubeconfig)))
    assert identity.token_file == tmp_path / "token"
    (cluster,) = yaml.safe_load(text)["clusters"]
    assert cluster["cluster"]["certificate-authority"] == str(ACCOUNT / "ca.crt")


def test_what_is_to_be_put_in_stands_once() -> None:
    text = (NEW_CLUSTER / "configmap.yaml").read_text()
    assert text.count("https://control-plane-endpoint:6443") == 1
    others = [path for path in DEPLOY.rglob("*.yaml") if path != NEW_CLUSTER / "configmap.yaml"]
    assert all("control-plane-endpoint" not in path.read_text() for path in others)


def test_the_files_that_are_mounted_are_those_of_the_configmap() -> None:
    for folder in (BASE, *OVERLAYS):
        (volume,) = (of for of in pod(folder)["volumes"] if of["name"] == "config")
        assert volume == {"name": "config", "configMap": {"name": "headgate"}}
    assert {item["metadata"]["name"] for item in kustomize.build(NEW_CLUSTER)} == {"headgate"}
