"""Is a story understood, and is one that cannot be told refused by file and field?"""

from __future__ import annotations

from pathlib import Path

import pytest

from endpoints.names import Family, Protocol
from tests.scenarios.model import Settings, Story, StoryError, Target, load, read
from tests.scenarios.places import MAX_STORIES, NODES, PODS, symbols

STORY = """
title: A story
settings: {masquerade-all: true}
objects:
- {kind: Service, metadata: {name: web}, spec: {clusterIP: "{vip1}", ports: [{port: 80, nodePort: "{nodeport1}"}]}}
- kind: EndpointSlice
  metadata: {name: web-1}
  ports: [{name: "", port: 8080}]
  endpoints: [pod-a1, {pod: pod-b1, conditions: {ready: false}}, {addresses: ["{pod-c1}"]}]
steps:
- packets:
  - {from: [pod-a2, client], to: vip1:80/tcp, expect: {forward: [pod-a1, "pod-b1:81"], saw: {pod-a1: sender, "pod-b1:81": node}}}
- delete: [Service web]
  packets:
  - {from: node-b, to: ["vip1:80/udp", "node-a:nodeport1/sctp"], expect: pass}
"""


def told(folder: Path, text: str = STORY, number: int = 3) -> list[Story]:
    file = folder / "tale.yaml"
    file.write_text(text)
    return read(file, number)


def test_symbols_become_addresses_of_both_families(tmp_path: Path) -> None:
    for story, vip, pod in zip(
        told(tmp_path),
        ("10.96.6.1", "fd00:10:96::71"),
        ("10.244.1.2", "fd00:10:244:1::2"),
        strict=True,
    ):
        namespace = f"tale-{story.family.lower()}"
        service = story.steps[0].objects["Service", namespace, "web"]
        node_port = symbols(story.family, 3)["nodeport1"]
        assert service["spec"] == {"clusterIP": vip, "ports": [{"port": 80, "nodePort": node_port}]}
        slice_ = story.steps[0].objects["EndpointSlice", namespace, "web-1"]
        assert slice_["addressType"] == story.family
        assert slice_["metadata"] == {
            "name": "web-1",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": "web"},
        }
        assert isinstance(slice_["endpoints"], list)
        assert slice_["endpoints"][0] == {
            "addresses": [pod],
            "nodeName": "node-a",
            "zone": "eu-1a",
        }
        assert slice_["endpoints"][1]["conditions"] == {"ready": False}
        assert slice_["endpoints"][2].keys() == {"addresses"}


def test_lists_become_rows_and_steps_keep_what_they_do_not_touch(tmp_path: Path) -> None:
    story = told(tmp_path)[0]
    first, second = story.steps
    assert [(row.sender.name, row.via, row.expect) for row in first.rows] == [
        ("pod-a2", "node-a", "forward"),
        ("client", "node-a", "forward"),
    ]
    assert first.rows[0].targets == (
        Target("pod-a1", "10.244.1.2", 8080, masqueraded=False),
        Target("pod-b1", "10.244.2.2", 81, masqueraded=True),
    )
    assert [row.protocol for row in second.rows] == [Protocol.UDP, Protocol.SCTP]
    assert second.rows[1].destination == "192.168.0.11"
    assert [kind for kind, _, _ in first.objects] == ["Service", "EndpointSlice"]
    assert [kind for kind, _, _ in second.objects] == ["EndpointSlice"]
    assert str(second.rows[0]) == (
        "tale.yaml IPv4: steps[1].packets[0]: node-b -> 10.96.6.1:80/UDP"
    )


