"""Does the ClusterRole allow what the program asks for, and nothing else?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from proxy.sources.api import PATHS

RBAC = Path(__file__).parents[3] / "deploy" / "rbac.yaml"


def documents() -> dict[str, dict[str, Any]]:
    with RBAC.open() as file:
        return {document["kind"]: document for document in yaml.safe_load_all(file)}


def test_the_role_allows_every_list_and_watch_and_nothing_else() -> None:
    allowed = {
        (group, resource, verb)
        for rule in documents()["ClusterRole"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    asked = set()
    for path in PATHS.values():
        root, *group, _version, resource = path.strip("/").split("/")
        asked |= {
            (group[0] if root == "apis" else "", resource, verb) for verb in ("list", "watch")
        }
    assert allowed == asked


def test_the_binding_gives_the_role_to_the_account() -> None:
    account, role, binding = (
        documents()[kind] for kind in ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")
    )
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", **account["metadata"]}]
