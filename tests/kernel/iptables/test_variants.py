"""Do our rules move to the variant that the host uses, and is half of iptables enough?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from endpoints.names import Family, ObjectName
from modes.base import Delta, EnvironmentFault, ModeSettings
from modes.iptables.looking import look
from modes.iptables.mode import IptablesMode
from modes.xtables import chains, names
from modes.xtables.kernel import Kernel
from modes.xtables.variant import Variant
from tests.kernel.iptables import others, tables
from tests.kernel.rulesets import services
from tests.unit.endpoints.build import NODE_A

KNOWN = services(1, 2, 3, endpoints=3)
HINT = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n"
FOREIGN = "*filter\n:KUBE-ROUTER-INPUT - [0:0]\n-A INPUT -p tcp -j KUBE-ROUTER-INPUT\nCOMMIT\n*nat\nCOMMIT\n"


def other_than(variant: Variant) -> Variant:
    return next(v for v in Variant if v is not variant)


def answers(variant: Variant) -> bool:
    """Whether packets to all Services are led to their endpoints, in both families."""
    return all(
        tables.held(variant, family).get(chains.NAT_SERVICES, [])
        and any(
            rule.endswith(f"-j {names.SERVICES}")
            for rule in tables.held(variant, family)[tables.PREROUTING]
        )
        for family in Family
    )


def test_ours_in_the_other_variant_go_after_ours_are_in(
    mode: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both at once lead to the same endpoints; none at all would not."""
    old = other_than(variant)
    for command in tables.COMMAND.values():
        others.write(old, FOREIGN, command)
    foreign = tables.everything(old)
    before = tables.mode_of(old)
    before.start(NODE_A)
    before.replace(KNOWN)

    adopted = mode.start(NODE_A)
    assert not adopted.kept
    (warning,) = adopted.warnings
    assert warning.startswith(f"iptables ({old}) holds Service rules beside iptables ({variant})")
    assert answers(old)
    written: list[tuple[Variant, bool]] = []
    restore = Kernel.restore

    def watched(kernel: Kernel, family: Family, text: str) -> float:
        written.append((kernel.variant, answers(variant)))
        return restore(kernel, family, text)

    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "restore", watched)
        assert not mode.replace(KNOWN).failed
    assert written == [(variant, False), (variant, False), (old, True), (old, True)]
    assert tables.everything(old) == foreign
    assert not mode.verify()

    again = tables.mode_of(variant)
    adopted = again.start(NODE_A)
    assert (adopted.kept, adopted.warnings) == (True, ())
    texts = tables.Texts(monkeypatch)
    again.replace(KNOWN)
    assert texts.all == []


def test_the_variant_changes_while_we_run(
    network: None,  # noqa: ARG001
    variant: Variant,
) -> None:
    """The kubelet was started with another iptables, and the next full sync sees it."""
    mode = IptablesMode(ModeSettings(), lambda *_, **__: None)
    others.write(variant, HINT)
    assert mode.start(NODE_A).reason == f"{variant}: the kubelet uses it (chain KUBE-IPTABLES-HINT)"
    mode.replace(KNOWN)
    assert (answers(variant), answers(other_than(variant))) == (True, False)
    others.write(variant, "*mangle\n-X KUBE-IPTABLES-HINT\nCOMMIT\n")
    others.write(other_than(variant), HINT)
    assert mode.start(NODE_A).warnings
    mode.replace(KNOWN)
    assert (answers(variant), answers(other_than(variant))) == (False, True)
    assert not mode.apply(Delta(services(4))).failed
    assert not mode.verify()
    mode.close()


@pytest.mark.parametrize("both", [False, True], ids=["one", "both"])
def test_cleanup_looks_into_both(mode: IptablesMode, variant: Variant, *, both: bool) -> None:
    for of in Variant if both else [variant]:
        made = tables.mode_of(of)
        made.start(NODE_A)
        made._leaves_other = False
        made.replace(KNOWN)
    assert tables.mode_of(other_than(variant)).cleanup()
    for of in Variant:
        for found in tables.everything(of).values():
            assert not any(found.values())
            assert {chain.name for chain in found} <= tables.BUILT_IN
    assert not mode.cleanup()


@pytest.fixture
def without_ipv6(tmp_path: Path) -> Path:
    """A folder with programs for IPv4 alone."""
    for variant in Variant:
        for name in (f"iptables-{variant}{end}" for end in ("", "-restore", "-save")):
            real = shutil.which(name)
            assert real is not None
            (tmp_path / name).symlink_to(real)
    return tmp_path


def test_a_host_without_ip6tables_has_ipv4(
    mode: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch, without_ipv6: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(without_ipv6))
        (warning,) = mode.start(NODE_A).warnings
        assert warning.startswith("Services have no IPv6 here: there is no ip6tables")
        assert not mode.replace(KNOWN).failed
        delta = Delta(services(4), frozenset({ObjectName("shop", "s1")}))
        assert not mode.apply(delta).failed
        assert not mode.verify()
        told = {(told.name, told.family) for told in look().services}
        assert told == {(f"shop/s{n}:http", "IPv4") for n in (2, 3, 4)}
        again = tables.mode_of(variant)
        assert again.start(NODE_A).kept
        assert again.replace({**services(2, 3, endpoints=3), **services(4)}).messages == 0
        assert mode.cleanup()
    assert not any(tables.held(variant, Family.IPV6).values())


def test_ip6tables_is_removed_while_we_run(
    mode: IptablesMode, monkeypatch: pytest.MonkeyPatch, without_ipv6: Path
) -> None:
    mode.start(NODE_A)
    mode.replace(KNOWN)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(without_ipv6))
        assert len(mode.start(NODE_A).warnings) == 1
        assert not mode.replace(services(1)).failed
        assert not mode.apply(Delta(services(2))).failed
        assert not mode.verify()
    assert mode.start(NODE_A).warnings == ()
    assert not mode.replace(KNOWN).failed
    assert {told.family for told in look().services} == {"IPv4", "IPv6"}


def test_a_host_without_iptables(
    mode: IptablesMode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for call in (lambda: mode.start(NODE_A), mode.cleanup, look):
        with pytest.raises(EnvironmentFault, match="there is no iptables"):
            call()
