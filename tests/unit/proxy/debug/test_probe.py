"""Does `headgate probe` say what the kernel can do, and what follows?"""

from __future__ import annotations

import json

import pytest

from modes.base import Feature
from proxy.cli import main
from proxy.debug.probe import Probed, text


def test_the_table() -> None:
    features = (
        Feature("nf_tables", "yes", "nftables mode"),
        Feature("fib address type", "no", "externalTrafficPolicy", "module nft_fib_ipv4"),
    )
    assert (
        "\n".join(text(Probed(features, ("nftables",), "nftables")))
        == """\
FEATURE            STATE   NEEDED FOR
nf_tables          yes     nftables mode
fib address type   no      externalTrafficPolicy (module nft_fib_ipv4)
modes that work here: nftables.  auto chooses: nftables"""
    )
    assert text(Probed(features, (), None))[-1] == "no mode that is built works here"


def test_this_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe"]) == 0
    assert capsys.readouterr().out.startswith("FEATURE ")
    assert main(["probe", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["auto"] == "nftables"
    assert found["working"][:2] == ["nftables", "iptables"]
    lacking = [of for of in found["features"] if of["state"] != "yes" and not of["optional"]]
    assert all(of["needed_for"].startswith("ipvs mode") for of in lacking)


def test_a_kernel_that_cannot_is_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Feature("nf_tables", "no", "nftables mode", "this kernel has no nf_tables")
    monkeypatch.setattr("modes.registry.probe", lambda _: (missing,))
    assert main(["probe"]) == 1
    assert capsys.readouterr().out.endswith("no mode that is built works here\n")
