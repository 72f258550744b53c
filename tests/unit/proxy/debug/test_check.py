"""What does the exit status of `headgate explain --check` say?"""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.cli import main
from proxy.debug import explain
from proxy.debug.circumstances import Circumstances
from proxy.facts.facts import Ways
from proxy.facts.finding import Cause, Finding

SHOP = Path(__file__).parents[4] / "docs/examples/shop.yaml"
ASKED = ["explain", "10.96.7.7:80", "--from=10.244.1.9", f"--manifests={SHOP}", "--node=worker-2"]
MODE = "--mode=nftables"


def finding(*, breaks: bool) -> Finding:
    return Finding(Cause.NO_ROUTE, breaks, "there is no route to it", "ip route get 10.244.2.9")


@pytest.mark.parametrize(
    ("around", "status", "headline"),
    [
        (Circumstances((), Ways()), 0, "FORWARD   shop/pay:http -> "),
        (Circumstances((finding(breaks=True),), Ways()), 1, "BROKEN   there is no route to it"),
        (Circumstances((finding(breaks=False),), Ways()), 0, "FORWARD   shop/pay:http -> "),
        (Circumstances((), Ways(), ("conntrack",)), 2, "FORWARD   shop/pay:http -> "),
        (Circumstances((finding(breaks=True),), Ways(), ("conntrack",)), 1, "BROKEN   "),
    ],
)
def test_of_a_check(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    around: Circumstances,
    status: int,
    headline: str,
) -> None:
    monkeypatch.setattr(explain, "circumstances", lambda *_, **__: around)
    assert main([*ASKED, MODE, "--check"]) == status
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(headline)
    doubtful = bool(around.findings) and headline.startswith("FORWARD")
    assert first.endswith("; what may break it is below") == doubtful


def test_without_it_manifests_are_held_against_no_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(*_: object, **__: object) -> Circumstances:
        raise AssertionError("nobody asked for this machine")

    monkeypatch.setattr(explain, "circumstances", nobody)
    assert main([*ASKED, MODE]) == 0
    assert capsys.readouterr().out.startswith("FORWARD")
