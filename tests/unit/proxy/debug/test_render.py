"""Does `headgate render` print a node's program, and fail on what it had to leave out?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.cli import main
from tests.unit.proxy.build import endpoints, node, service, together
from tests.unit.proxy.configured import HEAD


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    (tmp_path / "a.yaml").write_text(together(service(), endpoints("10.244.1.2"), node()))
    return ["render", "--mode=nftables", "--node=node-a", f"--manifests={tmp_path}"]


def test_text(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "10.96.7.7 . tcp . 80" in out
    assert "10.244.1.2" in out


def test_json(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main([*arguments, "-o=json"]) == 0
    assert "10.96.7.7 . tcp . 80" in json.dumps(json.loads(capsys.readouterr().out))


def test_iptables(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main([*arguments, "--mode=iptables", "--iptables-masquerade-bit=3"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "10.96.7.7/32" in out
    assert "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x8/0x8" in out
    # Of itself this mode serves NodePorts on loopback too.
    assert "-d 127.0.0.1/32" in out
    assert main([*arguments, "--mode=iptables", "--iptables-localhost-nodeports=false"]) == 0
    out = capsys.readouterr().out
    assert "-d 127.0.0.1/32" not in out
    assert "--set-xmark 0x4000/0x4000" in out


def test_what_had_to_be_left_out_is_a_failure(
    capsys: pytest.CaptureFixture[str], arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "b.yaml").write_text(service("cart", "10.96.7.8", port=70000))
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert "10.96.7.7 . tcp . 80" in out
    assert err == (
        f"headgate: {tmp_path}/b.yaml:1: Service shop/cart:"
        " spec.ports[0].port: 70000: must be 1-65535\n"
    )


def test_no_kernel_to_choose_by(
    capsys: pytest.CaptureFixture[str], arguments: list[str], tmp_path: Path
) -> None:
    unsaid = [argument for argument in arguments if "--mode" not in argument]
    (file := tmp_path / "auto.conf").write_text(f"{HEAD}mode: auto\n")
    reason = "must name a mode: no kernel is asked which one works"
    for said, origin in (
        ((), "--mode"),
        (("--mode=auto",), "--mode: auto"),
        (("--proxy-mode=auto",), "--proxy-mode: auto"),
        ((f"--config={file}",), f"{file}: mode: auto"),
    ):
        assert main([*unsaid, *said]) == 2
        assert capsys.readouterr() == ("", f"headgate: {origin}: {reason}\n")


def test_what_a_file_says(
    capsys: pytest.CaptureFixture[str], arguments: list[str], tmp_path: Path
) -> None:
    unsaid = [argument for argument in arguments if "--mode" not in argument]
    file = tmp_path / "config.conf"
    file.write_text(
        f"{HEAD}mode: ipvs\nipvs: {{scheduler: sh}}\nclusterCIDR: 10.244.0.0/16\n"
        "clientConnection: {kubeconfig: /missing}\nclusterCidrs: x\n"
    )
    assert main([*unsaid, f"--config={file}"]) == 0
    out, err = capsys.readouterr()
    assert "10.96.7.7:80 -s sh" in out
    assert err == (
        f"headgate: {file}: clusterCidrs: unknown field (did you mean clusterCIDR?): ignored\n"
    )
    assert main([*unsaid, f"--config={file}", "--ipvs-scheduler=lc"]) == 0
    assert "10.96.7.7:80 -s lc" in capsys.readouterr().out
    assert main([*unsaid, f"--config={file}", "--mode=nftables"]) == 0
    assert "10.244.0.0/16" in capsys.readouterr().out
    assert main([*unsaid, f"--config={tmp_path}/missing"]) == 2
    assert (
        capsys.readouterr().err
        == f"headgate: --config: {tmp_path}/missing: No such file or directory\n"
    )
