"""Can one do what docs/migrate.md says?"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from proxy.cli import Parser
from proxy.flags import COMMANDS
from tests.lab import sandbox
from tests.test_readme import Example, examples, is_as_said
from tests.unit.deploy import DEPLOY, ROOT
from tests.unit.deploy.kustomize import BASE, build

PAGE = ROOT / "docs" / "migrate.md"
TEXT = PAGE.read_text()
VERBS = {
    *(
        "apply",
        "create",
        "debug",
        "delete",
        "exec",
        "get",
        "label",
        "logs",
        "patch",
        "rollout",
        "wait",
    ),
}
IMAGE = next(
    item["spec"]["template"]["spec"]["containers"][0]["image"]
    for item in build(BASE)
    if item["kind"] == "DaemonSet"
)


def in_a_cluster() -> Iterator[list[str]]:
    """The words of each command that wants a cluster, without what kubectl shall run in a pod."""
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            yield shlex.split(line.partition(" > ")[0].partition(" | ")[0])


LINES = list(in_a_cluster())
KUBECTL = [words for words in LINES if words[0] == "kubectl"]
IN_PODS = [words[words.index("--") + 1 :] for words in KUBECTL if "--" in words]
OURS = [words for words in (*LINES, *IN_PODS) if words[0] == "headgate"]


@pytest.mark.parametrize("block", list(examples(TEXT)), ids=lambda block: block[0].command)
def test_what_can_be_run_here_prints_what_is_shown(block: list[Example]) -> None:
    sandbox.require_sandbox()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for example in block:
        done = subprocess.run(
            ["/bin/sh", "-c", example.command],
            cwd=ROOT,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert is_as_said(done.stdout, example.printed), done.stdout


def test_every_command_of_headgate_is_one() -> None:
    assert {words[1] for words in OURS} == {"probe", "dump", "render", "explain", "cleanup"}
    for _, name, *rest in OURS:
        parser = Parser(name, "")
        COMMANDS[name].add_flags(parser)
        parser.parse_args(rest)
    flags = set(re.findall(r"(?<![\w-])(--[a-z-]+)", " ".join(re.findall(r"`(--[^`]+)`", TEXT))))
    parser = Parser("run", "")
    COMMANDS["run"].add_flags(parser)
    assert flags - {"--service-node-port-range"} <= set(parser.known)


def test_what_is_run_in_a_pod_is_in_the_image() -> None:
    assert {words[0] for words in IN_PODS} == {"headgate"}
    images = {word.partition("=")[2] for words in LINES for word in words if "image=" in word}
    assert images == {IMAGE}
    (build_line,) = (words for words in LINES if words[0] == "docker")
    assert build_line[build_line.index("--tag") + 1] == IMAGE
    assert (ROOT / build_line[build_line.index("--file") + 1]).is_file()


def test_what_kubectl_is_asked_for_is_there() -> None:
    named = {"configmap": {"kube-proxy", "headgate"}, "daemonset": {"kube-proxy", "headgate"}}
    whole = build(DEPLOY / "overlays" / "new-cluster")
    made = {item["kind"].lower() for item in whole if item["metadata"]["name"] == "headgate"}
    assert set(named) <= made
    for words in KUBECTL:
        rest = words[3:] if words[1] == "-n" else words[1:]
        assert rest[0] in VERBS, words
        assert words[1] != "-n" or words[2] == "kube-system"
        if rest[0] != "debug":
            for place, word in enumerate(rest[:-1]):
                assert rest[place + 1] in named.get(word, {rest[place + 1]}), words
        for flag in ("-k", "--patch-file"):
            if flag in rest:
                assert (ROOT / rest[rest.index(flag) + 1]).exists(), words
        if "-c" in rest:
            assert rest[rest.index("-c") + 1] == "headgate"


def test_the_kustomizations_start_from_what_is_there() -> None:
    shown = [
        yaml.safe_load(block)
        for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    ]
    assert len(shown) == 2
    for kustomization in shown:
        assert len(kustomization["resources"]) == 1
        for folder in (*kustomization["resources"], *kustomization.get("components", ())):
            assert (ROOT / folder.removeprefix("headgate/") / "kustomization.yaml").is_file()
    assert [list(kustomization) for kustomization in shown] == [
        ["resources", "images"],
        ["resources", "components"],
    ]


def test_the_overlays_that_are_named_are_there() -> None:
    named = set(re.findall(r"deploy/((?:overlays|components)/[a-z-]+)", TEXT))
    assert {"overlays/new-cluster", "components/nftables"} <= named
    assert [name for name in named if not (DEPLOY / name / "kustomization.yaml").is_file()] == []


def test_the_label_is_the_one_that_the_overlay_asks_for() -> None:
    said = set(re.findall(r"headgate\.dev/proxy(?:!?=headgate|-)?", TEXT))
    assert said == {f"headgate.dev/proxy{end}" for end in ("=headgate", "!=headgate", "-")}
    patches = [path.read_text() for path in (DEPLOY / "overlays" / "migrate").glob("*.yaml")]
    keys = {key for text in patches for key in re.findall(r"key: (\S+)", text)}
    assert keys == {"headgate.dev/proxy"}


def test_links_lead_somewhere() -> None:
    titles = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        path, _, anchor = target.partition("#")
        assert (PAGE.parent / path).exists(), target
        assert path or anchor in titles, target
