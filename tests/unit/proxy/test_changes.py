"""Is told apart what a running program can take up and what it cannot?"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from conntrack.settings import ConntrackSettings
from endpoints.node import NodeSettings
from modes.base import ModeSettings
from proxy.changes import Changed, changed
from proxy.config import Config
from tests.unit.proxy.configured import KUBEADM, configured


def test_nothing() -> None:
    assert changed(configured(), configured()) == Changed()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--cluster-cidr=10.0.0.0/8"], ["node.cluster_cidrs"]),
        (["--detect-local-mode=NodeCIDR"], ["node.detect_local_mode"]),
        (["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=b"], ["node.detect_local_mode", "node.pod_bridge_interface"]),
        (["--pod-interface-name-prefix=cali"], ["node.pod_interface_name_prefix"]),
        (["--masquerade-all"], ["node.masquerade_all"]),
        (["--bind-address=192.168.0.11"], ["node.bind_address"]),
        (["--nodeport-addresses=primary"], ["node_ports"]),
        (["--iptables-localhost-nodeports=false"], ["node_ports"]),
        (["--conntrack-min=0"], ["conntrack"]),
        (["--iptables-sync-period=5s"], ["sync_seconds"]),
        (["--iptables-min-sync-period=5s"], ["min_sync_seconds"]),
        (["-v=2", "--vmodule=a=1", "--logging-format=json"], ["log_format", "verbosity", "vmodule"]),
        (["--feature-gates=A=true"], ["feature_gates", "warnings"]),
        (["--enable-dsr"], ["warnings"]),
    ],
)  # fmt: skip
def test_what_is_applied_live(arguments: list[str], names: list[str]) -> None:
    assert changed(configured(), configured(*arguments)) == Changed(live=tuple(names))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--mode=ipvs"], ["mode"]),
        (["--iptables-masquerade-bit=5"], ["of_modes.masquerade_bit"]),
        (["--iptables-variant=nft"], ["of_modes.iptables_variant"]),
        (["--ipvs-scheduler=sh"], ["of_modes.ipvs"]),
        (["--healthz-bind-address="], ["health"]),
        (["--metrics-bind-address="], ["metrics"]),
        (["--hostname-override=other"], ["node.name"]),
        (["--kubeconfig=k"], ["kubeconfig"]),
        (["--kube-api-qps=1", "--kube-api-burst=1"], ["burst", "qps"]),
        (["--oom-score-adj=1"], ["oom_score_adj"]),
    ],
)
def test_what_needs_a_restart(arguments: list[str], names: list[str]) -> None:
    assert changed(configured(), configured(*arguments)) == Changed(restart=tuple(names))


def test_both(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(KUBEADM)
    old = configured(f"--config={file}")
    file.write_text(
        KUBEADM.replace('mode: ""', "mode: nftables").replace("10.244.0.0/16", "10.0.0.0/8")
    )
    new = configured(f"--config={file}")
    assert changed(old, new) == Changed(("node.cluster_cidrs",), ("mode",))


def test_every_field_is_compared() -> None:
    """A field that is added must not be forgotten: unlike values of each are noticed."""
    old = Config("auto", NodeSettings("a"))
    follows = {"document", "bind_address"}
    for name in set(Config.__struct_fields__) - {"node", "of_modes"} - follows:
        unlike: dict[str, object] = {name: object()}
        found = changed(old, msgspec.structs.replace(old, **unlike))
        assert (*found.live, *found.restart) == (name,)
    for name, values in (("node", NodeSettings("a")), ("of_modes", ModeSettings())):
        for field in values.__struct_fields__:
            inner: dict[str, object] = {field: object()}
            unlike = {name: msgspec.structs.replace(values, **inner)}
            found = changed(old, msgspec.structs.replace(old, **unlike))
            assert (*found.live, *found.restart) == (f"{name}.{field}",)


def test_who_asked_for_a_value_matters() -> None:
    """Only what was asked for may lower what the kernel has."""
    asked = ConntrackSettings(asked=frozenset({"min"}))
    old = Config("auto", NodeSettings("a"))
    assert changed(old, msgspec.structs.replace(old, conntrack=asked)).live == ("conntrack",)
