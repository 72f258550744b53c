"""Does a file of kube-proxy's mean here what it means there, and is each mistake told once?"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack.settings import ConntrackSettings
from endpoints.node import DetectLocalMode, NodeSettings
from modes.base import IpvsSettings
from proxy.cli import main
from proxy.config import Config, Listener, Origins
from proxy.settings.file import decode
from proxy.settings.refusal import ConfigError
from tests.unit.proxy.configured import HEAD, KUBEADM, configured


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("config.conf")


def said(file: Path, body: str, *arguments: str) -> Config:
    file.write_text(HEAD + body)
    return configured(f"--config={file}", *arguments)


def test_what_kubeadm_writes_starts_unchanged(file: Path) -> None:
    file.write_text(KUBEADM)
    found = configured(f"--config={file}")
    assert msgspec.structs.replace(found, document={}) == Config(
        "auto",
        NodeSettings("node-a", cluster_cidrs=("10.244.0.0/16",)),
        kubeconfig="/var/lib/kube-proxy/kubeconfig.conf",
        config_file=file,
        origins=Origins(kubeconfig="config.conf: clientConnection.kubeconfig"),
    )
    assert found.conntrack.asked == frozenset()


def test_the_least_that_is_a_configuration(file: Path) -> None:
    found = said(file, "")
    assert msgspec.structs.replace(found, document={}, config_file=None) == Config(
        "auto", NodeSettings("node-a")
    )


def test_everything_said(file: Path) -> None:
    body = """
bindAddress: 192.168.0.11
bindAddressHardFail: true
clientConnection: {kubeconfig: /k, qps: 7.5, burst: 20}
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
configSyncPeriod: 1h0m0s
conntrack:
  maxPerCore: 0
  min: 1000
  tcpEstablishedTimeout: 2h
  tcpCloseWaitTimeout: 0s
  tcpBeLiberal: true
  udpTimeout: 30s
detectLocal: {bridgeInterface: cni0}
detectLocalMode: BridgeInterface
featureGates: {NFTablesNetlink: false}
healthzBindAddress: 127.0.0.1:9256
hostnameOverride: node-b
iptables: {masqueradeBit: 0, localhostNodePorts: false}
ipvs:
  excludeCIDRs: [192.0.2.0/24]
  minSyncPeriod: 2s
  scheduler: sh
  strictARP: true
  syncPeriod: 1m0s
  tcpTimeout: 15m0s