def test_settings_are_flags(tmp_path: Path) -> None:
    settings = told(tmp_path)[0].settings
    assert settings == Settings(masquerade_all=True)
    assert str(settings) == "masquerade_all=True"
    assert settings.arguments()[-1] == "--masquerade-all"
    assert settings.of("node-b").name == "node-b"
    assert Settings(cluster_cidr=()).arguments() == [
        "--cluster-cidr=",
        "--detect-local-mode=ClusterCIDR",
        "--nodeport-addresses=primary",
        "--iptables-localhost-nodeports=false",
    ]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("expect: pass", "expcet: pass"), "unknown field `expcet` - at `$.steps[1].packets[0]`"),
        (("expect: pass", "expect: passed"), "- at `$.steps[1].packets[0].expect`"),
        (("masquerade-all", "masquerade"), "unknown field `masquerade` - at `$.settings`"),
        (("title: A story", "title: ]"), "line 2, column 8"),
        (('clusterIP: "{vip1}"', 'clusterIP: "{vip}"'), "objects[0].spec.clusterIP: 'vip': "),
        (("kind: Service,", "kind: Serivce,"), "objects[0].kind: 'Serivce': must be Service or"),
        (("[pod-a1, {pod", "[pod-a9, {pod"), "objects[1].endpoints[0].pod: 'pod-a9': must be one"),
        (("from: node-b", "from: node-d"), "steps[1].packets[0].from: 'node-d': must be one of"),
        (("vip1:80/udp", "vip1/udp"), "steps[1].packets[0].to: 'vip1/udp': must be symbol:port"),
        (("vip1:80/udp", "vip9:80/udp"), "steps[1].packets[0].to: 'vip9': no such symbol"),
        (("[Service web]", "[Service wbe]"), "steps[1].delete[0]: 'Service wbe': there is no such"),
        (("[Service web]", "[web]"), "steps[1].delete[0]: 'web': must be a kind and a name"),
        (("pod-a1: sender", "pod-a1: me"), "steps[0].packets[0].expect.saw: 'me': pod-a1 must"),
        (("{pod-a1: sender, ", "{"), "steps[0].packets[0].expect.saw: None: pod-a1 must have"),
        (("{from: node-b", "{via: node-c, from: node-b"), "steps[1].packets[0].via: 'node-c': the"),
    ],
)  # fmt: skip
def test_a_story_that_cannot_be_told_names_file_and_field(
    tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    with pytest.raises(StoryError) as refused:
        told(tmp_path, STORY.replace(*change))
    assert str(refused.value).startswith("tale.yaml: ")
    assert complaint in str(refused.value)


def test_what_a_story_claims_is_its_own() -> None:
    """Addresses and NodePorts of no two stories, and of no two tellings of one, are equal."""
    claimed: list[object] = []
    for number in range(MAX_STORIES):
        for family in Family:
            for symbol, value in symbols(family, number).items():
                if symbol.startswith(("vip", "lb", "ext")) or symbol in ("nodeport1", "nodeport4"):
                    claimed.append(value)
    assert len(claimed) == MAX_STORIES * 2 * (2 * (8 + 2 + 2) + 2)
    assert len(set(claimed)) == len(claimed)


def test_the_places_follow_the_address_plan() -> None:
    assert PODS["pod-a1"].addresses == {Family.IPV4: "10.244.1.2", Family.IPV6: "fd00:10:244:1::2"}
    assert PODS["pod-c2"].addresses == {Family.IPV4: "10.244.3.3", Family.IPV6: "fd00:10:244:3::3"}
    assert (PODS["pod-b1"].node, PODS["pod-b1"].zone) == ("node-b", "eu-1a")
    assert NODES["node-c"].addresses[Family.IPV6] == "fd00:192:168::13"


def test_the_stories_cover_enough() -> None:
    """Issue 2, section 7: at least 60 packet rows, TCP and UDP, in both families."""
    rows = [row for story in load() for step in story.steps for row in step.rows]
    sent = [row for row in rows if not row.explain_only]
    for of in (4, 6):
        for protocol in (Protocol.TCP, Protocol.UDP):
            some = [r for r in sent if r.protocol is protocol and (":" in r.source) == (of == 6)]
            assert len(some) > 60
            assert {row.expect for row in some} == {"forward", "reject", "drop", "pass"}
