"""Does `headgate probe` say what the kernel can do, and what follows?"""

from __future__ import annotations

import json
import re

import pytest

from modes.base import Feature
from proxy.cli import main
from proxy.debug.probe import Probed, text
from proxy.debug.screen import Screen

FEATURES = (
    Feature("nf_tables", "yes", "nftables mode"),
    Feature(
        "fib address type", "no", "nftables mode: externalTrafficPolicy", "module nft_fib_ipv4"
    ),
    Feature("xt_comment", "yes", "iptables mode: names in rules", optional=True),
    Feature("xt_comment", "yes", "ipvs mode: names in rules", optional=True),
    Feature("xt_set", "yes", "iptables mode"),
    Feature("xt_set", "yes", "ipvs mode: match set"),
    Feature("xt_nfacct", "no", "iptables mode: two metrics", "", optional=True),
)


def test_the_table() -> None:
    assert (
        "\n".join(text(Probed(FEATURES, ("nftables",), "nftables")))
        == """\
FEATURE            STATE   NEEDED FOR
nf_tables          yes     nftables mode
fib address type   no      nftables mode: externalTrafficPolicy; module nft_fib_ipv4
xt_comment         yes     iptables, ipvs mode: names in rules
xt_set             yes     iptables mode; ipvs mode: match set
xt_nfacct          no      iptables mode: two metrics
modes that work here: nftables; auto chooses nftables"""
    )
    assert text(Probed(FEATURES, (), None))[-1] == "no mode that is built works here"


def test_what_is_not_the_same_in_all_modes_keeps_its_rows() -> None:
    features = (
        Feature("iptables", "yes", "iptables mode"),
        Feature("iptables", "no", "ipvs mode", "other"),
    )
    assert text(Probed(features, (), None))[1:-1] == [
        "iptables   yes     iptables mode",
        "iptables   no      ipvs mode; other",
    ]


def test_colours_say_what_is_missing_and_how_badly() -> None:
    lines = text(Probed(FEATURES, (), None), Screen(colour=True))
    states = [re.findall(r"\x1b\[(\d+)m(\w+)", line) for line in lines[1:-1]]
    yes, no, less = ("32", "yes"), ("31", "no"), ("33", "no")
    assert states == [[yes], [no], [yes], [yes], [less]]
    assert lines[-1].startswith("\x1b[31m")


def test_this_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe"]) == 0
    assert capsys.readouterr().out.startswith("FEATURE ")
    assert main(["probe", "-o", "table"]) == 0
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