logging: {format: json, verbosity: 3, vmodule: [{filePattern: sync, verbosity: 5}]}
metricsBindAddress: '::'
mode: ipvs
nodePortAddresses: [10.0.0.0/8, primary]
oomScoreAdj: 0
"""
    found = said(file, body, "--hostname-override=")
    assert found.node == NodeSettings(
        "node-b",
        DetectLocalMode.BRIDGE_INTERFACE,
        ("10.244.0.0/16", "fd00:10:244::/56"),
        pod_bridge_interface="cni0",
        bind_address="192.168.0.11",
    )
    assert found.conntrack == ConntrackSettings(
        0, 1000, 7200, 0, tcp_be_liberal=True, udp_seconds=30,
        asked=frozenset({"max_per_core", "min", "tcp_established_seconds", "tcp_close_wait_seconds", "tcp_be_liberal", "udp_seconds"}),
    )  # fmt: skip
    assert found.of_modes.ipvs == IpvsSettings(
        "sh", exclude_cidrs=("192.0.2.0/24",), strict_arp=True, tcp_timeout_seconds=900
    )
    assert (found.mode, found.of_modes.masquerade_bit) == ("ipvs", 0)
    assert (found.node_ports.chosen, found.node_ports.localhost) == (
        ("10.0.0.0/8", "primary"),
        False,
    )
    assert (found.health, found.metrics) == (Listener("127.0.0.1", 9256), Listener("::", 10249))
    assert (found.sync_seconds, found.min_sync_seconds, found.resync_seconds) == (60.0, 2.0, 3600.0)
    assert (found.kubeconfig, found.qps, found.burst) == ("/k", 7.5, 20)
    assert (found.log_format, found.verbosity, found.vmodule) == ("json", 3, "sync=5")
    assert (found.bind_hard_fail, found.oom_score_adj) == (True, 0)
    assert found.feature_gates == {"NFTablesNetlink": False}
    assert found.warnings == ()
    assert found.notes == (
        "config.conf: configSyncPeriod: 1h0m0s: ignored: nothing is told twice: what the API server lists and watches is taken in at once",
        "config.conf: featureGates: NFTablesNetlink=false: ignored: headgate has no feature gates",
    )


@pytest.mark.parametrize(
    ("body", "flag", "field", "of_file", "of_flag"),
    [
        ("clusterCIDR: 10.0.0.0/8", "--cluster-cidr=10.1.0.0/16", "node.cluster_cidrs", ("10.0.0.0/8",), ("10.1.0.0/16",)),
        ("mode: iptables", "--proxy-mode=ipvs", "mode", "iptables", "ipvs"),
        ("logging: {verbosity: 2}", "-v=0", "verbosity", 2, 0),
        ("logging: {format: json}", "--logging-format=text", "log_format", "json", "text"),
        ("iptables: {masqueradeAll: true}", "--masquerade-all=false", "node.masquerade_all", True, False),
        ("nftables: {masqueradeAll: true}", "--masquerade-all=f", "node.masquerade_all", True, False),
        ("bindAddressHardFail: true", "--bind-address-hard-fail=0", "bind_hard_fail", True, False),
        ("conntrack: {min: 5}", "--conntrack-min=0", "conntrack.min", 5, 0),
        ("healthzBindAddress: 127.0.0.1:1", "--healthz-bind-address=", "health", Listener("127.0.0.1", 1), None),
        ("nftables: {syncPeriod: 10s}", "--iptables-sync-period=20s", "sync_seconds", 10.0, 20.0),
        ("iptables: {minSyncPeriod: 1s}", "--iptables-min-sync-period=0", "min_sync_seconds", 1.0, 0.0),
        ("nodePortAddresses: [primary]", "--nodeport-addresses=all", "node_ports.chosen", ("primary",), ("all",)),
        ("clientConnection: {burst: 3}", "--kube-api-burst=4", "burst", 3, 4),
        ("oomScoreAdj: 0", "--oom-score-adj=-5", "oom_score_adj", 0, -5),
        ("featureGates: {AllBeta: true}", "--feature-gates=AllAlpha=false", "feature_gates", {"AllBeta": True}, {"AllAlpha": False}),
    ],
)  # fmt: skip
def test_a_flag_beats_the_file(
    file: Path, body: str, flag: str, field: str, of_file: object, of_flag: object
) -> None:
    for arguments, value in ((), of_file), ((flag,), of_flag):
        found: object = said(file, body, *arguments)
        for name in field.split("."):
            found = getattr(found, name)
        assert found == value


@pytest.mark.parametrize(
    ("mode", "seconds"), [("", (1.0, 0.5)), ("iptables", (2.0, 0.0)), ("nftables", (1.0, 0.5)), ("ipvs", (3.0, 0.0))]
)  # fmt: skip
def test_each_mode_has_its_own_sync_period(
    file: Path, mode: str, seconds: tuple[float, float]
) -> None:
    periods = "nftables: {syncPeriod: 1s, minSyncPeriod: 500ms}\niptables: {syncPeriod: 2s}\nipvs: {syncPeriod: 3s}\n"
    found = said(file, f"{periods}mode: '{mode}'")
    assert (found.sync_seconds, found.min_sync_seconds) == seconds


def test_without_a_mode_what_kube_proxy_was_told_of_iptables_holds(file: Path) -> None:
    found = said(file, "iptables: {syncPeriod: 2s, masqueradeAll: true}")
    assert (found.sync_seconds, found.node.masquerade_all) == (2.0, True)


@pytest.mark.parametrize(
    ("mode", "section", "masquerade"),
    [("iptables", "iptables", True), ("ipvs", "iptables", True), ("nftables", "nftables", True), ("nftables", "iptables", False), ("ipvs", "nftables", False)],
)  # fmt: skip
def test_masquerade_all_is_said_in_the_section_of_the_mode(
    file: Path, mode: str, section: str, *, masquerade: bool
) -> None:
    found = said(file, f"mode: {mode}\n{section}: {{masqueradeAll: true}}")
    assert found.node.masquerade_all is masquerade


def test_listeners_follow_the_family_of_the_bind_address(file: Path) -> None:
    found = said(file, "bindAddress: fd00::11")
    assert (found.health, found.metrics) == (Listener("::", 10256), Listener("::1", 10249))


# What kube-proxy decodes leniently: a warning, and nothing else is lost.
WARNED = [
    ("ipvs: {schedular: sh}", "ipvs.schedular: unknown field (did you mean ipvs.scheduler?): ignored"),
    ("clusterCidrs: 10.0.0.0/8", "clusterCidrs: unknown field (did you mean clusterCIDR?): ignored"),
    ("masqueradeBit: 5", "masqueradeBit: unknown field (did you mean iptables.masqueradeBit?): ignored"),
    ("ipvs: {ipSet: {hashSize: 1}}", "ipvs.ipSet: unknown field: ignored"),
    ("udpIdleTimeout: 250ms", "udpIdleTimeout: unknown field: ignored"),
    ("conntrack: {max: null}", "conntrack.max: unknown field: ignored"),
    ("bindAddress: 1.2.3.4\nbindAddress: 0.0.0.0", "line 4: duplicate key bindAddress: the last one holds"),
    ("ClusterCidr: 10.0.0.0/8", "ClusterCidr: unknown field (did you mean clusterCIDR?): ignored"),
    ("iptables: {masqueradebit: 5}", "iptables.masqueradebit: unknown field (did you mean iptables.masqueradeBit?): ignored"),
    ("iptables: {snatNodeInternalIP: true}", "iptables.snatNodeInternalIP: True: ignored: masquerade takes the address of the interface that a packet leaves by"),
    ("enableProfiling: true", "enableProfiling: True: ignored: headgate is no Go program"),
    ("featureGates: {NoSuchGate: true}", "featureGates: NoSuchGate: ignored: kube-proxy has no such feature gates"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "warning"), WARNED)
def test_what_is_a_warning_costs_nothing_else(file: Path, body: str, warning: str) -> None:
    found = said(file, f"{body}\nclusterCIDR: 10.244.0.0/16\nhostnameOverride: n")
    meant = said(file, "clusterCIDR: 10.244.0.0/16\nhostnameOverride: n")
    assert found.warnings == (f"{file}: {warning}",)
    assert found.notes == ()
    unlike: dict[str, object] = {"warnings": (), "document": {}, "feature_gates": {}}
    assert msgspec.structs.replace(found, **unlike) == msgspec.structs.replace(meant, **unlike)


# What costs nobody anything.
NOTED = [
    ("portRange: 1-2", "portRange: 1-2: ignored: it was of the userspace mode, which is gone"),
    ("winkernel: {enableDSR: true}", "winkernel.enableDSR: True: ignored: headgate runs on Linux"),
    ("featureGates: {NFTablesProxyMode: true, KubeProxyIPVS: false}", "featureGates: NFTablesProxyMode=true,KubeProxyIPVS=false: ignored: headgate has no feature gates"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "note"), NOTED)
def test_what_nobody_misses_is_no_warning(file: Path, body: str, note: str) -> None:
    found = said(file, body)
    assert (found.warnings, found.notes) == ((), (f"{file}: {note}",))


def test_another_case_is_another_field(file: Path) -> None:
    for body in (
        "CLUSTERCIDR: 10.0.0.0/8\nclusterCIDR: 10.1.0.0/16",
        "clusterCIDR: 10.1.0.0/16\nCLUSTERCIDR: 10.0.0.0/8",
    ):
        found = said(file, body)
        assert found.node.cluster_cidrs == ("10.1.0.0/16",)
        assert len(found.warnings) == 1


def test_manifests_beat_the_kubeconfig_of_a_file(file: Path) -> None:
    found = said(file, "clientConnection: {kubeconfig: /k}", "--manifests=a")
    assert (found.manifests, found.kubeconfig) == ((Path("a"),), "")
    with pytest.raises(ConfigError, match=r"^--kubeconfig: /l: the cluster comes from --manifests"):
        said(file, "clientConnection: {kubeconfig: /k}", "--manifests=a", "--kubeconfig=/l")


def test_who_said_what_a_machine_may_refuse(file: Path) -> None:
    body = "mode: ipvs\nclientConnection: {kubeconfig: /k}"
    of_file = Origins("config.conf: mode", "config.conf: clientConnection.kubeconfig")
    assert said(file, body).origins == of_file
    typed = said(file, body, "--proxy-mode=iptables", "--kubeconfig=/l").origins
    assert typed == Origins("--proxy-mode", "--kubeconfig")


# What kube-proxy refuses, and we do.
REFUSED = [
    ("mode: userspace", "mode: userspace: gone since Kubernetes 1.26; use nftables or iptables"),
    ("mode: IPVS", "mode: IPVS: must be one of auto, nftables, iptables, ipvs"),
    ("mode: 4", "mode: 4: must be a text, is an integer"),
    ("mode: [ipvs]", "mode: ['ipvs']: must be a text, is a list"),
    ("iptables: yes", "iptables: True: must be a section of fields, is a boolean"),
    ("ipvs: [a]", "ipvs: ['a']: must be a section of fields, is a list"),
    ("winkernel: none", "winkernel: none: must be a section of fields, is a text"),
    ("bindAddressHardFail: maybe", "bindAddressHardFail: maybe: must be true or false, is a text"),
    ("bindAddressHardFail: 'true'", "bindAddressHardFail: true: must be true or false, is a text: leave out the quotes"),
    ("clusterCIDR: 10.244.0.0", "clusterCIDR: 10.244.0.0: is no CIDR"),
    ("clusterCIDR: 10.0.0.0/8,10.1.0.0/16", "clusterCIDR: 10.0.0.0/8,10.1.0.0/16: holds two CIDRs of IPv4"),
    ("clusterCIDR: [10.0.0.0/8]", "clusterCIDR: ['10.0.0.0/8']: must be a text, is a list"),
    ("bindAddress: node-a", "bindAddress: node-a: 'node-a' is not an IP address"),
    ("healthzBindAddress: localhost:10256", "healthzBindAddress: localhost:10256: must be IP:PORT ([::1]:10249 in IPv6), or empty"),
    ("metricsBindAddress: 0.0.0.0:70000", "metricsBindAddress: 0.0.0.0:70000: the port is above 65535: must be IP:PORT ([::1]:10249 in IPv6), or empty"),
    ("hostnameOverride: node_b", "hostnameOverride: node_b: is no name of a Node (RFC 1123 subdomain)"),
    ("iptables: {masqueradeBit: 32}", "iptables.masqueradeBit: 32: must be a number, 0 to 31"),
    ("iptables: {masqueradeBit: '14'}", "iptables.masqueradeBit: 14: must be an integer, is a text: leave out the quotes"),
    ("iptables: {syncPeriod: 30}", "iptables.syncPeriod: 30: must be a duration, like 90s, 15m or 1h30m, is an integer"),
    ("iptables: {syncPeriod: -1s}", "iptables.syncPeriod: -1s: must be above zero"),
    ("iptables: {syncPeriod: 1s, minSyncPeriod: 2s}", "iptables.minSyncPeriod: 2s: must be from 0s to config.conf: iptables.syncPeriod (1s)"),
    ("mode: ipvs\nipvs: {minSyncPeriod: -1s}", "ipvs.minSyncPeriod: -1s: must be from 0s to --ipvs-sync-period (30s)"),
    ("ipvs: {scheduler: Round Robin}", "ipvs.scheduler: Round Robin: is no name of a scheduler (1 to 15 of a-z, 0-9, _ and -)"),
    ("ipvs: {excludeCIDRs: [10.0.0.0]}", "ipvs.excludeCIDRs: 10.0.0.0: is no CIDR"),
    ("ipvs: {tcpTimeout: 1 minute}", "ipvs.tcpTimeout: 1 minute: must be a duration, like 90s, 15m or 1h30m"),
    ("conntrack: {maxPerCore: -1}", "conntrack.maxPerCore: -1: must be a number, 0 or more"),
    ("conntrack: {min: 3000000000}", "conntrack.min: 3000000000: does not fit into 32 bits"),
    ("conntrack: {tcpEstablishedTimeout: -5s}", "conntrack.tcpEstablishedTimeout: -5s: must not be below zero"),
    ("configSyncPeriod: -1s", "configSyncPeriod: -1s: must be above zero"),
    ("oomScoreAdj: -1001", "oomScoreAdj: -1001: must be a number, -1000 to 1000"),
    ("clientConnection: {burst: -1}", "clientConnection.burst: -1: must be a number, 0 or more"),
    ("clientConnection: {qps: .inf}", "clientConnection.qps: .inf: must be a number, is a text"),
    ("detectLocalMode: Bridge", "detectLocalMode: Bridge: must be one of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix"),
    ("detectLocalMode: BridgeInterface", "--pod-bridge-interface: is required by config.conf: detectLocalMode BridgeInterface"),
    ("detectLocal: {bridgeInterface: a/b}", "detectLocal.bridgeInterface: a/b: is no interface name (1 to 15 characters, no / or space)"),
    ("nodePortAddresses: 10.0.0.0/8", "nodePortAddresses: 10.0.0.0/8: must be a list of texts, is a text"),
    ("nodePortAddresses: [10]", "nodePortAddresses: [10]: must be a list of texts, holds an integer"),
    ("nodePortAddresses: [eth0]", "nodePortAddresses: 'eth0' is neither a CIDR nor primary, localhost or all"),
    ("featureGates: {A: maybe}", "featureGates: {'A': 'maybe'}: must be a section of true and false, holds a text"),
    ("featureGates: A=true", "featureGates: A=true: must be a section of true and false, is a text"),
    ("logging: {format: xml}", "logging.format: xml: must be one of text, json"),
    ("logging: {verbosity: -1}", "logging.verbosity: -1: must be a number, 0 or more"),
    ("logging: {vmodule: [{filePattern: a}]}", "logging.vmodule: [{'filePattern': 'a'}]: must be a list of filePattern and verbosity"),
    ("logging: {flushFrequency: []}", "logging.flushFrequency: []: must be a duration, like 90s, 15m or 1h30m, or nanoseconds, is a list"),
    ("a: [", "line 3: no value where one must be, or a bracket left open"),
    ("bindAddress: ::", "line 3: column 15: a colon where none can be: text with a colon at its end or before a space needs quotes"),
    ("mode: !!python/name:os.system x", "line 3: tag tag:yaml.org,2002:python/name:os.system is not supported"),
    ("---\nmode: ipvs", "line 4: a second document: one KubeProxyConfiguration is expected"),
    ("apiVersion: v1", "apiVersion: v1: must be kubeproxy.config.k8s.io/v1alpha1"),
    ("apiVersion: kubeproxy.config.k8s.io/v2", "apiVersion: kubeproxy.config.k8s.io/v2: must be kubeproxy.config.k8s.io/v1alpha1"),
    ("kind: KubeletConfiguration", "kind: KubeletConfiguration: must be KubeProxyConfiguration"),
    ("kind: 5", "kind: 5: must be KubeProxyConfiguration"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "refusal"), REFUSED)
def test_what_is_wrong_is_one_line_and_status_2(
    file: Path, capsys: pytest.CaptureFixture[str], body: str, refusal: str
) -> None:
    file.write_text(HEAD + body + "\n")
    assert main(["run", f"--config={file}", "--once"]) == 2
    where = "" if refusal.startswith("--") else f"{file}: "
    assert capsys.readouterr() == ("", f"headgate: {where}{refusal}\n")


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (b"", "is empty: must be a KubeProxyConfiguration"),
        (b"---\n---\n", "is empty: must be a KubeProxyConfiguration"),
        (b"- a\n", "['a']: must be a KubeProxyConfiguration"),
        (b"text", "text: must be a KubeProxyConfiguration"),
        (b"mode: ipvs", "apiVersion: must be kubeproxy.config.k8s.io/v1alpha1"),
        (b"a: \x00", "line 1: a character that YAML forbids: control characters are not allowed"),
        (b"a: \xff", "line 1: a character that YAML forbids: invalid leading UTF-8 octet"),
    ],
)
def test_what_is_no_configuration(data: bytes, refusal: str) -> None:
    with pytest.raises(ConfigError) as raised:
        decode(data, "f")
    assert str(raised.value) == f"f: {refusal}"


def test_all_values_of_the_wrong_type_are_told_at_once(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(f"{HEAD}mode: 4\niptables: {{syncPeriod: soon}}\n")
    assert main([f"--config={file}"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "headgate: config.conf: mode: 4: must be a text, is an integer",
        "headgate: config.conf: iptables.syncPeriod: soon: must be a duration, like 90s, 15m or 1h30m",
    ]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"^--config: {tmp_path}: must be a regular file, is a folder$"
    ):
        configured(f"--config={tmp_path}")


def test_json_is_yaml_too(file: Path) -> None:
    file.write_text(
        '{\n\t"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",\n'
        '\t"mode": "ipvs", "nodePortAddresses": null}'
    )
    assert configured(f"--config={file}").mode == "ipvs"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(["mode", "iptables", "ipvs", "logging", "conntrack", "qps", "nodePortAddresses", "featureGates", "clusterCIDR"]),
        VALUES | st.dictionaries(st.sampled_from(["syncPeriod", "masqueradeBit", "vmodule", "options", "min"]), VALUES),
    )
)  # fmt: skip
def test_no_document_is_anything_but_read_or_refused(fields: dict[str, object]) -> None:
    whole = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
    try:
        decode(msgspec.json.encode(whole | fields), "f")
    except ConfigError as error:
        assert all(line.startswith("f: ") for line in str(error).splitlines())  # noqa: PT017 (either is right)


@given(st.binary(max_size=60))
def test_no_bytes_are_anything_but_refused(data: bytes) -> None:
    with pytest.raises(ConfigError):
        decode(data, "f")
