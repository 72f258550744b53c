"""Is the variant chosen that this host uses, and is nothing made by asking?"""

from __future__ import annotations

from pathlib import Path

import pytest

from endpoints.names import Family
from modes.xtables.host import host_variant
from modes.xtables.kernel import Programs, installed
from modes.xtables.variant import AUTO, Variant
from tests.kernel.iptables import others

pytestmark = pytest.mark.usefixtures("network")

HINT = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n"
SERVICE = "*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n"
OTHERS = "*filter\n-A INPUT -p tcp -j ACCEPT\n-A OUTPUT -p udp -j ACCEPT\nCOMMIT\n"


def test_an_empty_host() -> None:
    chosen = host_variant(AUTO)
    assert (chosen.variant, chosen.both) == (Variant.NFT, "")
    assert (others.legacy_tables(), others.nft_ruleset()) == ("", "")


@pytest.mark.parametrize("command", ["iptables", "ip6tables"])
@pytest.mark.parametrize("variant", Variant)
def test_the_kubelet_says_it(variant: Variant, command: str) -> None:
    other = next(v for v in Variant if v is not variant)
    others.write(variant, HINT, command)
    others.write(other, OTHERS)
    before = others.legacy_tables()
    chosen = host_variant(AUTO)
    assert chosen.variant is variant
    assert "KUBE-IPTABLES-HINT" in chosen.reason
    assert others.legacy_tables() == before


@pytest.mark.parametrize("variant", Variant)
def test_where_the_rules_are(variant: Variant) -> None:
    other = next(v for v in Variant if v is not variant)
    others.write(variant, OTHERS)
    others.write(other, SERVICE)
    chosen = host_variant(AUTO)
    assert chosen.variant is variant
    assert chosen.reason == "it holds more rules of other programs (2)"
    assert f"iptables ({other}) holds Service rules" in chosen.both


def test_what_is_configured_wins() -> None:
    others.write("nft", HINT)
    others.write("nft", SERVICE, "ip6tables")
    chosen = host_variant("legacy")
    assert chosen.variant is Variant.LEGACY
    assert "iptables (nft) holds Service rules" in chosen.both
    with pytest.raises(ValueError, match=r"'xtables' is none of auto, legacy, nft"):
        host_variant("xtables")


def test_each_program_is_asked_once_until_it_is_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    bare = Programs("iptables", "iptables-restore", "iptables-save")
    for program in bare:
        others.program(tmp_path, program, f"echo once >> {asked}; echo 'v1.8.9 (nf_tables)'\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/nonexistent")
    for _ in range(2):
        assert installed(Family.IPV4, Variant.NFT) == bare
        assert installed(Family.IPV4, Variant.LEGACY) is None
    assert asked.read_text().split() == ["once"]
    others.program(tmp_path, bare.restore, "echo 'v1.8.9 (legacy)'\n")
    assert installed(Family.IPV4, Variant.LEGACY) == bare


CANNOT = """\
echo 'iptables-nft-restore v1.8.9 (nf_tables): ' >&2
echo 'line 1: TABLE_ADD failed (Operation not supported): table filter' >&2
exit 4
"""


def test_a_kernel_without_a_place_for_nft(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = 'if [ "$1" = --version ]; then exec {real} --version; fi\n' + CANNOT
    others.program(tmp_path, "iptables-nft-restore", script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    chosen = host_variant(AUTO)
    assert chosen.variant is Variant.LEGACY
    assert "TABLE_ADD failed (Operation not supported)" in chosen.reason
