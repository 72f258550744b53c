"""Does a file answer as the node did, and hold nothing that nobody may read?"""

from __future__ import annotations

import gzip
import json
import os
import stat
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endpoints.events import Delete
from endpoints.names import ObjectName
from endpoints.objects import Kind
from modes import registry
from modes.held import Only
from proxy.cli import main
from proxy.debug.kernel import kernel
from proxy.desired import snapshot as kept
from proxy.desired.live import live
from proxy.desired.snapshot import recall, written
from proxy.settings.refusal import ConfigError
from tests.lab import sandbox
from tests.unit.proxy.build import endpoints, node, service, together
from tests.unit.proxy.configured import HEAD
from tests.unit.proxy.running import running

SHOP = together(service(), endpoints("10.244.1.2", "10.244.1.3"), node())
CART = together(service("cart", "10.96.7.8"), endpoints("10.244.1.4", of="cart"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """What a node wrote that wants two Services, and holds none of them."""
    sandbox.enter_private()
    path = tmp_path / "node.hgs"
    with running(SHOP, CART):
        assert main(["snapshot", "-o", str(path)]) == 0
    return path


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        recall(path)
    text = str(refused.value)
    assert text.startswith(f"--snapshot: {path}: ")
    assert "\n" not in text
    return text.removeprefix(f"--snapshot: {path}: ")


def test_it_wants_what_the_node_wanted(tmp_path: Path) -> None:
    path = tmp_path / "node.hgs"
    with running(SHOP, CART):
        assert main(["snapshot", "-o", str(path)]) == 0
        told = live()
    assert told is not None
    found = recall(path).desired()
    assert (found.plans, found.node, found.mode) == (told.plans, told.node, told.mode)
    assert found.of_modes == told.of_modes
    assert found.running is not None
    assert found.running.pid == os.getpid()
    taken = recall(path).written
    assert found.origin == f"a snapshot of node-a, taken {taken} ({told.origin})"


def test_it_holds_what_the_kernel_held(file: Path) -> None:
    for mode in recall(file).held:
        for only in (Only(), Only("shop/pay"), Only(address="10.96.7.7", port=80)):
            then, now = kernel(str(file), only).look(mode), registry.look(mode, only)
            assert then.services == now.services
            assert then.native() == now.native()
            wanted = recall(file).desired()
            assert then.differences(wanted.node, wanted.by_service()) == now.differences(
                wanted.node, wanted.by_service()
            )


def test_it_holds_the_facts_of_the_machine(file: Path) -> None:
    facts = recall(file).facts
    assert facts is not None
    assert facts.release == os.uname().release
    assert facts.sysctls["net.ipv4.ip_forward"] == "0"
    assert [link.name for link in facts.links] == ["lo"]
    assert facts.tools["nft"].startswith("nftables v")


def test_read_and_written_again_it_is_the_same(file: Path) -> None:
    again = file.with_name("again.hgs")
    again.write_bytes(written(recall(file)))
    assert content(again) == content(file)


def test_a_node_that_was_deleted_still_counts(tmp_path: Path) -> None:
    path = tmp_path / "node.hgs"
    with running(SHOP, CART) as here:
        here.queue.put(Delete(Kind.NODE, ObjectName("", "node-a")))
        told = live()
        assert main(["snapshot", "-o", str(path)]) == 0
    assert told is not None
    assert told.node.zone == "eu-1a"
    assert recall(path).desired().node == told.node


def test_only_its_owner_may_read_it(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "there"
    there.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with running(SHOP):
        for path in (there, link):
            assert main(["snapshot", "-o", str(path)]) == 2
            assert capsys.readouterr().err == f"headgate: -o: {path}: File exists\n"
        assert main(["snapshot", "-o", str(tmp_path / "no" / "folder")]) == 2
        assert capsys.readouterr().err.endswith("/no/folder: No such file or directory\n")
    assert there.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


SECRETS = {
    "token": "tok-5f0c2b1e9d",
    "password": "pass-7c4be20a11",
    "environment": "env-91ac77d0c3",
    "exec": "exec-2b7f00d4aa",
    "annotation": "note-c0ffee1234",
    "label": "lbl-deadbeef99",
    "service label": "slb-7be01f23aa",
    "pod": "pod-44d2a9b310",
    "last applied": "last-31337feed0",
}


def test_no_secret_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", SECRETS["environment"])
    user = {
        "token": SECRETS["token"],
        "password": SECRETS["password"],
        "username": "admin",
        "exec": {"command": SECRETS["exec"], "apiVersion": "client.authentication.k8s.io/v1"},
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps({"users": [{"name": "me", "user": user}]}))
    file = tmp_path / "config"
    file.write_text(f"{HEAD}mode: nftables\nclientConnection: {{kubeconfig: {kubeconfig}}}\n")
    secret = {"kubectl.kubernetes.io/last-applied-configuration": SECRETS["last applied"]}
    metadata = {"name": "pay", "namespace": "shop"}
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                **metadata,
                "annotations": {"vault": SECRETS["annotation"], **secret},
                "labels": {"key": SECRETS["service label"]},
            },
            "spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 80}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "pay-1",
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "pay"},
                "annotations": {"vault": SECRETS["annotation"], **secret},
            },
            "addressType": "IPv4",
            "ports": [{"port": 8080}],
            "endpoints": [
                {"addresses": ["10.244.1.2"], "targetRef": {"kind": "Pod", "name": SECRETS["pod"]}}
            ],
        },
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": "node-a",
                "annotations": {"vault": SECRETS["annotation"]},
                "labels": {"key": SECRETS["label"], "topology.kubernetes.io/zone": "eu-1a"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "data": {"key": SECRETS["password"]},
        },
    ]
    manifests = tmp_path / "objects.json"
    manifests.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    path = tmp_path / "node.hgs"
    arguments = ["-o", str(path), "--config", str(file), "--manifests", str(manifests)]
    assert main(["snapshot", *arguments, "--node=node-a"]) == 0
    text = content(path)
    assert b"10.244.1.2" in text
    assert b"eu-1a" in text
    assert [what for what, secret in SECRETS.items() if secret.encode() in text] == []
    with running(manifests.read_text()):
        assert main(["snapshot", "-o", f"{path}.live"]) == 0
    text = content(Path(f"{path}.live"))
    assert b"10.244.1.2" in text
    assert [what for what, secret in SECRETS.items() if secret.encode() in text] == []


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in (
        (tmp_path, "folder"),
        (tmp_path / "pipe", "FIFO"),
        (Path("/dev/zero"), "device"),
    ):
        assert refusal(path) == f"must be a regular file, is a {kind}"
    plain = tmp_path / "plain"
    plain.write_text("apiVersion: v1\n")
    assert refusal(plain) == "is no snapshot: it is not compressed by gzip"
    plain.write_bytes(b"")
    recall.cache_clear()
    assert refusal(plain) == "is no snapshot of headgate"
    for text in (b"[]", b"{}", b'"x"', b"{", b"\xff", b'{"format": "1"}', b"[" * 100_000):
        other = tmp_path / text[:20].hex()
        other.write_bytes(gzip.compress(text))
        assert refusal(other) == "is no snapshot of headgate"


