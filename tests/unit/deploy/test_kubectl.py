"""Does the plugin of kubectl find the headgate of a node, and say it clearly where there is none?"""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.unit.deploy import DEPLOY, ROOT

PLUGIN = DEPLOY / "kubectl-headgate"
PAGE = (ROOT / "docs" / "kubectl.md").read_text()
USAGE = 2

# Pods by name: node and phase; as the plugin's template prints them. Each call is a line of the log.
FAKE = """\
#!/usr/bin/env python3
import json, os, sys
arguments = sys.argv[1:]
with open(os.environ["LOG"], "a") as log:
    print(json.dumps(arguments), file=log)
cluster = json.loads(os.environ["CLUSTER"])
if "down" in cluster:
    sys.exit("The connection to the server was refused")
while arguments[0] in ("--context", "--kubeconfig"):
    del arguments[:2]
verb, *rest = arguments
if verb == "exec":
    print("answer")
    sys.exit(cluster.get("status", 0))
if rest[0] == "pods" and rest[rest.index("--namespace") + 1] == "kube-system":
    wanted = rest[rest.index("--field-selector") + 1] if "--field-selector" in rest else ""
    for pod, (node, phase) in cluster["pods"].items():
        if not wanted or wanted == f"spec.nodeName={node}":
            print(pod, node, phase)
elif rest[0] == "node" and "forbidden" in cluster:
    sys.exit("nodes is forbidden")
elif rest[0] == "node" and rest[1] in cluster["nodes"]:
    print(f"node/{rest[1]}")
"""
CLUSTER = {
    "nodes": ["worker-1", "worker-2", "worker-3"],
    "pods": {
        "headgate-b": ["worker-2", "Running"],
        "headgate-a": ["worker-1", "Running"],
        "headgate-old": ["worker-2", "Failed"],
        "headgate-new": ["worker-3", "Pending"],
    },
}


class Answered(NamedTuple):
    status: int
    out: str
    err: str
    calls: list[list[str]]


