"""Is told apart what a running program can take up and what it cannot?"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from conntrack.settings import ConntrackSettings
from endpoints.node import NodeSettings
from modes.base import ModeSettings
from proxy.changes import _LIVE, _RESTART, Changed, changed
from proxy.config import Config, NodePorts, Origins
from proxy.settings.table import OPTIONS
from tests.unit.proxy.configured import HEAD, KUBEADM, configured


def test_nothing() -> None:
    assert changed(configured(), configured()) == Changed()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--cluster-cidr=10.0.0.0/8"], ["clusterCIDR"]),
        (["--detect-local-mode=NodeCIDR"], ["detectLocalMode"]),
        (["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=b"], ["detectLocal.bridgeInterface", "detectLocalMode"]),
        (["--pod-interface-name-prefix=cali"], ["detectLocal.interfaceNamePrefix"]),
        (["--masquerade-all"], ["iptables.masqueradeAll", "nftables.masqueradeAll"]),
        (["--bind-address=192.168.0.11"], ["bindAddress"]),
        (["--nodeport-addresses=primary"], ["nodePortAddresses"]),
        (["--iptables-localhost-nodeports=false"], ["iptables.localhostNodePorts"]),
        (["--conntrack-min=0", "--conntrack-udp-timeout=1s"], ["conntrack.min", "conntrack.udpTimeout"]),
        (["--iptables-sync-period=5s"], ["iptables.syncPeriod", "nftables.syncPeriod"]),
        (["--iptables-min-sync-period=5s"], ["iptables.minSyncPeriod", "nftables.minSyncPeriod"]),
        (["-v=2", "--vmodule=a=1", "--logging-format=json"], ["logging.format", "logging.verbosity", "logging.vmodule"]),
        (["--config-sync-period=1h"], ["configSyncPeriod"]),
        (["--feature-gates=A=true"], ["featureGates"]),
        (["--feature-gates=NFTablesProxyMode=true"], ["featureGates"]),
        (["--enable-dsr"], ["winkernel.enableDSR"]),
    ],
)  # fmt: skip
def test_what_is_applied_live(arguments: list[str], names: list[str]) -> None:
    assert changed(configured(), configured(*arguments)) == Changed(live=tuple(names))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--mode=ipvs"], ["mode"]),
        (["--iptables-masquerade-bit=5"], ["iptables.masqueradeBit"]),
        (["--ipvs-scheduler=sh", "--ipvs-strict-arp"], ["ipvs.scheduler", "ipvs.strictARP"]),
        (["--ipvs-tcp-timeout=1m"], ["ipvs.tcpTimeout"]),
        (["--healthz-bind-address="], ["healthzBindAddress"]),
        (["--metrics-bind-address="], ["metricsBindAddress"]),
        (["--bind-address-hard-fail"], ["bindAddressHardFail"]),
        (["--hostname-override=other"], ["hostnameOverride"]),
        (["--kubeconfig=k"], ["clientConnection.kubeconfig"]),
        (["--kube-api-qps=1", "--kube-api-burst=1"], ["clientConnection.burst", "clientConnection.qps"]),
        (["--oom-score-adj=1"], ["oomScoreAdj"]),
    ],
)  # fmt: skip
def test_what_needs_a_restart(arguments: list[str], names: list[str]) -> None:
    assert changed(configured(), configured(*arguments)) == Changed(restart=tuple(names))


def said(file: Path, text: str) -> Config:
    file.write_text(text)
    return configured(f"--config={file}")


def test_both(tmp_path: Path) -> None:
    file = tmp_path / "config"
    text = KUBEADM.replace('mode: ""', "mode: nftables").replace("10.244.0.0/16", "10.0.0.0/8")
    assert changed(said(file, KUBEADM), said(file, text)) == Changed(("clusterCIDR",), ("mode",))


def test_of_the_fields_that_may_say_it_the_one_that_does_is_named(tmp_path: Path) -> None:
    """Without a mode, those of nftables and of iptables hold."""
    file = tmp_path / "config"
    for field, value in (("masqueradeAll", "true"), ("syncPeriod", "5s")):
        for section in ("iptables", "nftables"):
            text = f"{HEAD}{section}: {{{field}: {value}}}"
            assert changed(said(file, HEAD), said(file, text)).live == (f"{section}.{field}",)
    assert changed(said(file, HEAD), said(file, f"{HEAD}ipvs: {{syncPeriod: 5s}}")) == Changed()


def test_what_is_only_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "config"
    old = said(file, HEAD)
    assert changed(old, said(file, f"{HEAD}clusterCidr: x")).live == ("unknown fields",)
    assert changed(old, said(file, f"{HEAD}portRange: 1-2")).live == ("portRange",)
    assert changed(old, said(file, f"{HEAD}enableProfiling: true")).live == ("enableProfiling",)


OPENED: list[tuple[str, msgspec.Struct]] = [
    ("", Config("auto", NodeSettings("a"))),
    ("node", NodeSettings("a")),
    ("node_ports", NodePorts()),
    ("conntrack", ConntrackSettings()),
    ("of_modes", ModeSettings()),
]


@pytest.mark.parametrize(("name", "values"), OPENED, ids=[name for name, _ in OPENED])
def test_every_field_is_compared(name: str, values: msgspec.Struct) -> None:
    """A field that is added must not be forgotten: unlike values of each are noticed."""
    follow = {"document", "bind_address", "origins"} if not name else {"asked", "ipvs"}
    old = Config("auto", NodeSettings("a"))
    for field in {*values.__struct_fields__} - {of for of, _ in OPENED} - follow:
        unlike: dict[str, object] = {field: object()}
        if name:
            unlike = {name: msgspec.structs.replace(values, **unlike)}
        found = changed(old, msgspec.structs.replace(old, **unlike))
        assert len((*found.live, *found.restart)) == 1, field


def test_every_name_is_one_of_a_field() -> None:
    fields = {option.field for option in OPTIONS.values()}
    for names in (*_LIVE.values(), *_RESTART.values()):
        assert set(names) <= fields


def test_who_asked_for_a_value_matters() -> None:
    """Only what was asked for may lower what the kernel has."""
    asked = ConntrackSettings(asked=frozenset({"min", "tcp_be_liberal"}))
    old = Config("auto", NodeSettings("a"))
    names = ("conntrack.min", "conntrack.tcpBeLiberal")
    assert changed(old, msgspec.structs.replace(old, conntrack=asked)).live == names


def test_who_said_it_does_not() -> None:
    old = configured("--mode=ipvs", "--kubeconfig=k")
    elsewhere: dict[str, object] = {"origins": Origins("config: mode", "config: x")}
    assert changed(old, msgspec.structs.replace(old, **elsewhere)) == Changed()
