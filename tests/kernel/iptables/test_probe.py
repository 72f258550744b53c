"""Is an extension found missing wherever half of it is, and is nothing else changed by asking?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from endpoints.names import Family
from modes.iptables.probe import features
from modes.xtables import trials
from modes.xtables.abilities import Abilities
from modes.xtables.kernel import Kernel
from modes.xtables.probe import abilities
from modes.xtables.variant import Variant
from tests.kernel.iptables import others

pytestmark = pytest.mark.usefixtures("network")

EACH = pytest.mark.parametrize(("variant", "family"), [(v, f) for v in Variant for f in Family])
ALL = Abilities(comment=True, recent=True, random_fully=True, counters=True, ipvs=False)


@EACH
def test_all_is_there_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, variant: Variant, family: Family
) -> None:
    texts = []
    restore = Kernel.restore

    def listening(kernel: Kernel, of: Family, text: str) -> float:
        texts.append(text)
        return restore(kernel, of, text)

    monkeypatch.setattr(Kernel, "restore", listening)
    assert abilities(Kernel(variant), family) == ALL
    assert len(texts) == 1
    assert not Kernel(variant).holds(family, "nat", trials.CHAIN)
    assert not Kernel(variant).holds(family, "filter", trials.CHAIN)


@EACH
def test_the_library_without_the_kernels_half(
    monkeypatch: pytest.MonkeyPatch, variant: Variant, family: Family
) -> None:
    """Nobody made the counters: libxt_nfacct takes the rule, and the kernel refuses it."""
    monkeypatch.setattr(Kernel, "ensure_counters", lambda _: True)
    assert abilities(Kernel(variant), family) == Abilities(counters=False, ipvs=False)
    saved = Kernel(variant).save(family)
    assert trials.CHAIN not in saved


@EACH
def test_a_chain_left_by_a_killed_probe(variant: Variant, family: Family) -> None:
    left = trials.text([trials.RECENT], family).split("COMMIT\n")[0] + "COMMIT\n"
    kernel = Kernel(variant)
    kernel.restore(family, left)
    assert kernel.holds(family, "nat", trials.CHAIN)
    assert abilities(kernel, family) == ALL
    assert not kernel.holds(family, "nat", trials.CHAIN)


@pytest.mark.parametrize("variant", Variant)
def test_the_kernel_without_the_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variant: Variant
) -> None:
    others.extensions_without(tmp_path, "libxt_recent.so", "libxt_statistic.so")
    monkeypatch.setenv("XTABLES_LIBDIR", str(tmp_path))
    able = Abilities(recent=False, counters=True, ipvs=False)
    assert abilities(Kernel(variant), Family.IPV4) == able
    found = {feature.name: feature for feature in features(variant) if feature.state != "yes"}
    assert set(found) == {"xt_recent", "xt_statistic", "ip6tables"}
    assert found["xt_recent"].optional
    assert found["xt_recent"].needed_for == "iptables mode: session affinity"
    assert found["xt_recent"].hint == "module xt_recent"
    assert not found["xt_statistic"].optional
    assert "statistic" in found["ip6tables"].hint


@pytest.mark.parametrize("variant", Variant)
def test_features_change_nothing(variant: Variant) -> None:
    found = features(variant)
    assert {feature.state for feature in found} == {"yes"}
    assert found[0].name == f"iptables ({variant})"
    assert (others.legacy_tables(), others.nft_ruleset()) == ("", "")
    assert Kernel(variant).counters() == {}


def test_features_wait_for_no_lock() -> None:
    with others.holder(Path("/run/xtables.lock"), 600):
        assert {feature.state for feature in features("legacy")} == {"yes"}


def test_without_any_iptables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = features()
    assert (found.state, found.optional) == ("no", False)
    assert "there is no iptables (nft)" in found.hint
    assert "there is no iptables (legacy)" in found.hint


ASK = """
from modes.iptables.probe import features
for feature in features():
    print(feature.state, feature.optional, feature.hint)
"""


@pytest.mark.parametrize(
    ("without", "works"), [("-sys_admin", True), ("-sys_admin,-net_admin", False)]
)
def test_where_we_may_not_ask(without: str, *, works: bool) -> None:
    unprivileged = ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"]
    command = [*unprivileged, sys.executable, "-c", ASK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    refused = "no network namespace can be made: Operation not permitted (run as root)"
    assert (done.stdout, done.stderr) == (f"unknown {works} {refused}\n", "")
    assert others.nft_ruleset() == ""