class Kubectl:
    """A kubectl that knows a small cluster, and the plugin beside it on PATH."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "calls"
        self.log.touch()
        fake = folder / "kubectl"
        fake.write_text(FAKE)
        fake.chmod(0o755)
        (folder / "kubectl-headgate").symlink_to(PLUGIN)
        self.environment = {"PATH": f"{folder}:{os.environ['PATH']}", "LOG": str(self.log)}

    def headgate(self, line: str, cluster: object = CLUSTER, **environment: str) -> Answered:
        """`kubectl headgate LINE`."""
        done = subprocess.run(
            ["kubectl-headgate", *shlex.split(line)],
            env=self.environment | {"CLUSTER": json.dumps(cluster)} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        calls = [json.loads(call) for call in self.log.read_text().splitlines()]
        return Answered(done.returncode, done.stdout, done.stderr, calls)


@pytest.fixture
def kubectl(tmp_path: Path) -> Kubectl:
    return Kubectl(tmp_path)


EXEC = ["exec", "--namespace", "kube-system", "--container", "headgate", "headgate-b", "--"]


def test_a_command_runs_in_the_pod_of_the_node(kubectl: Kubectl) -> None:
    answered = kubectl.headgate("worker-2 explain 10.96.7.7:80 --from 10.244.1.9 -o json")
    assert answered[:3] == (0, "answer\n", "")
    asked, executed = answered.calls
    assert asked[:2] == ["get", "pods"]
    command = ["headgate", "explain", "10.96.7.7:80", "--from", "10.244.1.9", "-o", "json"]
    assert executed == EXEC + command


def test_the_status_is_that_of_headgate(kubectl: Kubectl) -> None:
    assert kubectl.headgate("worker-2 diff", CLUSTER | {"status": 1}).status == 1


@pytest.mark.parametrize(
    "flags",
    [
        "-n kube-system --context blue --kubeconfig /k",
        "--namespace=kube-system --context=blue --kubeconfig=/k",
        "-nkube-system --kubeconfig /k --context blue",
    ],
)
def test_flags_of_kubectl_are_passed_on(kubectl: Kubectl, flags: str) -> None:
    answered = kubectl.headgate(f"{flags} worker-2 dump 'a b' -n x")
    reached = ["--context", "blue", "--kubeconfig", "/k"]
    assert all(call[:4] == reached for call in answered.calls)
    assert answered.calls[-1][4:] == [*EXEC, "headgate", "dump", "a b", "-n", "x"]


def test_no_colour_is_passed_on(kubectl: Kubectl) -> None:
    answered = kubectl.headgate("worker-2 probe", NO_COLOR="1")
    assert answered.calls[-1] == [*EXEC, "env", "NO_COLOR=1", "headgate", "probe"]


def test_a_terminal_is_asked_for_on_a_terminal(kubectl: Kubectl) -> None:
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            ["kubectl-headgate", "worker-2", "top"],
            env=kubectl.environment | {"CLUSTER": json.dumps(CLUSTER)},
            stdin=theirs,
            stdout=theirs,
            check=True,
        )
    finally:
        os.close(theirs)
        os.close(ours)
    executed = json.loads(kubectl.log.read_text().splitlines()[-1])
    assert executed[5:] == ["--stdin", "--tty", "headgate-b", "--", "headgate", "top"]


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("worker-9 dump", "there is no Node worker-9"),
        ("worker-3 dump", "headgate on worker-3 does not run: headgate-new worker-3 Pending"),
        (
            "-n other worker-1 dump",
            "there is no headgate on Node worker-1 in namespace other (kubectl headgate --nodes lists where there is)",
        ),
        ("-n other --nodes", "there is no headgate in namespace other (-n NAMESPACE: another one)"),
        ("--context", "--context: expected one argument"),
        (
            "--mode ipvs worker-1 dump",
            "--mode: unknown flag; flags of headgate come after its command (kubectl headgate --help)",
        ),
    ],
)
def test_what_cannot_be_is_one_line(kubectl: Kubectl, line: str, refusal: str) -> None:
    answered = kubectl.headgate(line)
    assert answered[:3] == (USAGE, "", f"kubectl headgate: {refusal}\n")
    assert not any("exec" in call for call in answered.calls)


def test_who_may_not_read_nodes_is_told_so(kubectl: Kubectl) -> None:
    answered = kubectl.headgate("worker-9 dump", CLUSTER | {"forbidden": True})
    first, second = answered.err.splitlines()
    assert first == "nodes is forbidden"
    assert "there is no headgate on Node worker-9" in second
    assert answered.status == USAGE


def test_a_cluster_that_does_not_answer_is_told_by_kubectl(kubectl: Kubectl) -> None:
    answered = kubectl.headgate("worker-2 dump", {"down": True})
    assert answered[:3] == (1, "", "The connection to the server was refused\n")
    assert len(answered.calls) == 1


def test_the_nodes(kubectl: Kubectl) -> None:
    assert kubectl.headgate("--nodes").out.splitlines() == [
        "worker-1 headgate-a Running",
        "worker-2 headgate-b Running",
        "worker-2 headgate-old Failed",
        "worker-3 headgate-new Pending",
    ]


def test_usage(kubectl: Kubectl) -> None:
    helped = kubectl.headgate("--help")
    assert helped.status == 0
    assert helped.out.startswith("usage: kubectl headgate ")
    for line in ("", "worker-2"):
        assert kubectl.headgate(line)[:3] == (USAGE, "", helped.out)
    assert not helped.calls


def test_it_looks_for_what_is_deployed() -> None:
    text = PLUGIN.read_text()
    documents = yaml.safe_load_all((DEPLOY / "base" / "daemonset.yaml").read_text())
    [daemonset] = [of for of in documents if of["kind"] == "DaemonSet"]
    template = daemonset["spec"]["template"]
    [(label, value)] = template["metadata"]["labels"].items()
    assert f"--selector {label}={value} " in text
    assert f"namespace={daemonset['metadata']['namespace']} " in text
    assert "--container headgate " in text
    assert "headgate" in {container["name"] for container in template["spec"]["containers"]}


def test_the_page_shows_what_works(kubectl: Kubectl) -> None:
    shown = re.findall(r"^kubectl headgate (.+?)(?: *[>|].*)?$", PAGE, re.MULTILINE)
    assert shown
    cluster = {"nodes": ["NODE"], "pods": {"headgate-x": ["NODE", "Running"]}}
    for line in shown:
        assert kubectl.headgate(line.partition(" #")[0], cluster).status == 0, line
