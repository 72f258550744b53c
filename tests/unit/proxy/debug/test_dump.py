"""Does `headgate dump` show the kernel's content Service by Service?"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from modes.held import DumpedFrontend, DumpedReal, DumpedServer, DumpedService, DumpedTraffic
from proxy.cli import main
from proxy.debug.dumped import joined, text
from proxy.debug.screen import PLAIN
from tests.lab import sandbox

PAY = DumpedService(
    name="shop/pay:http",
    protocol="TCP",
    family="IPv4",
    frontends=(
        DumpedFrontend(
            "10.96.7.7", 80, "Cluster", "services -> pick-2", ("10.244.1.2:8080", "10.244.2.9:8080")
        ),
        DumpedFrontend(
            "198.51.100.20",
            80,
            "Local (pods: Cluster)",
            "external-local -> local-1; services -> pick-2",
            ("10.244.2.9:8080", "10.244.1.2:8080"),
            ("10.244.1.2:8080",),
            ("203.0.113.0/24",),
        ),
        DumpedFrontend("node", 30080, "Cluster", "nodeports -> np-pick-2", ("10.244.1.2:8080", "10.244.2.9:8080")),
    ),
    affinity_seconds=10800,
)  # fmt: skip


def lines(mode: str, service: DumpedService) -> list[str]:
    (of,) = joined([service], None)
    return text(mode, of, PLAIN)


def test_a_service_with_everything() -> None:
    assert (
        "\n".join(lines("nftables", PAY))
        == """\
shop/pay:http  TCP  nftables  IPv4  affinity 10800 s
  FRONTEND           POLICY                                  RULE
  10.96.7.7:80       Cluster                                 services -> pick-2
  198.51.100.20:80   Local (pods: Cluster), 203.0.113.0/24   external-local -> local-1; services -> pick-2
  node:30080         Cluster                                 nodeports -> np-pick-2
  ENDPOINT          SHARE   LOCAL SHARE
  10.244.1.2:8080     50%          100%
  10.244.2.9:8080     50%             -"""
    )


def test_without_local_lists_there_is_no_column_for_them() -> None:
    service = DumpedService(
        "shop/pay",
        "UDP",
        "IPv6",
        (DumpedFrontend("fd00::7", 53, "Cluster", "services -> pick-1", ("[fd00::2]:53",)),),
    )
    assert (
        "\n".join(lines("nftables", service))
        == """\
shop/pay  UDP  nftables  IPv6
  FRONTEND       POLICY    RULE
  [fd00::7]:53   Cluster   services -> pick-1
  ENDPOINT       SHARE
  [fd00::2]:53    100%"""
    )


def test_a_service_that_refuses() -> None:
    frontend = DumpedFrontend("10.96.7.7", 80, "Cluster", "services -> no-endpoints")
    service = DumpedService("shop/pay", "TCP", "IPv4", (frontend,))
    assert lines("nftables", service)[-1] == "  no endpoints"


def test_frontends_that_lead_to_different_endpoints_are_told_apart() -> None:
    """As never happens while headgate is right: then an operator must see it."""
    service = DumpedService(
        "shop/pay",
        "TCP",
        "IPv4",
        (
            DumpedFrontend("10.96.7.7", 80, "Cluster", "services -> pick-1", ("10.244.1.2:80",)),
            DumpedFrontend("node", 30080, "Cluster", "nodeports -> pick-1", ("10.244.1.3:80",)),
        ),
    )
    assert [line.split() for line in lines("nftables", service)[4:]] == [
        ["ENDPOINT", "OF", "10.96.7.7:80", "SHARE"],
        ["10.244.1.2:80", "100%"],
        ["ENDPOINT", "OF", "node:30080", "SHARE"],
        ["10.244.1.3:80", "100%"],
    ]


TEN = DumpedReal("10.244.1.2:8080", 1, 1500, 20, DumpedTraffic(1530, 9180, 7650, 1224000, 91800000))
NINE = DumpedReal("10.244.2.9:8080", 1, 4, 0, DumpedTraffic(4, 24, 20, 3200, 240000))
GONE = DumpedReal("10.244.2.3:8080", 0, 2, 0, DumpedTraffic(7, 42, 35, 5600, 420000), 840)
PAY_OF_IPVS = DumpedService(
    "shop/pay:http",
    "TCP",
    "IPv4",
    (
        DumpedFrontend(
            "10.96.7.7",
            80,
            "Cluster",
            "KUBE-CLUSTER-IP -> TCP 10.96.7.7:80 rr",
            ("10.244.1.2:8080", "10.244.2.9:8080"),
            servers=(
                DumpedServer("TCP 10.96.7.7:80", "rr", (TEN, GONE, NINE), DumpedTraffic(1541, 9246, 7705, 1232800, 92460000)),
            ),
        ),
        DumpedFrontend(
            "198.51.100.20",
            80,
            "Local (pods: Cluster)",
            "KUBE-LOAD-BALANCER -> TCP 198.51.100.20:80 rr (pods: mark 0x4b000001 rr)",
            ("10.244.1.2:8080", "10.244.2.9:8080"),
            ("10.244.1.2:8080",),
            servers=(
                DumpedServer("TCP 198.51.100.20:80", "rr", (TEN,), TEN.traffic),
                DumpedServer("mark 0x4b000001 (IPv4)", "rr", (TEN, NINE)),
            ),
        ),
    ),
)  # fmt: skip


def test_what_ipvs_counts_and_who_drains() -> None:
    assert (
        "\n".join(lines("ipvs", PAY_OF_IPVS))
        == """\
