"""Does every change arrive while every watch is cut ten times a second, and does nothing fail?

For a minute, by two headgates in different modes on two nodes of one cluster.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from proxy.sources.watch import CAP_SECONDS
from tests.lab.api import ApiServer
from tests.lab.lab import Lab
from tests.packets import turmoil
from tests.packets.telling import furnish
from tests.packets.turmoil import Turmoil, Verdicts
from tests.scenarios.places import PODS

SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
CUT_EVERY_SECONDS = 0.1
PAUSE_SECONDS = 0.2
"""Between two changes."""
BACK_ENDS = {"node-a": "nftables", "node-b": "iptables-nft"}
SENDERS = {"node-a": "pod-a1", "node-b": "pod-b1"}
SERVING = tuple(pod for pod in PODS if pod not in SENDERS.values())


def test_every_change_arrives_though_each_watch_is_cut(lab: Lab) -> None:
    api = lab.serve_api()
    furnish(lab)
    replacing = Turmoil(lab, seed=6, pods=SERVING)
    for node, back_end in BACK_ENDS.items():
        lab.start_headgate(node, mode=back_end)
    lab.wait_synced()
    flows = [turmoil.flows(node, sender) for node, sender in SENDERS.items()]
    with lab.load(*itertools.chain.from_iterable(flows)) as load:
        verdicts = Verdicts(load)
        ends = time.monotonic() + SECONDS
        with _cutting(api) as cuts:
            with replacing.all_the_time(PAUSE_SECONDS):
                while time.monotonic() < ends:
                    lab.wait_synced(timeout=CAP_SECONDS)
                    assert verdicts.look(), verdicts.wrong
            replacing.settle(SERVING[:1])
            lab.wait_synced(timeout=CAP_SECONDS)
    assert len(cuts) > SECONDS / CUT_EVERY_SECONDS / 2
    assert verdicts.look(), verdicts.wrong
    assert verdicts.loses_few, verdicts.lost
    assert verdicts.reached == set(SERVING)
    for node, sender in SENDERS.items():
        assert turmoil.reached(lab, node, sender) == set(SERVING[:1])
        assert lab.stop_headgate(node) == 0


@contextmanager
def _cutting(api: ApiServer) -> Iterator[list[float]]:
    """Cut all that is watched, again and again; when that was."""
    ended = threading.Event()
    cuts: list[float] = []

    def run() -> None:
        while not ended.wait(CUT_EVERY_SECONDS):
            api.cut()
            cuts.append(time.monotonic())

    thread = threading.Thread(target=run, name="cutting", daemon=True)
    thread.start()
    try:
        yield cuts
    finally:
        ended.set()
        thread.join()
