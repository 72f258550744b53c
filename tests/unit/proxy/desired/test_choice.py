"""Is he asked who was named, and is it said in one line when he cannot answer?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from modes.base import EnvironmentFault, IpvsSettings, ModeSettings
from proxy.cli import main
from proxy.desired.choice import NOBODY, desired
from proxy.desired.desired import Desired
from proxy.flags import COMMANDS, Flags
from proxy.settings.refusal import ConfigError
from tests.apiserver.conftest import fake
from tests.apiserver.fake import FakeApiServer
from tests.apiserver.story import endpoint_slice
from tests.apiserver.story import service as api_service
from tests.apiserver.test_outages import relay
from tests.apiserver.wire import Fault, Wire
from tests.unit.proxy.build import endpoints, node, service, together
from tests.unit.proxy.configured import HEAD
from tests.unit.proxy.running import running

__all__ = ["fake", "relay"]

SHOP = together(service(), endpoints("10.244.1.2"), node())
CART = together(service("cart", "10.96.7.8"), endpoints("10.244.1.3", of="cart"))
ANY = ("--mode=nftables", "--node=node-a")


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(together(SHOP, CART))
    return path


def asked(*arguments: str, **how: str | bool) -> Desired:
    flags = Flags("diff", "")
    COMMANDS["diff"].add_flags(flags)
    return desired(flags.parse_args(arguments), **how)  # type: ignore[arg-type]


def names(of: Desired) -> list[str]:
    return [str(plan.name) for plan in of.plans]


def test_whoever_is_named_is_asked_and_nobody_else(manifests: Path, tmp_path: Path) -> None:
    other = tmp_path / "snapshot"
    with running(CART):
        assert main(["snapshot", "-o", str(other)]) == 0
    with running(SHOP):
        assert names(asked()) == ["shop/pay:http"]
        assert names(asked("--snapshot", str(other))) == ["shop/cart:http"]
        both = asked("--manifests", str(manifests), *ANY)
        assert names(both) == ["shop/cart:http", "shop/pay:http"]
        assert both.running is None
        assert both.origin == str(manifests)


def test_only_one_service_is_planned(manifests: Path, tmp_path: Path) -> None:
    other = tmp_path / "snapshot"
    with running(SHOP, CART):
        assert main(["snapshot", "-o", str(other)]) == 0
        assert names(asked(only="shop/pay")) == ["shop/pay:http"]
    for source in (("--snapshot", str(other)), ("--manifests", str(manifests), *ANY)):
        assert names(asked(*source, only="shop/pay")) == ["shop/pay:http"]
        assert names(asked(*source, only="shop/none")) == []


def test_settings_of_modes_are_those_that_were_said(manifests: Path) -> None:
    found = asked(
        "--manifests", str(manifests), "--node=node-a", "--mode=ipvs", "--ipvs-scheduler=mh"
    )
    assert found.mode == "ipvs"
    assert found.of_modes == ModeSettings(ipvs=IpvsSettings("mh"))


def test_the_mode_of_manifests(manifests: Path, tmp_path: Path) -> None:
    source = ("--manifests", str(manifests), "--node=node-a")
    assert asked(*source, otherwise="iptables").mode == "iptables"
    assert asked(*source, "--mode=ipvs", otherwise="iptables").mode == "ipvs"
    file = tmp_path / "config"
    file.write_text(f"{HEAD}mode: ipvs\n")
    assert asked(*source, "--config", str(file), otherwise="iptables").mode == "ipvs"
    assert asked(*source, here=True).mode == "nftables"


def test_addresses_are_the_kernel_s_only_where_it_is_asked(manifests: Path) -> None:
    source = ("--manifests", str(manifests), *ANY)
    assert "192.168.0.11" in asked(*source).node.addresses
    assert "192.168.0.11" not in asked(*source, here=True).node.addresses
    assert "127.0.0.1" in asked(*source, here=True).node.addresses


Said = Callable[[Path], tuple[str, ...]]
REFUSALS: dict[str, tuple[Said, str]] = {
    "manifests from nowhere": (
        lambda path: ("--manifests", str(path), "--mode=nftables"),
        '--node: "": must name the Node from which the manifests are seen',
    ),
    "no such manifests": (
        lambda path: ("--manifests", f"{path}.old", *ANY),
        "--manifests: {path}.old: does not exist",
    ),
    "no mode": (
        lambda path: ("--manifests", str(path), "--node=node-a"),
        "--mode: must name a mode: no kernel is asked which one works",
    ),
    "another mode": (
        lambda path: ("--manifests", str(path), "--node=node-a", "--mode=ebpf"),
        "--mode: ebpf: must be one of auto, nftables, iptables, ipvs",
    ),
    "two sources": (
        lambda path: ("--manifests", str(path), "--snapshot", str(path), *ANY),
        "--snapshot: {path}: is asked alone: leave out manifests, API server and configuration",
    ),
    "no such snapshot": (
        lambda path: ("--snapshot", f"{path}.old"),
        "--snapshot: {path}.old: No such file or directory",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_who_cannot_be_asked_is_refused(manifests: Path, case: str) -> None:
    arguments, refusal = REFUSALS[case]
    with pytest.raises(ConfigError) as refused:
        asked(*arguments(manifests))
    assert str(refused.value) == refusal.format(path=manifests)


def test_where_nobody_runs_and_nobody_is_named() -> None:
    with pytest.raises(EnvironmentFault) as refused:
        asked()
    assert str(refused.value) == NOBODY


@pytest.mark.parametrize("source", ["live", "snapshot"])
def test_who_is_asked_answers_for_no_other_mode_or_node(source: str, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    with running(SHOP):
        assert main(["snapshot", "-o", str(path)]) == 0
        named = ("--snapshot", str(path)) if source == "snapshot" else ()
        origin = asked(*named).origin
        for agreeing in ("--mode=nftables", "--mode=auto", "--node=node-a"):
            assert names(asked(*named, agreeing)) == ["shop/pay:http"]
        for other, refusal in (
            ("--mode=ipvs", f"--mode: ipvs: {origin}: its mode is nftables"),
            ("--node=node-b", f"--node: node-b: {origin} is of Node node-a"),
        ):
            with pytest.raises(ConfigError) as refused:
                asked(*named, other)
            assert str(refused.value) == refusal


def test_what_is_wrong_in_manifests_is_said_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(together(SHOP, service("wrong", "10.96.7.300")))
    found = asked("--manifests", str(path), *ANY)
    assert names(found) == ["shop/pay:http"]
    assert found.problems == 1
    said = capsys.readouterr().err
    assert said.startswith(f"headgate: {path}:24: Service shop/wrong: spec.clusterIPs[0]: ")
    assert said.count("\n") == 1


def test_a_node_that_is_not_there_is_said(
    manifests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = asked("--manifests", str(manifests), "--mode=nftables", "--node=node-b")
    assert found.problems == 1
    assert capsys.readouterr().err == (
        "headgate: Node node-b: is not among the objects that were read: its zone and its"
        " addresses are not known\n"
    )


def filled(server: FakeApiServer, services: int) -> None:
    for number in range(services):
        name = f"s{number}"
        found = api_service(name)
        found["spec"] |= {"clusterIP": f"10.96.{number // 250}.{number % 250 + 1}"}
        server.create(found)
        server.create(endpoint_slice(name))


def test_an_api_server_is_asked_once(
    relay: Wire,
    fake: FakeApiServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from proxy.desired import api  # noqa: PLC0415 (it imports the Kubernetes client)

    monkeypatch.setattr(api, "PAGE_LIMIT", 4)
    filled(fake, 10)
    found = asked("--master", relay.url, *ANY)
    assert len(found.plans) == 10
    assert all(len(plan.cluster) == 1 for plan in found.plans)
    assert found.origin == "the API server"
    paths = [request.path.rpartition("/")[2] for request in relay.requests]
    assert paths == ["services"] * 3 + ["endpointslices"] * 3 + ["nodes"]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"headgate: asking {relay.url}"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault(status=503), "503"), (Fault(status=403), "403"), (Fault(status=410), "410")],
)
def test_an_api_server_that_does_not_answer_is_named(
    relay: Wire, fake: FakeApiServer, fault: Fault, reason: str
) -> None:
    filled(fake, 2)
    relay.interpose(fault, lambda r: r.path.endswith("endpointslices"), times=9)
    with pytest.raises(EnvironmentFault) as refused:
        asked("--master", relay.url, *ANY)
    assert str(refused.value).startswith(f"{relay.url}: ")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_where_no_api_server_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "--master", "http://127.0.0.1:1", *ANY]) == 2
    asking, refusal = capsys.readouterr().err.splitlines()
    assert asking == "headgate: asking http://127.0.0.1:1"
    assert refusal.startswith("headgate: http://127.0.0.1:1: ")
    assert "refused" in refusal


def test_a_kubeconfig_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    with pytest.raises(EnvironmentFault, match=rf"^--kubeconfig: {path}: does not exist$"):
        asked("--kubeconfig", str(path), *ANY)


def test_by_service_holds_all_plans_of_each(manifests: Path) -> None:
    found = asked("--manifests", str(manifests), *ANY)
    assert {str(name): [str(p.name) for p in of] for name, of in found.by_service().items()} == {
        "shop/cart": ["shop/cart:http"],
        "shop/pay": ["shop/pay:http"],
    }
    assert msgspec.json.decode(msgspec.json.encode(found), type=Desired) == found
