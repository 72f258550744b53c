"""Does the ClusterRole allow what the program asks for, and nothing else?"""

from __future__ import annotations

from proxy.sources.api import PATHS
from proxy.sources.connection import Connection
from tests.unit.deploy import kustomize

OBJECTS = {item["kind"]: item for item in kustomize.build(kustomize.BASE)}

READING = {"get": "list", "stream": "watch"}
"""What a request is called in a role, by the method of Connection that makes it."""
WRITING = {"post": "create", "patch": "patch"}
"""Only Events are written: a first one is created, one that comes again is counted."""


def test_there_are_no_other_requests() -> None:
    methods = {name for name in vars(Connection) if not name.startswith("_")}
    assert methods - {"close"} == {*READING, *WRITING}


def test_the_role_allows_every_request_and_nothing_else() -> None:
    allowed = {
        (group, resource, verb)
        for rule in OBJECTS["ClusterRole"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    asked = {("", "events", verb) for verb in WRITING.values()}
    for path in PATHS.values():
        root, *group, _version, resource = path.strip("/").split("/")
        name = group[0] if root == "apis" else ""
        asked |= {(name, resource, verb) for verb in READING.values()}
    assert allowed == asked


def test_the_binding_gives_the_role_to_the_account_of_the_pods() -> None:
    account, role, binding, pods = (
        OBJECTS[kind]
        for kind in ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "DaemonSet")
    )
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", **account["metadata"]}]
    assert pods["spec"]["template"]["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert pods["metadata"]["namespace"] == account["metadata"]["namespace"]
