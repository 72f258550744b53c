"""Are the manifests what the API server takes, and what a proxy of a node has to be?"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.unit.deploy import DEPLOY, ROOT, kustomize
from tests.unit.deploy.kustomize import BASE, COMPONENTS, OVERLAYS, Object, build

FOLDERS = (BASE, *OVERLAYS)
VERSIONS = ("1.31", "1.37")
"""Of Kubernetes: the oldest and the newest that the manifests are held to."""
MODES = ("nftables", "iptables", "ipvs")

each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


def daemonset(folder: Path) -> Object:
    (found,) = (item for item in build(folder) if item["kind"] == "DaemonSet")
    return found


def pod(folder: Path) -> Object:
    spec: Object = daemonset(folder)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("version", VERSIONS)
@each_folder
def test_the_schema_of_the_api_takes_them(folder: Path, version: str) -> None:
    for item in build(folder):
        kubernetes_validate.validate(item, version, strict=True)


def test_the_schema_refuses_what_is_wrong() -> None:
    for spoil in (
        {"hostNetwerk": True},
        {"containers": None},
        {"tolerations": [{"operator": 1}]},
        {"terminationGracePeriodSeconds": "30s"},
    ):
        wrong = copy.deepcopy(daemonset(BASE))
        wrong["spec"]["template"]["spec"] |= spoil
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.skipif(
    not shutil.which("kubectl"), reason="no kubectl, which has a kustomize of its own"
)
@each_folder
def test_kubectl_builds_the_same(folder: Path) -> None:
    assert built_by_kubectl(folder) == sorted(map(_text, build(folder)))


def built_by_kubectl(folder: Path) -> list[str]:
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return sorted(map(_text, yaml.safe_load_all(done.stdout)))


def _text(item: Object) -> str:
    return json.dumps(item, sort_keys=True)


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("kustomization.yaml", "namePrefix: a-\nresources: [objects.yaml]", "namePrefix"),
        ("patch.yaml", "kind: A\nmetadata: {name: b}", "is 0 objects"),
        ("patch.yaml", "kind: A\nmetadata: {name: a}\nlist: [2]", "two lists meet"),
        ("json.yaml", "[{op: remove, path: /list/0, value: 1}]", "remove is not known"),
        ("part/kustomization.yaml", "kind: Kustomization", "part is a Kustomization"),
    ],
)
def test_what_the_builder_does_not_know_it_refuses(
    tmp_path: Path, file: str, text: str, reason: str
) -> None:
    (tmp_path / "objects.yaml").write_text("{kind: A, metadata: {name: a}, list: [1]}")
    patch = {"path": file} | ({"target": {"kind": "A", "name": "a"}} if file == "json.yaml" else {})
    asked = {"components": ["part"]} if file.startswith("part/") else {"patches": [patch]}
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["objects.yaml"], **asked})
    )
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=reason):
        build(tmp_path)


@each_folder
def test_a_proxy_runs_on_every_node_and_is_the_last_to_go(folder: Path) -> None:
    spec = pod(folder)
    assert spec["hostNetwork"] is True
    assert spec["priorityClassName"] == "system-node-critical"
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    strategy = daemonset(folder)["spec"]["updateStrategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}
    for container in (*spec["initContainers"], *spec["containers"]):
        assert set(container["resources"]) == {"requests"}


@each_folder
def test_what_runs_on_may_do_no_more_than_it_needs(folder: Path) -> None:
    (container,) = pod(folder)["containers"]
    security = container["securityContext"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
    }
    assert pod(folder)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostPID", "hostIPC", "shareProcessNamespace"} & set(pod(folder))
    of_host = {volume["name"] for volume in pod(folder)["volumes"] if "hostPath" in volume}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert of_host & mounted == {"xtables-lock"}


@each_folder
def test_only_what_ends_at_once_is_privileged(folder: Path) -> None:
    (init,) = pod(folder)["initContainers"]
    assert init["securityContext"] == {"privileged": True, "readOnlyRootFilesystem": True}
    assert init["args"][0] == "--init-only"
    assert init["args"][1:] == pod(folder)["containers"][0]["args"]


@each_folder
def test_every_volume_is_mounted_and_every_mount_has_a_volume(folder: Path) -> None:
    spec = pod(folder)
    containers = (*spec["initContainers"], *spec["containers"])
    mounted = {mount["name"] for each in containers for mount in each["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    (modules,) = (
        mount
        for each in containers
        for mount in each["volumeMounts"]
        if mount["mountPath"] == "/lib/modules"
    )
    assert modules["readOnly"] is True
    lock = next(volume for volume in spec["volumes"] if volume["name"] == "xtables-lock")
    assert lock["hostPath"] == {"path": "/run/xtables.lock", "type": "FileOrCreate"}


def test_there_is_one_overlay_for_each_mode() -> None:
    for mode in MODES:
        spec = pod(DEPLOY / "overlays" / mode)
        for container in (*spec["initContainers"], *spec["containers"]):
            assert container["args"][-1] == f"--proxy-mode={mode}"
    assert {folder.name for folder in OVERLAYS} == {*MODES, "kubeadm", "migrate", "new-cluster"}


@each_folder
def test_a_cluster_that_has_a_configuration_keeps_it(folder: Path) -> None:
    brought = "ConfigMap" in {item["kind"] for item in build(folder)}
    assert brought is (folder.name == "new-cluster")


def of_ones_own(folder: Path, overlay: Path, component: Path) -> Path:
    """A kustomization that puts a component upon an overlay; kubectl takes no absolute paths."""
    plan = {
        "resources": [os.path.relpath(overlay, folder)],
        "components": [os.path.relpath(component, folder)],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(plan))
    return folder


@pytest.mark.parametrize("overlay", ["kubeadm", "migrate", "new-cluster"])
@pytest.mark.parametrize("component", COMPONENTS, ids=lambda path: path.name)
def test_a_mode_goes_with_every_overlay(overlay: str, component: Path, tmp_path: Path) -> None:
    below = DEPLOY / "overlays" / overlay
    made = pod(of_ones_own(tmp_path, below, component))
    for kind in ("initContainers", "containers"):
        (with_mode,), (without,) = made[kind], pod(below)[kind]
        assert with_mode["args"] == [*without["args"], f"--proxy-mode={component.name}"]
    assert made.get("affinity") == pod(below).get("affinity")
    if shutil.which("kubectl"):
        assert built_by_kubectl(tmp_path) == sorted(map(_text, build(tmp_path)))


def _terms(spec: Object) -> dict[str, Object]:
    """What a node must fulfil, by the label."""
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    (term,) = spec["affinity"]["nodeAffinity"][required]["nodeSelectorTerms"]
    assert set(term) == {"matchExpressions"}
    return {expression["key"]: expression for expression in term["matchExpressions"]}


@each_folder
def test_a_label_stops_it_on_a_node(folder: Path) -> None:
    expression = _terms(pod(folder))["headgate.dev/paused"]
    assert expression["operator"] == "DoesNotExist"
    page = (ROOT / "docs" / "drift.md").read_text()
    assert "kubectl label node NODE headgate.dev/paused=" in page
    assert "kubectl label node NODE headgate.dev/paused-" in page


def test_while_a_cluster_changes_over_no_node_has_both_proxies_or_none() -> None:
    folder = DEPLOY / "overlays" / "migrate"
    ours = _terms(pod(folder))["headgate.dev/proxy"]
    patch = yaml.safe_load((folder / "kube-proxy.yaml").read_text())
    (theirs,) = _terms(patch["spec"]["template"]["spec"]).values()
    assert (ours["operator"], theirs["operator"]) == ("In", "NotIn")
    assert ours | {"operator": ""} == theirs | {"operator": ""}
    known = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "kube-proxy"}}
    bare = copy.deepcopy(daemonset(BASE))
    del bare["spec"]["template"]["spec"]["affinity"]  # kube-proxy's, as kubeadm makes it, has none
    whole = kustomize.merged(bare, known | patch)
    kubernetes_validate.validate(whole, VERSIONS[-1], strict=True)


def test_the_image_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for container in (*pod(BASE)["initContainers"], *pod(BASE)["containers"]):
        assert container["image"] == f"{project['name']}:{project['version']}"
