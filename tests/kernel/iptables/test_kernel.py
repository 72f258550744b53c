"""Does the host's iptables do what we give it, and do we hear what it says?"""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from endpoints.names import Family
from modes.base import EnvironmentFault, KernelFault
from modes.xtables import kernel as module
from modes.xtables.counters import COUNTERS, INVALID_DROPPED
from modes.xtables.kernel import (
    Kernel,
    Programs,
    Refused,
    drops_invalid,
    installed,
    route_localnet,
    set_route_localnet,
    variants,
)
from modes.xtables.variant import Variant
from tests.kernel.iptables import others

pytestmark = pytest.mark.usefixtures("network")

EACH = pytest.mark.parametrize(("variant", "family"), [(v, f) for v in Variant for f in Family])
LOCK = Path("/run/xtables.lock")
TEXT = """\
*filter
:KUBE-X - [0:0]
-A KUBE-X -p tcp -j DROP
COMMIT
*nat
:KUBE-Y - [0:0]
-I OUTPUT 1 -j KUBE-Y
COMMIT
"""


@EACH
def test_what_was_restored_is_saved(variant: Variant, family: Family) -> None:
    kernel = Kernel(variant)
    assert kernel.restore(family, TEXT) == 0
    saved = kernel.save(family)
    assert saved.count("-A KUBE-X -p tcp -j DROP\n") == 1
    assert saved.count("-A OUTPUT -j KUBE-Y\n") == 1
    assert [kernel.holds(family, "nat", chain) for chain in ("KUBE-Y", "KUBE-X")] == [True, False]
    assert "KUBE-X" not in kernel.save(family, ["nat"])


def test_asking_makes_no_table() -> None:
    for variant in Variant:
        for family in Family:
            assert "-A" not in Kernel(variant).save(family, ["filter", "nat", "mangle"])
            assert not Kernel(variant).holds(family, "nat", "KUBE-SERVICES")
    assert (others.legacy_tables(), others.nft_ruleset()) == ("", "")


REFUSED = [
    ("-A KUBE-X -m nonsense -j RETURN", {7, 9}, "Couldn't load match `nonsense'"),
    ("-A KUBE-X -j NONSENSE", {7, 9}, "NONSENSE"),
    ("-A KUBE-X -p tcp -m tcp --dport 99999", {7}, "invalid port/service `99999' specified"),
    ('-A KUBE-X -s "line 99" -j RETURN', {7}, "host/network `line 99' not found"),
    ("-A KUBE-ABSENT -j RETURN", {7}, ""),
    ("-D KUBE-X -j MARK --set-mark 1", {7}, ""),
    ("nonsense", {7}, "Bad argument `nonsense'"),
    ("-A KUBE-X -m nfacct --nfacct-name absent", {7, 9}, ""),  # refused by the kernel
    ("-X OUTPUT", {7, 9}, ""),
]


@pytest.mark.parametrize(("bad", "lines", "words"), REFUSED)
@EACH
def test_a_refusal_names_the_line(
    variant: Variant, family: Family, bad: str, lines: set[int], words: str
) -> None:
    """Or that of its COMMIT, where the kernel refused the block."""
    kernel = Kernel(variant)
    before = "*filter\n:KUBE-BEFORE - [0:0]\nCOMMIT\n*nat\n:KUBE-X - [0:0]\n-A KUBE-X -j RETURN\n"
    with pytest.raises(Refused) as refusal:
        kernel.restore(family, f"{before}{bad}\n:KUBE-AFTER - [0:0]\nCOMMIT\n")
    assert refusal.value.line in lines
    assert words in refusal.value.reason
    assert "rror occurred" not in refusal.value.reason
    assert "Try `" not in refusal.value.reason
    assert kernel.holds(family, "filter", "KUBE-BEFORE")
    assert not kernel.holds(family, "nat", "KUBE-X")


