"""How does an operator ask a node with a real headgate, and how does somebody else damage it?"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab import modes, namespaces, sandbox
from tests.lab.daemons import Daemon
from tests.unit.proxy.build import endpoints, node, service, together

NODE = "node-a"
ADDRESS = "192.168.0.11"
SHOP = together(
    service("pay")
    .replace("spec:", "spec:\n  type: NodePort\n  sessionAffinity: ClientIP")
    .replace("port: 80", "port: 80\n    nodePort: 30080"),
    endpoints("10.244.1.2", "10.244.1.3"),
    service("cart", "10.96.7.8"),
    endpoints("10.244.1.4", of="cart"),
    service("idle", "10.96.7.9"),
    node(ip=ADDRESS),
)
WORLD = (
    "link add pods type veth peer name far",
    "link set pods up",
    "link set far up",
    f"address add {ADDRESS}/24 dev pods",
    "route add 10.244.0.0/16 dev pods",
    "route add default via 192.168.0.1 dev pods",
)
SEEN_FROM = (f"--node={NODE}", "--cluster-cidr=10.244.0.0/16")
Done = subprocess.CompletedProcess[str]


def headgate(*arguments: str) -> Done:
    """A command in a process of its own; it has a minute."""
    command = [sys.executable, "-m", "proxy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def answer(*arguments: str, status: int = 0) -> Any:  # noqa: ANN401 (JSON may be anything)
    """What a command says as JSON, if it ends with this status."""
    done = headgate(*arguments, "-o", "json")
    assert done.returncode == status, done
    return json.loads(done.stdout)


def said(*command: str) -> str:
    """The output of a program that is not ours."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def a_node(folder: Path) -> Iterator[Path]:
    """A network with the node's address, a way to pods and out, and manifests for it."""
    sandbox.enter_private()
    for command in WORLD:
        said("ip", *command.split())
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    manifests = folder / "shop.yaml"
    manifests.write_text(SHOP)
    yield manifests
    sandbox.enter_private()


@contextmanager
def running(back_end: str, manifests: Path) -> Iterator[Daemon]:
    """A headgate that has programmed these manifests."""
    arguments = [*modes.arguments(back_end), f"--manifests={manifests}", "-v=2"]
    arguments += [f"--hostname-override={NODE}", "--cluster-cidr=10.244.0.0/16"]
    here = os.open(namespaces.THREAD_NETWORK, os.O_RDONLY)
    try:
        daemon = Daemon(NODE, here, arguments)
    finally:
        os.close(here)
    try:
        daemon.wait_for(lambda line: line.is_synced)
        yield daemon
    finally:
        daemon.stop()


def offline(back_end: str, manifests: Path) -> tuple[str, ...]:
    """Flags of a command that asks manifests instead of a running headgate."""
    return f"--manifests={manifests}", *modes.arguments(back_end)[:1], *SEEN_FROM


def without(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: of for name, of in value.items() if name not in names}


def _nft() -> None:
    said("nft", "delete", "element", "ip", "headgate", "services", "{ 10.96.7.8 . tcp . 80 }")


def _iptables(program: str) -> Callable[[], None]:
    def damage() -> None:
        rules = said(program, "-t", "nat", "-S", "KUBE-SERVICES").splitlines()
        (rule,) = [rule for rule in rules if "10.96.7.8/32" in rule]
        said(program, "-t", "nat", "-D", *shlex.split(rule)[1:])

    return damage


def _ipvs() -> None:
    said("ipvsadm", "-D", "-t", "10.96.7.8:80")


DAMAGES: Mapping[str, Callable[[], None]] = {
    "nftables": _nft,
    "iptables-nft": _iptables("iptables-nft"),
    "iptables-legacy": _iptables("iptables-legacy"),
    "ipvs": _ipvs,
}
"""Each takes the Service shop/cart, and no other, out of the kernel."""
DUMPS = (
    ("nft", "-s", "list", "ruleset"),
    *((f"{program}-save",) for program in ("iptables-legacy", "ip6tables-legacy")),
    ("ipset", "list"),
    *(("ip", *what.split()) for what in ("link", "address", "route show table all", "rule")),
)
_TIMES = re.compile(
    r"(?m)^#.*$|\[\d+:\d+\]|expires \d+\w+|expires \S+|valid_lft \S+|preferred_lft \S+"
)
_COUNTS = ("nf_conntrack_count", "netdev_rss_key", "random", "inode", "neigh", "uuid")


def everything() -> dict[str, str]:
    """All rules, sets, links, routes and settings of this network that do not change by themselves."""
    found = {" ".join(command): _TIMES.sub("", said(*command)) for command in DUMPS}
    return found | dict(_sysctls(Path("/proc/sys/net").rglob("*")))


def _sysctls(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    for path in paths:
        if path.is_file() and not any(part in str(path) for part in _COUNTS):
            try:
                yield str(path), path.read_text()
            except OSError as fault:  # some can only be written
                yield str(path), str(fault)
