"""Does a file that was written say what was in force?"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from conntrack.settings import ConntrackSettings
from proxy.cli import main
from proxy.config import Origins
from proxy.settings.table import OPTIONS
from proxy.sources.base import ConfigChanged
from tests.unit.proxy.configured import KUBEADM, configured


def fields(document: object, above: str = "") -> set[str]:
    """The paths of all leaves."""
    if not isinstance(document, dict) or (above and above in {o.field for o in OPTIONS.values()}):
        return {above}
    return set().union(*(fields(v, f"{above}.{k}" if above else k) for k, v in document.items()))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--mode=auto", "--healthz-bind-address=", "--metrics-bind-address=[::1]:9000"],
        ["--proxy-mode=ipvs", "--ipvs-min-sync-period=1.5s", "--ipvs-exclude-cidrs=10.0.0.0/8,fd00::/8"],
        ["--masquerade-all", "--cluster-cidr=10.244.0.0/16", "--nodeport-addresses=primary", "--iptables-masquerade-bit=0"],
        ["--feature-gates=NFTablesNetlink=true,X=false", "--vmodule=sync=4,kernel*=6", "--logging-format=json", "-v=3"],
        ["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-udp-timeout=30s"],
        ["--enable-dsr", "--config-sync-period=1h", "--kube-api-qps=7.5", "--oom-score-adj=0"],
    ],
)  # fmt: skip
def test_what_is_written_is_read_back(arguments: list[str], tmp_path: Path) -> None:
    file = tmp_path / "written.yaml"
    assert main([*arguments, f"--write-config-to={file}"]) == 0
    written, wanted = configured(f"--config={file}"), configured(*arguments)
    for found in (written, wanted):
        assert msgspec.json.decode(msgspec.json.encode(found.document)) == found.document
    unlike: dict[str, object] = {"config_file": None, "document": {}}
    unlike |= {"warnings": (), "notes": (), "origins": Origins()}
    unlike["conntrack"] = ConntrackSettings()
    assert msgspec.structs.replace(written, **unlike) == msgspec.structs.replace(wanted, **unlike)
    asked: dict[str, object] = {"asked": frozenset()}
    assert msgspec.structs.replace(written.conntrack, **asked) == msgspec.structs.replace(
        wanted.conntrack, **asked
    )
    name: dict[str, object] = {"hostnameOverride": "node-a"}
    assert {**written.document, **name} == {**wanted.document, **name}


def test_every_field_is_written() -> None:
    written = fields(configured().document)
    assert written == {"apiVersion", "kind", *(o.field for o in OPTIONS.values() if o.field)}


def test_a_file_that_was_read_is_written_with_its_defaults(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text(KUBEADM)
    assert main([f"--config={old}", f"--write-config-to={new}"]) == 0
    lines = new.read_text().splitlines()
    assert "healthzBindAddress: 0.0.0.0:10256" in lines
    assert "clusterCIDR: 10.244.0.0/16" in lines
    assert "  tcpEstablishedTimeout: 24h0m0s" in lines
    assert "  burst: 10" in lines


def test_what_is_passed_over_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "old"
    old.write_text(KUBEADM.replace('portRange: ""', "portRange: 1-2") + "clusterCidr: 10.0.0.0/8\n")
    assert main([f"--config={old}", f"--write-config-to={tmp_path / 'new'}"]) == 0
    err = capsys.readouterr().err
    assert f"headgate: {old}: clusterCidr:" in err
    assert f"headgate: {old}: portRange:" in err


def test_what_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "missing" / "file"
    assert main([f"--write-config-to={file}"]) == 2
    assert capsys.readouterr().err == (
        f"headgate: --write-config-to: {file}: No such file or directory\n"
    )


def test_a_malformed_setting_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert main([f"--write-config-to={file}", "--cluster-cidr=x"]) == 2
    assert not file.exists()


def test_two_configurations_that_say_the_same_are_equal(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(KUBEADM)
    first = ConfigChanged(configured(f"--config={file}"))
    file.write_text("# a comment\n" + KUBEADM)
    assert ConfigChanged(configured(f"--config={file}")) == first
