"""Which proxies are measured, and how much of each?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.cluster import Size
from tests.bench.whole.results import Sustained, Whole
from tests.bench.whole.server import serving
from tests.bench.whole.story import Amount, Contender, Story, whole
from tests.lab import sandbox

HEADGATE = Contender("headgate")
VANISHING = "/run"
"""A folder of the sandbox's own: nothing stays of what a killed run has written there."""
AMOUNT = Amount(changes=100, seconds=30)
RATE, FLOW_SECONDS = 5_000.0, 20.0
"""EndpointSlices that change in a second, and for how long."""
MOST_SERVICES, MOST_ENDPOINTS = 10_000, 100_000
"""Of clusters that kube-proxy takes in within a minute or so."""
MOST_ENDPOINTS_BY_NFT = 10_000
"""The same of `iptables-nft`: five minutes at 5,000 x 10."""


def contenders(kube_proxy: str) -> list[Contender]:
    """Who is measured: headgate, and the `kube-proxy` at this path unless that is empty.

    Raises OSError if there is none that can be executed.
    """
    if not kube_proxy:
        return [HEADGATE]
    if not Path(kube_proxy).is_file():
        raise FileNotFoundError(f"KUBE_PROXY={kube_proxy}: there is no such file")
    if not os.access(kube_proxy, os.X_OK):
        raise PermissionError(f"KUBE_PROXY={kube_proxy}: cannot be executed")
    return [HEADGATE, Contender("kube-proxy", kube_proxy)]


def takes_minutes(contender: Contender, back_end: str, of: Size) -> bool:
    """Tell whether a peer needs so long for this cluster that only FULL=1 measures it."""
    if contender == HEADGATE:
        return False
    endpoints = of.services * of.endpoints
    if back_end == "iptables-nft":
        return endpoints > MOST_ENDPOINTS_BY_NFT
    return of.services > MOST_SERVICES or endpoints > MOST_ENDPOINTS


def measured(
    who: Sequence[Contender],
    back_end: str,
    of: Size,
    tell: Callable[[str], None],
    *,
    amount: Amount = AMOUNT,
    full: bool = False,
) -> list[Whole]:
    """Measure each of them, one after the other, in a network of its own.

    Raises RuntimeError and TimeoutError if one fails.
    """
    found = []
    for contender in who:
        name = f"{back_end}, {of}: {contender.program}"
        if takes_minutes(contender, back_end, of) and not full:
            tell(f"{name} left out: it takes minutes; FULL=1 measures it too")
            continue
        sandbox.enter_private()

        def told(step: str, name: str = name) -> None:
            tell(f"{name}: {step}")

        with (
            tempfile.TemporaryDirectory(dir=VANISHING) as folder,
            serving(of, Path(folder), told) as server,
        ):
            found.append(whole(contender, back_end, of, server, Path(folder), amount, tell=told))
    return found


def sustained(
    back_end: str,
    of: Size,
    tell: Callable[[str], None],
    rate: float = RATE,
    seconds: float = FLOW_SECONDS,
) -> Sustained:
    """Let slices change at this rate for so long. Raises as `measured`."""
    sandbox.enter_private()
    tell(f"{back_end}, {of}: {rate:,.0f} changes a second for {seconds:.0f} s")
    with tempfile.TemporaryDirectory(dir=VANISHING) as name:
        folder = Path(name)
        with (
            serving(of, folder, tell, fake=True) as server,
            Story(HEADGATE, back_end, of, server, folder) as story,
        ):
            story.start()
            return story.sustained(rate, seconds)