shop/pay:http  TCP  ipvs  IPv4
  FRONTEND           POLICY                  RULE
  10.96.7.7:80       Cluster                 KUBE-CLUSTER-IP -> TCP 10.96.7.7:80 rr
  198.51.100.20:80   Local (pods: Cluster)   KUBE-LOAD-BALANCER -> TCP 198.51.100.20:80 rr (pods: mark 0x4b000001 rr)
  VIRTUAL SERVER           SCHEDULER   CONNECTIONS   PACKETS IN   PACKETS OUT    BYTES IN    BYTES OUT
  TCP 10.96.7.7:80         rr                1,541        9,246         7,705   1,232,800   92,460,000
  TCP 198.51.100.20:80     rr                1,530        9,180         7,650   1,224,000   91,800,000
  mark 0x4b000001 (IPv4)   rr                    0            0             0           0            0
  ENDPOINT          SHARE   LOCAL SHARE   WEIGHT   ACTIVE   INACTIVE   CONNECTIONS   PACKETS IN   PACKETS OUT    BYTES IN     BYTES OUT   STATE
  10.244.1.2:8080     50%          100%        1    4,500         60         4,590       27,540        22,950   3,672,000   275,400,000
  10.244.2.9:8080     50%             -        1        8          0             8           48            40       6,400       480,000
  10.244.2.3:8080       -             -        0        2          0             7           42            35       5,600       420,000   drains, 840 s left"""
    )


def test_other_schedulers_give_no_shares() -> None:
    real = DumpedReal("10.244.2.9:8080", 0, 2, 0)
    server = DumpedServer("TCP 10.96.7.7:80", "mh mh-port", (NINE, real))
    service = DumpedService(
        "shop/pay",
        "TCP",
        "IPv4",
        (
            DumpedFrontend(
                "10.96.7.7", 80, "Cluster", "way", ("10.244.2.9:8080",), servers=(server,)
            ),
        ),
    )
    told = lines("ipvs", service)[-1].split()
    assert told[:5] == ["10.244.2.9:8080", "by", "mh", "0/1", "6"]
    assert told[-1] == "drains"


def test_a_service_that_only_drains_is_shown() -> None:
    server = DumpedServer("TCP 10.96.7.7:80", "rr", (GONE,))
    frontend = DumpedFrontend("10.96.7.7", 80, "Cluster", "refuses", servers=(server,))
    told = lines("ipvs", DumpedService("shop/pay", "TCP", "IPv4", (frontend,)))
    assert told[-1].split()[:3] == ["10.244.2.3:8080", "-", "0"]
    assert told[-1].endswith("drains, 840 s left")


@pytest.fixture
def network() -> Iterator[None]:
    """A kernel that holds nothing, whatever the tests before these ones left."""
    with sandbox.own_network():
        yield


@pytest.fixture
def programmed(
    network: None,  # noqa: ARG001
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two ports of one Service and another Service, in this network's kernel."""
    path = tmp_path / "shop.yaml"
    path.write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: pay, namespace: shop}\nspec:"
        " {clusterIP: 10.96.7.7, ports: [{name: http, port: 80}, {name: tls, port: 443}]}\n---\n"
        "apiVersion: v1\nkind: Service\nmetadata: {name: payer, namespace: shop}\nspec:"
        " {clusterIP: 10.96.7.8, ports: [{port: 80}]}\n"
    )
    root = logging.getLogger()
    before = root.handlers
    assert main(["--once", f"--manifests={path}", "--hostname-override=node-a"]) == 0
    root.handlers = before  # the log's stream ends with this test
    capsys.readouterr()


@pytest.mark.usefixtures("programmed")
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ["shop/pay:http", "shop/pay:tls", "shop/payer"]),
        (["shop/pay"], ["shop/pay:http", "shop/pay:tls"]),
        (["shop/pay:tls"], ["shop/pay:tls"]),
        (["shop/payer", "--mode=nftables"], ["shop/payer"]),
    ],
)
def test_what_the_kernel_holds(
    capsys: pytest.CaptureFixture[str], arguments: list[str], names: list[str]
) -> None:
    assert main(["dump", *arguments]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert [block.split()[0] for block in blocks] == names
    assert main(["dump", *arguments, "-o", "json"]) == 0
    dumped = {of["mode"]: of["services"] for of in json.loads(capsys.readouterr().out)}
    assert [service["name"] for service in dumped.pop("nftables")] == names
    assert not any(dumped.values())


@pytest.mark.usefixtures("programmed")
def test_a_service_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", "shop/cart"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("headgate: Service shop/cart is not in the kernel\n")


@pytest.mark.usefixtures("network")
def test_an_empty_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump"]) == 0
    assert capsys.readouterr().out == "no Service is in the kernel\n"
    assert main(["dump", "-o=json"]) == 0
    dumped = {of["mode"]: of["services"] for of in json.loads(capsys.readouterr().out)}
    assert list(dumped)[:2] == ["nftables", "iptables"]
    assert not any(dumped.values())