def test_a_long_list_of_refusals_is_cut() -> None:
    rules = "-A KUBE-X -j REJECT\n" * 9  # REJECT is for filter alone
    with pytest.raises(Refused) as refusal:
        Kernel(Variant.NFT).restore(Family.IPV4, f"*nat\n:KUBE-X - [0:0]\n{rules}COMMIT\n")
    assert refusal.value.line == 3
    assert refusal.value.reason.count("RULE_APPEND failed (Invalid argument)") == 3
    assert refusal.value.reason.endswith("; and 6 more")


class Told:
    """What was told, and something to do when it is."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, object]]] = []
        self.holder: subprocess.Popen[str] | None = None

    def __call__(self, message: str, /, **fields: object) -> None:
        self.all.append((message, fields))
        if self.holder is not None and len(self.all) == 2:
            self.holder.kill()


def test_the_holder_of_the_lock_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed in the third round."""
    monkeypatch.setattr(module, "LOCK_ROUND_SECONDS", 1)
    told = Told()
    with others.holder(LOCK, 600) as told.holder:
        kernel = Kernel(Variant.LEGACY, told)
        waited = kernel.restore(Family.IPV4, TEXT)
    assert 2 <= waited < 4
    who = f"{Path(sys.executable).name} (pid {told.holder.pid})"
    assert [(message, fields["holder"]) for message, fields in told.all] == [
        ("Waiting for the xtables lock", who)
    ] * 2
    assert [fields["seconds"] for _, fields in told.all] == pytest.approx([1, 2], abs=0.5)
    assert kernel.save(Family.IPV4).count("-A OUTPUT -j KUBE-Y\n") == 1


def test_a_short_wait_is_measured_and_not_told() -> None:
    told = Told()
    with others.holder(LOCK, 0.5):
        waited = Kernel(Variant.LEGACY, told).restore(Family.IPV4, TEXT)
    assert 0.3 < waited < 2
    assert told.all == []
    assert Kernel(Variant.LEGACY, told).restore(Family.IPV4, TEXT) == 0


def test_patience_with_the_holder_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written then, and whoever called can look after an order to stop."""
    monkeypatch.setattr(module, "LOCK_ROUND_SECONDS", 1)
    monkeypatch.setattr(module, "LOCK_PATIENCE_SECONDS", 1)
    kernel = Kernel(Variant.LEGACY)
    with (
        others.holder(LOCK, 600) as holder,
        pytest.raises(KernelFault, match=rf"pid {holder.pid}\) holds the xtables lock for more"),
    ):
        kernel.restore(Family.IPV4, TEXT)
    assert "KUBE-Y" not in kernel.save(Family.IPV4)


def test_nft_has_no_lock() -> None:
    with others.holder(LOCK, 600):
        assert Kernel(Variant.NFT).restore(Family.IPV4, TEXT) == 0


def test_another_lock_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
    with others.holder(LOCK, 600):
        assert Kernel(Variant.LEGACY).restore(Family.IPV4, TEXT) == 0
        with others.holder(lock, 0.5):
            assert Kernel(Variant.LEGACY).restore(Family.IPV4, TEXT) > 0.3


LOSES_THE_LOCK = """\
if [ "$1" = --version ] || [ -e {folder}/again ]; then exec {real} "$@"; fi
touch {folder}/again
sed '/^# committed$/q' | {real} "$@"
echo "Another app is currently holding the xtables lock. Stopped waiting after 5s." >&2
exit 4
"""


@pytest.mark.parametrize("bad", [False, True])
def test_no_block_is_written_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, bad: bool
) -> None:
    """The lock goes to somebody else between two blocks; lines keep their numbers."""
    others.program(tmp_path, "iptables-legacy-restore", LOSES_THE_LOCK)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    text = "*nat\n-I OUTPUT -j RETURN\nCOMMIT\n" + TEXT
    told = Told()
    kernel = Kernel(Variant.LEGACY, told)
    if bad:
        with pytest.raises(Refused) as refusal:
            kernel.restore(Family.IPV4, text.replace("-I OUTPUT 1", "-I OUTPUT 0"))
        assert refusal.value.line == 10
    else:
        assert kernel.restore(Family.IPV4, text) > 0
        assert "-A KUBE-X -p tcp -j DROP" in kernel.save(Family.IPV4)
    assert kernel.save(Family.IPV4).count("-A OUTPUT -j RETURN\n") == 1
    assert len(told.all) == 1


def test_without_any_iptables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFault) as fault:
        Kernel(Variant.NFT).restore(Family.IPV6, TEXT)
    install = "install ip6tables-nft-restore or ip6tables-restore"
    assert str(fault.value) == f"there is no ip6tables (nft): {install}"
    assert variants() == {Variant.LEGACY: (), Variant.NFT: ()}


@pytest.mark.parametrize("variant", Variant)
def test_programs_without_a_suffix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variant: Variant
) -> None:
    bare = Programs("iptables", "iptables-restore", "iptables-save")
    for name in bare:
        (tmp_path / name).symlink_to(f"/usr/sbin/xtables-{variant}-multi")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {v: installed(Family.IPV4, v) for v in Variant}
    assert found == {v: bare if v is variant else None for v in Variant}
    kernel = Kernel(variant)
    assert kernel.restore(Family.IPV4, TEXT) == 0
    assert "-A OUTPUT -j KUBE-Y\n" in kernel.save(Family.IPV4)


ASK = """
from endpoints.names import Family
from modes.base import EnvironmentFault
from modes.xtables.kernel import Kernel
from modes.xtables.variant import Variant
try:
    Kernel(Variant("{variant}")).{call}
