"""Is nothing called absent where not everything could be read?"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modes.base import KernelFault, Missing
from modes.held import Held
from modes.registry import look
from proxy.cli import main
from proxy.debug import dump
from proxy.debug.kernel import Kernel, look_at
from proxy.desired.snapshot import recall
from tests.lab import sandbox
from tests.unit.proxy.build import endpoints, node, service, together
from tests.unit.proxy.running import running

NO_TOOLS = (
    "iptables could not be read: there is no iptables (legacy): install iptables-legacy-restore or"
    " iptables-restore; there is no iptables (nft): install iptables-nft-restore or iptables-restore"
)


@pytest.fixture(autouse=True)
def without_tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A kernel that holds nothing, and no program that could say what it holds of iptables."""
    with sandbox.own_network():
        monkeypatch.setenv("PATH", "/nonexistent")
        yield


Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def ask(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return main(arguments), *capsys.readouterr()

    return ask


def test_a_service_that_may_be_there(said: Said) -> None:
    assert said("dump", "shop/pay") == (2, "", f"headgate: not known: {NO_TOOLS}\n")
    assert said("top", "shop/pay") == (2, "", f"headgate: not known: {NO_TOOLS}\n")
    absent = "headgate: Service shop/pay is not in the kernel\n"
    assert said("dump", "shop/pay", "--mode=nftables") == (1, "", absent)
    assert said("top", "shop/pay", "--mode=nftables") == (1, "", absent)


def test_services_that_may_be_there(said: Said) -> None:
    status, out, err = said("dump")
    assert (status, out) == (2, "no Service is in the kernel, as far as it can be read\n")
    assert err.endswith(f"headgate: not known: {NO_TOOLS}\n")
    status, out, err = said("dump", "-o=json")
    assert (status, json.loads(out)) == (2, [{"mode": "nftables", "services": []}])
    assert said("dump", "-o=native")[0] == 2
    assert said("top", "--count=1") == (2, "", f"headgate: not known: {NO_TOOLS}\n")
    assert said("dump", "--mode=iptables")[0] == 2


def test_services_that_are_there(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(together(service(), endpoints("10.244.1.2"), node()))
    once = [f"--manifests={path}", "--hostname-override=node-a", "--mode=nftables", "--once"]
    subprocess.run([sys.executable, "-m", "proxy", *once], check=True)
    for arguments in (["dump"], ["dump", "shop/pay"], ["top", "--count=1", "--interval=100ms"]):
        status, out, err = said(*arguments)
        assert (status, "no Service" in out) == (0, False)
        assert f"headgate: {NO_TOOLS}\n" in err
    assert said("dump", "shop/cart") == (2, "", f"headgate: not known: {NO_TOOLS}\n")


def test_a_snapshot_that_lacks_a_mode(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "node.hgs"
    with running(together(service(), endpoints("10.244.1.2"), node())):
        assert said("snapshot", "-o", str(path))[0] == 1
    reason = json.loads(gzip.decompress(path.read_bytes()))["missing"]["iptables"]
    recall.cache_clear()
    status, out, err = said("dump", "shop/pay", "--snapshot", str(path))
    assert (status, out) == (2, "")
    assert err == (
        f"headgate: not known: iptables could not be read: {path} tells nothing of iptables: {reason}\n"
    )


def faulty(faults: dict[str, Exception]) -> Kernel:
    def ask(mode: str) -> Held:
        if mode in faults:
            raise faults[mode]
        return look(mode)

    return Kernel((), ask)


def test_only_what_a_kernel_does_not_have_is_passed_over() -> None:
    kernel = faulty({"ipvs": Missing("no IPVS"), "iptables": KernelFault("it broke")})
    found = look_at(kernel, ["nftables", "iptables", "ipvs"])
    assert list(found.held) == ["nftables"]
    assert found.doubt == "iptables could not be read: it broke"
    with pytest.raises(KernelFault, match=r"^it broke$"):
        look_at(kernel, ["ipvs", "iptables"])
    with pytest.raises(Missing, match="no IPVS"):
        look_at(kernel, ["ipvs"])


class Loud:
    """A kernel whose comments are for terminals."""

    services = ()

    def native(self) -> tuple[str, ...]:
        return ("\telement \x1b[2J\n",)


def test_comments_of_a_kernel_are_text(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, "kernel", lambda *_: Kernel(("nftables",), lambda _: Loud()))  # type: ignore[arg-type,return-value]
    assert said("dump", "-o=native") == (0, "\telement ?[2J?\n", "")
