"""Does the ClusterRole allow what the program asks for, and nothing else?"""

from __future__ import annotations

from proxy.sources.api import PATHS
from tests.unit.deploy import kustomize

OBJECTS = {item["kind"]: item for item in kustomize.build(kustomize.BASE)}

EVENTS = {("", "events", "create"), ("", "events", "patch")}
"""A first Event is created, one that comes again is counted."""


def test_the_role_allows_every_request_and_nothing_else() -> None:
    allowed = {
        (group, resource, verb)
        for rule in OBJECTS["ClusterRole"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    asked = set(EVENTS)
    for path in PATHS.values():
        root, *group, _version, resource = path.strip("/").split("/")
        asked |= {
            (group[0] if root == "apis" else "", resource, verb) for verb in ("list", "watch")
        }
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
