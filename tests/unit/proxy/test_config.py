"""Is every flag checked, and does a refusal name flag and value?"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from endpoints.node import DetectLocalMode, Loopback, NodeSettings
from modes.base import IpvsSettings, ModeSettings
from proxy.config import (
    Config,
    Listener,
    NodePorts,
    Origins,
    asks_for_localhost,
    config,
    on_mode,
)
from proxy.flags import COMMANDS, Flags
from proxy.settings.refusal import ConfigError
from tests.unit.proxy.configured import configured


def without_document(found: Config) -> Config:
    return msgspec.structs.replace(found, document={})


def test_what_is_left_unsaid() -> None:
    assert without_document(configured()) == Config("auto", NodeSettings("node-a"))


def test_what_kube_proxy_users_say() -> None:
    found = configured(
        "--proxy-mode=nftables",
        "--kubeconfig=/var/lib/kube-proxy/kubeconfig.conf",
        "--master=https://10.0.0.1:6443",
        "--cluster-cidr=10.244.0.0/16,fd00:10:244::/64",
        "--detect-local-mode=ClusterCIDR",
        "--nodeport-addresses=primary,10.0.0.0/8",
        "--nodeport-addresses",
        "fd00::/8",
        "--masquerade-all",
        "--iptables-localhost-nodeports=false",
        "--iptables-masquerade-bit=0",
        "--iptables-variant=legacy",
        "--metrics-bind-address=0.0.0.0:9249",
        "--once=false",
        "--v=4",
    )
    assert without_document(found) == Config(
        mode="nftables",
        origins=Origins("--proxy-mode"),
        kubeconfig="/var/lib/kube-proxy/kubeconfig.conf",
        master="https://10.0.0.1:6443",
        node=NodeSettings(
            "node-a",
            cluster_cidrs=("10.244.0.0/16", "fd00:10:244::/64"),
            masquerade_all=True,
        ),
        node_ports=NodePorts(("primary", "10.0.0.0/8", "fd00::/8"), localhost=False),
        of_modes=ModeSettings(masquerade_bit=0, iptables_variant="legacy"),
        metrics=Listener("0.0.0.0", 9249),
        verbosity=4,
    )


NODE = NodeSettings("node-a")


# what is said of NodePorts -> what the nftables mode and what the iptables mode make of it
@pytest.mark.parametrize(
    ("said", "nftables", "iptables"),
    [
        ([], (("primary",), Loopback.BY_NAME), (("all",), Loopback.IN_RANGE)),
        (
            ["--iptables-localhost-nodeports=false"],
            (("primary",), Loopback.BY_NAME),
            (("all",), Loopback.NEVER),
        ),
        (["--nodeport-addresses=primary"], (("primary",), Loopback.BY_NAME), (("primary",), Loopback.IN_RANGE)),
        (
            ["--nodeport-addresses=0.0.0.0/0,localhost", "--iptables-localhost-nodeports=f"],
            (("0.0.0.0/0", "localhost"), Loopback.BY_NAME),
            (("0.0.0.0/0", "localhost"), Loopback.NEVER),
        ),
    ],
)  # fmt: skip
def test_where_node_ports_answer_depends_on_the_mode(
    said: list[str],
    nftables: tuple[tuple[str, ...], Loopback],
    iptables: tuple[tuple[str, ...], Loopback],
) -> None:
    found = configured(*said)
    for mode, (chosen, loopback) in (("nftables", nftables), ("iptables", iptables)):
        settings = on_mode(found.node, found.node_ports, mode)
        assert (settings.node_port_addresses, settings.loopback) == (chosen, loopback)


def test_the_ipvs_mode_holds_addresses_and_serves_no_loopback_address() -> None:
    found = configured()
    for said in ([], ["--iptables-localhost-nodeports=true"]):
        found = configured(*said)
        settings = on_mode(found.node, found.node_ports, "ipvs")
        assert settings == NodeSettings(
            "node-a",
            node_port_addresses=("all",),
            loopback=Loopback.NEVER,
            holds_addresses=True,
        )
    for mode in ("nftables", "iptables"):
        assert not on_mode(found.node, found.node_ports, mode).holds_addresses


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("", False),
        ("all", False),
        ("primary,10.0.0.0/8,fd00::/8", False),
        ("0.0.0.0/0", False),
        ("localhost", True),
        ("all,localhost", True),
        ("127.0.0.0/8", True),
        ("::1/128", False),
    ],
)
def test_who_asks_for_localhost_by_name(text: str, *, asks: bool) -> None:
    assert asks_for_localhost(configured(f"--nodeport-addresses={text}").node_ports) is asks


def test_what_ipvs_users_say() -> None:
    found = configured(
        "--ipvs-scheduler=mh",
        "--ipvs-scheduler-flags=mh-port,mh-fallback",
        "--ipvs-exclude-cidrs=192.0.2.1/24,2001:db8::/32",
        "--ipvs-exclude-cidrs",
        "192.0.2.0/24",
        "--ipvs-strict-arp",
        "--ipvs-tcp-timeout=15m",
        "--ipvs-tcpfin-timeout=1m30s",
        "--ipvs-udp-timeout=1.5m",
        "--ipvs-drain-seconds=0",
    )
    assert found.of_modes.ipvs == IpvsSettings(
        scheduler="mh",
        scheduler_flags=("mh-fallback", "mh-port"),
        exclude_cidrs=("192.0.2.0/24", "2001:db8::/32"),
        strict_arp=True,
        tcp_timeout_seconds=900,
        tcpfin_timeout_seconds=90,
        udp_timeout_seconds=90,
        drain_seconds=0,
    )
    assert configured("--ipvs-scheduler=").of_modes.ipvs == IpvsSettings()


@pytest.mark.parametrize(
    ("arguments", "health", "metrics"),
    [
        (["--healthz-port=0"], None, 10249),
        (["--metrics-port=0"], 10256, None),
        (["--healthz-port=9000", "--metrics-port=9001"], 9000, 9001),
        (["--healthz-bind-address=0.0.0.0:9000", "--healthz-port=9001"], 9000, 10249),
        (["--healthz-bind-address=0.0.0.0", "--healthz-port=9001"], 9001, 10249),
        (["--healthz-bind-address="], None, 10249),
        (["--healthz-bind-address=[::]:0"], None, 10249),
    ],
)
def test_old_flags_of_ports(arguments: list[str], health: int | None, metrics: int | None) -> None:
    found = configured(*arguments)
    assert (found.health and found.health.port) == health
    assert (found.metrics and found.metrics.port) == metrics


@pytest.mark.parametrize(
    ("bind", "said"),
    [("0.0.0.0", ""), ("::", ""), ("192.168.0.11", "192.168.0.11"), ("FD00::1", "fd00::1")],
)
def test_a_bind_address_that_is_one(bind: str, said: str) -> None:
    assert configured(f"--bind-address={bind}").node.bind_address == said


@pytest.mark.parametrize(
    ("argument", "warnings", "notes"),
    [
        ("--logtostderr=true", (), ()),
        ("--kube-api-content-type=application/vnd.kubernetes.protobuf", (), ()),
        ("--alsologtostderr", (), ("--alsologtostderr: true: ignored: the log goes to standard error",)),
        ("--log-dir=/var/log", ("--log-dir: /var/log: ignored: the log goes to standard error",), ()),
        ("--cleanup-ipvs=f", ("--cleanup-ipvs: f: ignored: kube-proxy has removed it; --cleanup cleans every mode",), ()),
        ("--udp-timeout=1s", (), ("--udp-timeout: 1s: ignored: kube-proxy has removed it with the userspace mode",)),
        (
            "--feature-gates=KubeProxyIPVS=true,A=false,B=t",
            ("--feature-gates: A,B: ignored: kube-proxy has no such feature gates",),
            ("--feature-gates: KubeProxyIPVS=true: ignored: headgate has no feature gates",),
        ),
    ],
)  # fmt: skip
def test_what_is_ignored_is_said(
    argument: str, warnings: tuple[str, ...], notes: tuple[str, ...]
) -> None:
    found = configured(argument)
    assert (found.warnings, found.notes) == (warnings, notes)


@pytest.mark.parametrize(
    ("text", "listener"),
    [
        ("", None),
        ("127.0.0.1:0", None),
        ("127.0.0.1:1", Listener("127.0.0.1", 1)),
        ("[::]:65535", Listener("::", 65535)),
        ("[FD00::1]:80", Listener("fd00::1", 80)),
        # kube-proxy takes an address alone.
        ("0.0.0.0", Listener("0.0.0.0", 10249)),
        ("::1", Listener("::1", 10249)),
    ],
)
def test_where_metrics_answer(text: str, listener: Listener | None) -> None:
    assert configured(f"--metrics-bind-address={text}").metrics == listener


def test_the_hosts_name_in_lower_case() -> None:
    flags = Flags("run", "")
    COMMANDS["run"].add_flags(flags)
    assert config(flags.parse_args([])).node.name == os.uname().nodename.lower()
    assert configured("--hostname-override", " Node-B ").node.name == "node-b"


def test_manifests_are_listed_once_each() -> None:
    found = configured("--manifests=a", "--manifests", "b/", "--manifests=./a", "--manifests=a")
    assert found.manifests == (Path("a"), Path("b"))


def test_local_pods_by_interface() -> None:
    found = configured("--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0").node
    assert found.detect_local_mode is DetectLocalMode.BRIDGE_INTERFACE
    assert found.pod_bridge_interface == "cni0"
    found = configured(
        "--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=cali"
    ).node
    assert found.detect_local_mode is DetectLocalMode.INTERFACE_NAME_PREFIX
    assert found.pod_interface_name_prefix == "cali"


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["--proxy-mode=nft"], "--proxy-mode: nft: must be one of auto, nftables, iptables, ipvs"),
        (
            ["--mode=userspace"],
            "--mode: userspace: gone since Kubernetes 1.26; use nftables or iptables",
        ),
        (["--mode=nft"], "--mode: nft: must be one of auto, nftables, iptables, ipvs"),
        (["--cluster-cidr=10.244.0.0/33"], "--cluster-cidr: 10.244.0.0/33: is no CIDR"),
        (["--cluster-cidr=10.244.0.0"], "--cluster-cidr: 10.244.0.0: is no CIDR"),
        (["--cluster-cidr=10.0.0.0/8,"], '--cluster-cidr: "": is no CIDR'),
        (
            ["--cluster-cidr=10.0.0.0/8,172.16.0.0/12"],
            "--cluster-cidr: 10.0.0.0/8,172.16.0.0/12: holds two CIDRs of IPv4",
        ),
        (
            ["--detect-local-mode=bridge"],
            "--detect-local-mode: bridge: must be one of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix",
        ),
        (
            ["--detect-local-mode=BridgeInterface"],
            "--pod-bridge-interface: is required by --detect-local-mode BridgeInterface",
        ),
        (
            ["--detect-local-mode=InterfaceNamePrefix"],
            "--pod-interface-name-prefix: is required by --detect-local-mode InterfaceNamePrefix",
        ),
        (
            ["--pod-bridge-interface=a-name-that-is-too-long"],
            "--pod-bridge-interface: a-name-that-is-too-long: is no interface name (1 to 15 characters, no / or space)",
        ),
        (
            ["--nodeport-addresses=primary,eth0"],
            "--nodeport-addresses: 'eth0' is neither a CIDR nor primary, localhost or all",
        ),
        (["--masquerade-all=yes"], "--masquerade-all: yes: must be true or false"),
        (
            ["--iptables-localhost-nodeports=maybe"],
            "--iptables-localhost-nodeports: maybe: must be true or false",
        ),
        (
            ["--iptables-masquerade-bit=32"],
            "--iptables-masquerade-bit: 32: must be a number, 0 to 31",
        ),
        (
            ["--iptables-masquerade-bit=-1"],
            "--iptables-masquerade-bit: -1: must be a number, 0 to 31",
        ),
        (["--iptables-masquerade-bit="], "--iptables-masquerade-bit: must be an integer"),
        (
            ["--iptables-variant=nftables"],
            "--iptables-variant: nftables: must be one of auto, legacy, nft",
        ),
        *(
            (
                [f"--metrics-bind-address={text}"],
                f"--metrics-bind-address: {text}: must be IP:PORT ([::1]:10249 in IPv6), or empty",
            )
            for text in (
                "localhost:10249",
                ":10249",
                "fd00::1:x",
                "10.0.0.256:1",
                "fd00::1:99999",
                ":",
            )
        ),
        *(
            (
                [f"--metrics-bind-address={text}"],
                (
                    f"--metrics-bind-address: {text}: the port is above 65535: must be IP:PORT"
                    " ([::1]:10249 in IPv6), or empty"
                ),
            )
            for text in ("127.0.0.1:65536", ":99999", "[::1]:70000", f"127.0.0.1:{'9' * 9000}")
        ),
        (
            ["--ipvs-scheduler=Round Robin"],
            "--ipvs-scheduler: Round Robin: is no name of a scheduler (1 to 15 of a-z, 0-9, _ and -)",
        ),
        (
            ["--ipvs-scheduler-flags=sh-port,sh"],
            "--ipvs-scheduler-flags: sh-port,sh: 'sh' is no flag; known: mh-fallback, mh-port, sh-fallback, sh-port",
        ),
        (["--ipvs-exclude-cidrs=10.0.0.0"], "--ipvs-exclude-cidrs: 10.0.0.0: is no CIDR"),
        (["--ipvs-strict-arp=on"], "--ipvs-strict-arp: on: must be true or false"),
        (
            ["--ipvs-tcp-timeout=900"],
            "--ipvs-tcp-timeout: 900: must be a duration, like 90s, 15m or 1h30m",
        ),
        (["--ipvs-tcpfin-timeout=1500ms"], "--ipvs-tcpfin-timeout: 1500ms: must be whole seconds"),
        (["--ipvs-udp-timeout=597h"], "--ipvs-udp-timeout: 597h: must be 2147483s or less"),
        *(
            (
                [f"--ipvs-drain-seconds={text}"],
                f"--ipvs-drain-seconds: {text}: must be a number, 0 to 604800",
            )
            for text in ("604801", "-1")
        ),
        (["--ipvs-drain-seconds=15m"], "--ipvs-drain-seconds: 15m: must be an integer"),
        (["--ipvs-drain-seconds=²"], "--ipvs-drain-seconds: ²: must be an integer"),
        (["--once=maybe"], "--once: maybe: must be true or false"),
        (["-v=-1"], "-v: -1: must be a number, 0 or more"),
        (["--v=two"], "--v: two: must be an integer"),
        (["--manifests="], '--manifests: "": must be a file or a folder'),
        (["--once", "--manifests=/missing"], "--manifests: /missing: does not exist"),
        (
            ["--hostname-override=node_a"],
            "--hostname-override: node_a: is no name of a Node (RFC 1123 subdomain)",
        ),
        (
            ["--manifests=a", "--kubeconfig=b"],
            "--kubeconfig: b: the cluster comes from --manifests already; give one of the two",
        ),
        (
            ["--manifests=a", "--master=https://b"],
            "--master: https://b: the cluster comes from --manifests already; give one of the two",
        ),
    ],
)
def test_refusals_name_flag_and_value(arguments: list[str], refusal: str) -> None:
    with pytest.raises(ConfigError) as raised:
        configured(*arguments)
    assert str(raised.value) == refusal