except EnvironmentFault as fault:
    print(fault)
"""


@pytest.mark.parametrize("call", ["restore(Family.IPV4, '*nat\\nCOMMIT\\n')", "save(Family.IPV6)"])
@pytest.mark.parametrize("variant", Variant)
def test_without_the_capability(variant: Variant, call: str) -> None:
    for name in ("iptables", "ip6tables"):
        others.write(variant, "*nat\nCOMMIT\n", name)
    unprivileged = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    command = [*unprivileged, sys.executable, "-c", ASK.format(variant=variant, call=call)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = f"iptables ({variant}) does not obey us: CAP_NET_ADMIN is missing (run as root)\n"
    assert (done.stdout, done.stderr) == (expected, "")


def test_counters_are_made_read_and_removed() -> None:
    kernel = Kernel(Variant.NFT)
    assert kernel.counters() == {}
    assert kernel.ensure_counters()
    assert kernel.ensure_counters()
    rule = f"-A KUBE-X -m nfacct --nfacct-name {INVALID_DROPPED}"
    kernel.restore(Family.IPV4, f"*filter\n:KUBE-X - [0:0]\n{rule}\n-A OUTPUT -j KUBE-X\nCOMMIT\n")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ping", "-qc1", "127.0.0.1"], check=True, stdout=subprocess.DEVNULL)
    assert kernel.counters() == {COUNTERS[0]: 2, COUNTERS[1]: 0}  # request and reply
    kernel.remove_counters()
    assert kernel.counters() == {COUNTERS[0]: 2}  # a rule holds it
    kernel.restore(Family.IPV4, "*filter\n-F OUTPUT\n-F KUBE-X\nCOMMIT\n")
    kernel.remove_counters()
    assert kernel.counters() == {}


def test_switches_of_the_kernel() -> None:
    assert not route_localnet()
    for on in (True, False):
        assert set_route_localnet(on=on) == ""
        assert route_localnet() is on
    for liberal in (1, 0):
        switch = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")
        switch.write_text(str(liberal))
        assert drops_invalid() is not bool(liberal)


def test_a_kernel_without_nfnetlink_has_no_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr(socket, "socket", refuse)
    kernel = Kernel(Variant.LEGACY)
    assert not kernel.ensure_counters()
    assert kernel.counters() == {}
    kernel.remove_counters()
