"""What does a node hold for the IPVS mode, according to ipvsadm, ipset and ip?

Programs of others read the kernel here, so that headgate is not its own witness.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from tests.lab.daemons import PATIENCE_SECONDS
from tests.lab.lab import Lab

LINK = "kube-ipvs0"
_GLANCE_SECONDS = 0.05


class Held(NamedTuple):
    """A virtual server as the kernel holds it, in the words of ipvsadm."""

    options: str
    """How it chooses: `-s rr`, `-s sh -b sh-port`, `-s rr -p 10800`."""
    weights: Mapping[str, int]
    """Of its real servers: `10.244.1.2:8080`."""


def servers(lab: Lab, node: str) -> dict[str, Held]:
    """All virtual servers, by what names them to ipvsadm: `-t 10.96.7.7:80`, `-f 75 -6`."""
    found: dict[str, Held] = {}
    latest = ""
    for line in lab.exec(node, ["ipvsadm", "-Sn"]).splitlines():
        verb, kind, key, *words = line.split()
        if verb == "-A":
            if words[-1:] == ["-6"]:
                key += f" {words.pop()}"
            latest = f"{kind} {key}"
            found[latest] = Held(" ".join(words), {})
        else:
            values = dict(itertools.pairwise(words))
            weights = {**found[latest].weights, values["-r"]: int(values["-w"])}
            found[latest] = found[latest]._replace(weights=weights)
    return found


def taking(lab: Lab, node: str) -> list[tuple[str, str]]:
    """Virtual servers and who takes new connections of theirs elsewhere than where they went."""
    return [
        (key, real)
        for key, of in servers(lab, node).items()
        for real, weight in of.weights.items()
        if weight and real != key.split()[1]
    ]


def connections(lab: Lab, node: str, kind: str, address: str) -> dict[str, tuple[int, int]]:
    """Active and inactive connections of each real server of `-t 10.96.7.7:80`."""
    lines = lab.exec(node, ["ipvsadm", "-Ln", kind, address]).splitlines()
    rows = (line.split() for line in lines if line.lstrip().startswith("->"))
    return {row[1]: (int(row[4]), int(row[5])) for row in rows if row[1] != "RemoteAddress:Port"}


def members(lab: Lab, node: str, name: str) -> Iterator[str]:
    """The elements of an ipset with what they carry, as `ipset save` has them."""
    for line in lab.exec(node, ["ipset", "save", name]).splitlines():
        verb, _, element = line.split(" ", 2)
        if verb == "add":
            yield element


def addresses(lab: Lab, node: str, link: str = LINK) -> set[str]:
    """The addresses of a link, in CIDR form."""
    lines = lab.exec(node, ["ip", "-oneline", "address", "show", "dev", link]).splitlines()
    return {line.split()[3] for line in lines}


def until(
    lab: Lab, node: str, condition: Callable[[], bool], timeout: float = PATIENCE_SECONDS
) -> float:
    """Look again and again until something is true, while the node's headgate runs.

    Returns the seconds that it took. Raises TimeoutError with the log of headgate.
    """
    began = time.monotonic()
    daemon = lab.headgate(node)
    while not condition():
        if time.monotonic() - began > timeout:
            raise TimeoutError(daemon.complaint("did not do what was waited for"))
        daemon.wait_for_news(len(daemon.lines), _GLANCE_SECONDS)
    return time.monotonic() - began
