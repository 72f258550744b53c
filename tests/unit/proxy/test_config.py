"""Is every flag checked, and does a refusal name flag and value?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from endpoints.node import DetectLocalMode, NodeSettings
from proxy.config import Config, ConfigError, boolean, config
from proxy.flags import COMMANDS, Flags


def configured(*arguments: str) -> Config:
    flags = Flags("run", "")
    COMMANDS["run"].add_flags(flags)
    return config(flags.parse_args(["--hostname-override=node-a", *arguments]))


def test_what_is_left_unsaid() -> None:
    assert configured() == Config("auto", NodeSettings("node-a"))


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
        "--once=false",
        "--v=4",
    )
    assert found == Config(
        mode="nftables",
        kubeconfig="/var/lib/kube-proxy/kubeconfig.conf",
        master="https://10.0.0.1:6443",
        node=NodeSettings(
            "node-a",
            cluster_cidrs=("10.244.0.0/16", "fd00:10:244::/64"),
            node_port_addresses=("primary", "10.0.0.0/8", "fd00::/8"),
            masquerade_all=True,
        ),
        verbosity=4,
    )


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


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "TRUE", "True"])
def test_true_as_go_spells_it(text: str) -> None:
    assert boolean("--once", text)
    assert configured(f"--masquerade-all={text}").node.masquerade_all


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "FALSE", "False"])
def test_false_as_go_spells_it(text: str) -> None:
    assert not boolean("--once", text)


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
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
        (["--once=maybe"], "--once: maybe: must be true or false"),
        (["-v=-1"], "-v: -1: must be a number, 0 or more"),
        (["-v=two"], "-v: two: must be a number, 0 or more"),
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
