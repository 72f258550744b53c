"""Is every setting of kube-proxy in the table, and the page in docs/ made from it?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.settings.option import Option
from proxy.settings.table import OF_FLAG, OPTIONS, SECTIONS

ROOT = Path(__file__).parents[4]

# REFERENCE B, all rows.
FLAGS = """
    --config --write-config-to --cleanup --init-only --version --proxy-mode --mode --feature-gates --kubeconfig --master
    --kube-api-content-type --kube-api-qps --kube-api-burst --hostname-override --bind-address --bind-address-hard-fail
    --healthz-bind-address --metrics-bind-address --healthz-port --metrics-port --profiling --show-hidden-metrics-for-version
    --oom-score-adj --config-sync-period --cluster-cidr --detect-local-mode --pod-bridge-interface --pod-interface-name-prefix
    --nodeport-addresses --masquerade-all --iptables-masquerade-bit --iptables-localhost-nodeports --iptables-sync-period
    --iptables-min-sync-period --ipvs-sync-period --ipvs-min-sync-period --ipvs-scheduler --ipvs-exclude-cidrs --ipvs-strict-arp
    --ipvs-tcp-timeout --ipvs-tcpfin-timeout --ipvs-udp-timeout --conntrack-max-per-core --conntrack-min
    --conntrack-tcp-timeout-established --conntrack-tcp-timeout-close-wait --conntrack-tcp-be-liberal --conntrack-udp-timeout
    --conntrack-udp-timeout-stream -v --v --vmodule --logging-format --log-flush-frequency --source-vip --network-name --enable-dsr
    --root-hnsendpoint-name --forward-healthcheck-vip --windows-service --cleanup-ipvs --cleanup-iptables --udp-timeout
    --proxy-port-range --add-dir-header --alsologtostderr --log-dir --log-file --logtostderr --skip-headers --stderrthreshold
"""
FIELDS = """
    featureGates clientConnection.kubeconfig clientConnection.acceptContentTypes clientConnection.contentType clientConnection.qps
    clientConnection.burst logging.format logging.flushFrequency logging.verbosity logging.vmodule logging.options.text.splitStream
    logging.options.text.infoBufferSize logging.options.json.splitStream logging.options.json.infoBufferSize hostnameOverride
    bindAddress healthzBindAddress metricsBindAddress bindAddressHardFail enableProfiling showHiddenMetricsForVersion mode
    iptables.masqueradeBit iptables.masqueradeAll iptables.localhostNodePorts iptables.syncPeriod iptables.minSyncPeriod
    ipvs.syncPeriod ipvs.minSyncPeriod ipvs.scheduler ipvs.excludeCIDRs ipvs.strictARP ipvs.tcpTimeout ipvs.tcpFinTimeout
    ipvs.udpTimeout nftables.masqueradeBit nftables.masqueradeAll nftables.syncPeriod nftables.minSyncPeriod winkernel.networkName
    winkernel.sourceVip winkernel.enableDSR winkernel.rootHnsEndpointName winkernel.forwardHealthCheckVip detectLocalMode
    detectLocal.bridgeInterface detectLocal.interfaceNamePrefix clusterCIDR nodePortAddresses oomScoreAdj conntrack.maxPerCore
    conntrack.min conntrack.tcpEstablishedTimeout conntrack.tcpCloseWaitTimeout conntrack.tcpBeLiberal conntrack.udpTimeout
    conntrack.udpStreamTimeout configSyncPeriod portRange windowsRunAsService
"""


def test_every_flag_and_field_is_there() -> None:
    flags = {name for option in OPTIONS.values() for name in (option.flag, *option.aliases)}
    assert set(FLAGS.split()) <= flags
    assert set(FIELDS.split()) <= {option.field for option in OPTIONS.values()}


def test_no_two_rows_share_a_key() -> None:
    assert len(OPTIONS) == sum(len(section.options) for section in SECTIONS)


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.key)
def test_every_default_can_be_said(option: Option) -> None:
    written = option.written(option.standard())
    if option.field and written is not None:
        assert option.of_field(written) in (option.standard(), None)


def test_the_page_is_made_from_the_table() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "tools/configuration.py"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (ROOT / "docs/configuration.md").read_text() == made, "run make docs"


def test_help_lists_what_works_and_names_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    words = set(capsys.readouterr().out.split())
    assert "docs/configuration.md." in words
    for flag, option in OF_FLAG.items():
        assert (flag in words) is option.works, flag
