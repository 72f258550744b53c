"""What do the tables of headgate and of kube-proxy in nftables mode hold of one Service? IPv4."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable, Mapping

from modes.nftables import netlink as nl
from modes.nftables.expressions import NFT_GOTO, native32
from modes.wire import words
from tests.bench import cluster
from tests.bench.whole.content import Wanted
from tests.bench.whole.netlink import Asking, Attributes, value, verdict

_ATTEMPTS = 5
_NUMGEN_MODULUS, _LOOKUP_SET = 2, 1
_PORT = cluster.PORT.to_bytes(2, "big") + b"\0\0"
_TARGET_PORT = cluster.TARGET_PORT.to_bytes(2, "big") + b"\0\0"
_TCP = bytes((socket.IPPROTO_TCP, 0, 0, 0))

_PICK = re.compile(r"pick-(\d+)")
_ENDPOINT_CHAIN = re.compile(r"endpoint-.*__([\d.]+)/(\d+)")


class Nftables:
    """The ruleset as nf_tables tells it; an `Observer`."""

    def __init__(self, program: str) -> None:
        """Raises KeyError if the program is neither `headgate` nor `kube-proxy`, and OSError."""
        self._kernel = Asking()
        readers: Mapping[str, Callable[[Asking, Wanted], bool]] = {
            "headgate": _headgate,
            "kube-proxy": _kube_proxy,
        }
        self._read = readers[program]

    def mark(self) -> int:
        """The number of the ruleset."""
        return self._kernel.generation()

    def holds(self, wanted: Wanted) -> bool:
        """As an `Observer`; what is compared is of one commit.

        A ruleset that changes at each of several attempts counts as one that does not hold it: its
        mark has moved then, and the next look is due.
        """
        generation = self._kernel.generation()
        for _ in range(_ATTEMPTS):
            found = self._read(self._kernel, wanted)
            now = self._kernel.generation()
            if now == generation:
                return found
            generation = now
        return False

    def commits(self) -> int:
        """Commits to this network namespace's ruleset since it was made, by whomever."""
        return self._kernel.generation()

    def close(self) -> None:
        """Close the socket."""
        self._kernel.close()


def _key(wanted: Wanted) -> bytes:
    """Cluster IP, protocol and port, as both programs concatenate them."""
    return socket.inet_aton(cluster.cluster_ip(wanted.number)) + _TCP + _PORT


def _target(kernel: Asking, table: str, name: str, key: bytes) -> str | None:
    """The chain that a verdict map leads a key to; None if it does not have the key.

    Raises RuntimeError for another verdict.
    """
    element = kernel.elements(table, name, [key])[0]
    if element is None:
        return None
    code, chain = verdict(element)
    if code != NFT_GOTO:
        raise RuntimeError(f"verdict {code} {chain!r} in {name} is not understood")
    return chain


# headgate: slots 0 to N - 1 of the map `endpoints` for a Service that goes to chain pick-N.


def _headgate(kernel: Asking, wanted: Wanted) -> bool:
    table, key = "headgate", _key(wanted)
    chain = _target(kernel, table, "services", key)
    if chain is None or wanted.endpoints is None:
        return chain is None and wanted.endpoints is None
    if chain == "no-endpoints":
        return not wanted.endpoints
    pick = _PICK.fullmatch(chain)
    if pick is None:
        raise RuntimeError(f"chain {chain} of a plain Service is not understood")
    if wanted.endpoints and int(pick[1]) != len(wanted.endpoints):
        return False
    slots = [key + native32(slot) for slot in range(int(pick[1]))]
    held = kernel.elements(table, "endpoints", slots)
    if not wanted.endpoints:  # who has lost the last one keeps the chain
        return all(of is None for of in held)
    return {_translation(element) for element in held} == set(map(_packed, wanted.endpoints))


def _translation(element: Attributes | None) -> bytes:
    return b"" if element is None else value(element, nl.NFTA_ELEM_DATA)


def _packed(address: str) -> bytes:
    return socket.inet_aton(address) + _TARGET_PORT


# kube-proxy: a chain for each Service, whose last rule draws a random number and looks it up in an
# anonymous map. 1.36 finds address and port there; 1.30 a chain that is named after the endpoint.


def _kube_proxy(kernel: Asking, wanted: Wanted) -> bool:
    table, key = "kube-proxy", _key(wanted)
    chain = _target(kernel, table, "service-ips", key)
    if chain is None or not wanted.endpoints:
        refused = _target(kernel, table, "no-endpoint-services", key) is not None
        return chain is None and not wanted.endpoints and refused == (wanted.endpoints is not None)
    choice = _choice(kernel, table, chain)
    if choice is None or choice[0] != len(wanted.endpoints):
        return False
    modulus, name = choice
    listed = kernel.all_elements(table, name)
    numbers = {int.from_bytes(value(one, nl.NFTA_ELEM_KEY), sys.byteorder) for one in listed}
    whole = numbers == set(range(modulus)) and len(listed) == modulus
    return whole and {_endpoint(one) for one in listed} == {*map(_packed, wanted.endpoints)}


def _choice(kernel: Asking, table: str, chain: str) -> tuple[int, str] | None:
    """The modulus of the random number that a chain draws, and the map that it then looks it up in.

    None if the chain does not choose (yet).
    """
    for rule in kernel.rules(table, chain):
        expressions = dict(rule)
        if "numgen" in expressions:
            modulus = int.from_bytes(expressions["numgen"][_NUMGEN_MODULUS], "big")
            return modulus, words(expressions["lookup"][_LOOKUP_SET])
    return None


def _endpoint(element: Attributes) -> bytes:
    """The address and port that an element of such a map leads to. Raises RuntimeError."""
    data = dict(nl.attributes(element[nl.NFTA_ELEM_DATA]))
    if nl.NFTA_DATA_VALUE in data:
        return data[nl.NFTA_DATA_VALUE]
    code, chain = verdict(element)
    named = _ENDPOINT_CHAIN.fullmatch(chain)
    if code != NFT_GOTO or named is None or int(named[2]) != cluster.TARGET_PORT:
        raise RuntimeError(f"verdict {code} {chain!r} is not understood as that of an endpoint")
    return _packed(named[1])
