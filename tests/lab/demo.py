"""Does it work? A virtual cluster, headgate on each node, and what becomes of real packets.

`python -m tests.lab.demo`; MODE is a back end of tests/lab/modes.py or what stands for headgate's
--mode, and HOLD=1 leaves a shell in the cluster at the end. Exit status 1 when anything is not what
it should be.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import modes, namespaces, sandbox, story
from tests.lab.lab import Lab
from tests.lab.story import Found

_FAMILIES = ("IPv4", "IPv6")
_TITLE = 37
_BAR = 40

_STEPS: tuple[tuple[str, Callable[[Lab, int], Found]], ...] = (
    (f"NodePort {story.NODE_PORT} from outside", story.node_port),
    ("externalTrafficPolicy Local", story.local_policy),
    ("hairpin", story.hairpin),
    ("affinity, 20 connections", story.affinity),
    ("no endpoints", story.no_endpoints),
)

_HINTS = """
a shell on node-a; leave it with exit, and everything is gone. To try:
  head -1 < /dev/tcp/10.96.7.7/80         ask shop/pay: which pod answers, and which source it saw
  ip netns                                every machine; a shell on one: ip netns exec client bash
  headgate dump                           what the kernel holds, by Service
  {other:39} the same, by another program
  ls {manifests:36} Services and endpoints: save a file, and the kernel has it
"""


class Demo:
    """The output of a run, and whether all of it was good."""

    def __init__(self, lab: Lab) -> None:
        """Begin with nothing shown."""
        self.lab = lab
        self.ok = True

    def show_spread(self, family: int) -> None:
        """A bar for each pod of shop/pay."""
        address = ("{}:80", "[{}]:80")[family].format(story.PAY[family])
        count = story.SPREAD_CONNECTIONS
        print(f"\nshop/pay:http  {address} from a pod, {count} connections")
        found = story.spread(self.lab, family)
        for pod, chosen in found.counts.items():
            share = chosen / count
            bar = "#" * round(share * 100)
            print(f"  {pod.name}   {pod.addresses[family]:17}{bar:{_BAR}} {share:6.1%}")
        if not found.ok:
            what = f"{found.failed} failed" if found.failed else "not the spread of a fair choice"
            self.show("spread", Found(ok=False, text=what))

    def show(self, title: str, found: Found) -> None:
        """One line for one step."""
        self.ok &= found.ok
        print(f"{title:{_TITLE}}{_state(ok=found.ok)}   {found.text}", flush=True)

    def run(self) -> None:
        """Everything, in order."""
        for family in range(len(_FAMILIES)):
            self.show_spread(family)
        print()
        for title, step in _STEPS:
            self.show(title, step(self.lab, 0))
            self.show(f"{'IPv6':>{_TITLE - 3}}", step(self.lab, 1))
        self.show("rolling replacement of all pods", story.replacement(self.lab))


def _state(*, ok: bool) -> str:
    """The state of a step; colour marks states only, and only on a terminal."""
    word, colour = ("ok", "32") if ok else ("FAILED", "31")
    return f"\x1b[{colour}m{word}\x1b[0m" if sys.stdout.isatty() else word


@contextmanager
def _timed(what: str, text: str) -> Iterator[None]:
    """Say what is done now, and how long it took."""
    print(f"{what:11}{text:94}", end="", flush=True)
    began = time.perf_counter()
    yield
    print(f"{time.perf_counter() - began:6.1f} s", flush=True)


def other_program(mode: str) -> str:
    """What lists the Services of a node without headgate."""
    kind, variant = modes.BACK_ENDS.get(mode, (mode, ""))
    if kind == "iptables":
        return f"iptables-{variant}-save -t nat" if variant else "iptables-save -t nat"
    return "nft list map ip headgate services"


def _leave_shell(lab: Lab, mode: str) -> None:
    """A shell in node-a's namespace, with every machine known to `ip netns`."""
    Path("/run/netns").symlink_to(lab.folder / "netns")
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}",
        "PS1": "node-a# ",
    }
    hints = _HINTS.format(other=other_program(mode), manifests=str(lab.manifests.folder))
    print(hints, flush=True)
    with namespaces.inside(lab.network["node-a"]):
        subprocess.run(["bash", "--norc"], env=environment, check=False)


def main() -> int:
    """Run the demo; return the exit status."""
    if not sandbox.is_inside():
        sandbox.reexecute()
    sandbox.enter_private()
    try:
        return _run(os.environ.get("MODE") or "nftables", hold=bool(os.environ.get("HOLD")))
    except TimeoutError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(mode: str, *, hold: bool) -> int:
    with _timed("building", "3 nodes, 6 pods, 1 outside client; bridge pods, host-gw routes"):
        lab = Lab()
    with lab:
        story.furnish(lab)
        flags = " ".join(modes.arguments(mode)).replace("=", " ")
        with _timed("starting", f"headgate {flags} on each node"):
            lab.start_headgates(mode=mode)
        demo = Demo(lab)
        demo.run()
        if hold:
            _leave_shell(lab, mode)
        else:
            print("look around: make demo HOLD=1")
    return 0 if demo.ok else 1


if __name__ == "__main__":
    sys.exit(main())
