"""Do the rules for Prometheus ask for what there is, and does docs/monitoring.md tell how to get it?"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from modes.registry import MODES
from proxy.metrics.metrics import Metrics, Sources
from proxy.metrics.table import TABLE, Kind
from tests.unit.deploy import DEPLOY, ROOT, kustomize

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
ROWS = {row.name: row for row in TABLE}
PAGE = (ROOT / "docs" / "monitoring.md").read_text()
OF_TARGET = {"job", "instance"}
"""Labels that Prometheus gives to what it scrapes."""
SERIES = re.compile(r"\b((?:headgate|kubeproxy)_\w+)(?:\{([^}]*)\})?(\[\w+\])?")

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


@each_rule
def test_a_rule_has_what_prometheus_wants(rule: dict[str, Any]) -> None:
    assert {"alert", "expr", "labels", "annotations"} <= set(rule)
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+m", rule.get("for", "0m"))
    assert set(rule["annotations"]) == {"summary"}
    labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert labels == {"instance"}


@each_rule
def test_a_rule_asks_for_what_every_mode_has(rule: dict[str, Any]) -> None:
    if rule["alert"] == "HeadgateDown":
        assert rule["expr"] == 'up{job="headgate"} == 0'  # Prometheus' own
        return
    ((name, selected, window),) = SERIES.findall(rule["expr"])
    row = ROWS[name]
    labels = re.findall(r'(\w+)="', selected)
    assert set(labels) <= {*row.labels, *OF_TARGET}
    assert bool(window) is (row.kind is Kind.COUNTER)
    # What is born with 1 increases unseen: the series must be there before it counts.
    for mode in MODES:
        text = Metrics(mode, Sources()).text().decode()
        wanted = re.escape(name + (f"{{{selected}}}" if selected else ""))
        if row.kind is Kind.COUNTER:
            pattern = wanted if selected else rf"{wanted}(?:{{.*}})?"
            assert re.search(rf"^{pattern} 0\.0$", text, re.MULTILINE), name


def test_every_alert_is_another_one() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names)) > 5


def test_the_job_is_the_one_of_the_page() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    address, scraping = (yaml.safe_load(block) for block in blocks)
    (job,) = scraping["scrape_configs"]
    assert f'job="{job["job_name"]}"' in RULES[0]["expr"]
    port = address["metricsBindAddress"].rpartition(":")[2]
    (target,) = (
        relabel for relabel in job["relabel_configs"] if relabel["target_label"] == "__address__"
    )
    for node, wanted in (("192.168.0.12:10250", "192.168.0.12"), ("[fd00::1]:10250", "[fd00::1]")):
        found = re.fullmatch(target["regex"], node)
        assert found
        assert target["replacement"].replace("$1", found[1]) == f"{wanted}:{port}"


def test_the_pods_reserve_no_port_of_the_host() -> None:
    for folder in kustomize.OVERLAYS:
        for item in kustomize.build(folder):
            if item["kind"] == "DaemonSet":
                spec = item["spec"]["template"]["spec"]
                assert [each for each in spec["containers"] if "ports" in each] == []