def test_another_format(tmp_path: Path) -> None:
    path = tmp_path / "of-the-future"
    path.write_bytes(gzip.compress(b'{"format": 2, "cluster": "of another kind"}'))
    assert refusal(path) == "is of format 2; this headgate reads format 1"


def test_a_field_that_is_of_another_kind(file: Path) -> None:
    value = json.loads(content(file))
    value["cluster"]["services"] = "two"
    file.write_bytes(gzip.compress(json.dumps(value).encode()))
    recall.cache_clear()
    assert refusal(file) == "is damaged: Expected `array`, got `str` - at `$.cluster.services`"


FOREIGN = {
    "tool": "nft",
    "family": "ip",
    "table": "mine",
    "name": "pre",
    "rules": [
        {"kind": "drop", "text": "drop", "conditions": [{"field": "source", "values": ["?"]}]}
    ],
}
UNSOUND: dict[str, tuple[list[str | int], object, str]] = {
    "cluster IP": (
        ["cluster", "services", 0, "spec", "clusterIPs", 0],
        "999.1.1.1;rm",
        "Service shop/pay: spec.clusterIPs[0]: '999.1.1.1;rm': is not an IP address",
    ),
    "port": (
        ["cluster", "services", 0, "spec", "ports", 0, "port"],
        -1,
        "Service shop/pay: spec.ports[0].port: -1: must be 1-65535",
    ),
    "name": (
        ["cluster", "services", 0, "metadata", "name"],
        "a\x1b[31m\nb",
        r"Service 'shop/a\x1b[31m\nb': metadata.name: 'a\x1b[31m\nb': must be a DNS subdomain (RFC 1123)",
    ),
    "endpoint": (
        ["cluster", "slices", 0, "endpoints", 0, "addresses", 0],
        "fd00::zz",
        "EndpointSlice shop/pay-1: endpoints[0].addresses[0]: 'fd00::zz': is not an IP address",
    ),
    "cluster CIDR": (
        ["cluster", "settings", "cluster_cidrs", 0],
        "10.0.0.0/99",
        "clusterCIDR: '10.0.0.0/99': is no CIDR",
    ),
    "address of the node": (
        ["cluster", "addresses", 0],
        "",
        "an address of the node: '': is no IP address",
    ),
    "mode": (
        ["cluster", "mode"],
        "ebpf",
        "'ebpf' is no mode; modes: nftables, iptables, ipvs",
    ),
    "link": (
        ["facts", "links", 0, "addresses"],
        ["lo"],
        "the address of a link: 'lo': is no CIDR",
    ),
    "rule of others": (
        ["foreign"],
        [FOREIGN],
        "a rule of nft table ip mine, chain pre: '?': is no CIDR",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSOUND)
def test_what_no_api_server_and_no_kernel_says(
    file: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place, wrong, reason = UNSOUND[case]
    value = json.loads(content(file))
    *way, last = place
    part = value
    for step in way:
        part = part[step]
    part[last] = wrong
    file.write_bytes(gzip.compress(json.dumps(value).encode()))
    capsys.readouterr()
    for command in (["diff"], ["explain", "10.96.7.7:80"], ["dump"], ["render"]):
        recall.cache_clear()
        assert main([*command, "--snapshot", str(file)]) == 2
        said = f"headgate: --snapshot: {file}: is damaged: {reason}\n"
        assert capsys.readouterr() == ("", said)


def test_a_table_that_is_of_another_version(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = json.loads(content(file))
    value["held"]["nftables"]["version"] = 99
    file.write_bytes(gzip.compress(json.dumps(value).encode()))
    recall.cache_clear()
    assert main(["dump", "--mode=nftables", "--snapshot", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"headgate: --snapshot: {file}: nftables: ")


def test_more_than_any_snapshot_holds_is_not_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_LARGEST", 1000)
    recall.cache_clear()
    assert refusal(file) == "holds more than any snapshot"


def test_a_mode_that_was_not_looked_at(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = json.loads(content(file))
    del value["held"]["nftables"]
    value["missing"]["nftables"] = "CAP_NET_ADMIN is missing"
    file.write_bytes(gzip.compress(json.dumps(value).encode()))
    recall.cache_clear()
    assert main(["diff", "--snapshot", str(file)]) == 2
    assert capsys.readouterr().err == (
        f"headgate: {file} tells nothing of nftables: CAP_NET_ADMIN is missing\n"
    )


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_damaged(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    recall.cache_clear()
    assert refusal(file)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    sandbox.enter_private()
    path = tmp_path_factory.mktemp("whole") / "node.hgs"
    with running(SHOP):
        assert main(["snapshot", "-o", str(path)]) == 0
    return path.read_bytes()


@settings(max_examples=300)
@given(st.data())
def test_damage_is_refused_or_does_no_harm(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """In the file, or in what it holds: never anything but a refusal in one line."""
    compressed = data.draw(st.booleans())
    damaged = bytearray(whole if compressed else gzip.decompress(whole))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged if compressed else gzip.compress(damaged, 1))
    recall.cache_clear()
    with suppress(ConfigError):
        assert msgspec.json.encode(recall(path))
