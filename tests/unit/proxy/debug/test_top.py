"""Is what cannot be watched refused, in a line that names it?"""

from __future__ import annotations

import pytest

from proxy.cli import main


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (
            "\u017f/pay",
            "SERVICE: \u017f/pay: must be namespace/name, namespace/name:port or ADDR:PORT[/PROTO]",
        ),
        ("pay", "SERVICE: pay: must be namespace/name, namespace/name:port or ADDR:PORT[/PROTO]"),
        ("--interval 2", "--interval: 2: must be a duration, like 90s, 15m or 1h30m"),
        ("--interval 99ms", "--interval: 99ms: must be 100ms or more"),
        ("--interval -1s", "--interval: expected one argument"),
        ("--count some", "--count: some: must be a number, 0 or more"),
        ("-n ten", "-n: ten: must be a number, 0 or more"),
        ("--sort name", "--sort: name: must be one of new, bytes, flows"),
        ("--mode nft", "--mode: nft: must be one of auto, nftables, iptables, ipvs"),
        ("-o yaml", "-o: yaml: must be text or json"),
    ],
)
def test_wrong_usage_is_refused(
    arguments: str, refusal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", *arguments.split()]) == 2
    assert capsys.readouterr().err == f"headgate: {refusal}\n"
