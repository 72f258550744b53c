"""On which of the node's addresses do NodePorts answer? Pure.

`nodePortAddresses` is a list of CIDRs and of the keywords `primary`, `localhost` and `all`
(KEP-6032), mixed at will. When loopback is served depends on the mode, and it is served only as
127.0.0.1: the kernel routes no packet from ::1 anywhere else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence

from endpoints.addresses import contains, family, network
from endpoints.names import Family
from endpoints.node import Loopback, NodePortAddresses
from endpoints.objects import Node

PRIMARY = "primary"
LOCALHOST = "localhost"
ALL = "all"
_KEYWORDS = (PRIMARY, LOCALHOST, ALL)
_LOCALHOST_V4 = "127.0.0.1"


def selectors(texts: Iterable[str]) -> tuple[str, ...]:
    """The selectors in canonical form: keywords as they are, CIDRs without host bits.

    Raises ValueError that names the one that is neither.
    """
    return tuple(_selector(text.strip()) for text in texts)


def _selector(text: str) -> str:
    if text in _KEYWORDS:
        return text
    try:
        if "/" in text:
            return str(network(text))
    except ValueError as error:
        raise ValueError(f"nodePortAddresses: {text!r}: {error}") from error
    raise ValueError(f"nodePortAddresses: {text!r} is neither a CIDR nor primary, localhost or all")


def resolve(
    chosen: Sequence[str],
    of: Family,
    local_addresses: Collection[str],
    primary: str | None,
    loopback: Loopback = Loopback.BY_NAME,
) -> NodePortAddresses:
    """The addresses in one family.

    `local_addresses` are the kernel's, of both families; `primary` is the node's address of this
    family, None if it has none. A zero CIDR or `all` makes the rest of the list moot. CIDRs that
    are all of the other family mean every address of this one, and so does an empty list; a
    keyword speaks for both families, so `localhost` alone leaves IPv6 unserved. Raises ValueError
    as `selectors`.
    """
    chosen = selectors(chosen)
    cidrs = [text for text in chosen if text not in _KEYWORDS and family(text) is of]
    silent = not cidrs and not any(text in _KEYWORDS for text in chosen)
    everywhere = silent or ALL in chosen or any(cidr.endswith("/0") for cidr in cidrs)
    named = LOCALHOST in chosen or any(_is_loopback(cidr, _LOCALHOST_V4) for cidr in cidrs)
    in_range = everywhere or any(contains(cidr, _LOCALHOST_V4) for cidr in cidrs)
    localhost = (
        of is Family.IPV4
        and {
            Loopback.BY_NAME: named,
            Loopback.IN_RANGE: named or in_range,
            Loopback.NEVER: False,
        }[loopback]
    )
    wanted = {_LOCALHOST_V4} if localhost else set()
    if everywhere:
        return NodePortAddresses(match_all=True, addresses=tuple(wanted))
    if primary and PRIMARY in chosen:
        wanted.add(primary)
    wanted.update(
        address
        for address in local_addresses
        if not is_loopback(address) and any(contains(cidr, address) for cidr in cidrs)
    )
    return NodePortAddresses(addresses=tuple(sorted(wanted)))


def primary_address(
    of: Family, node: Node | None, local_addresses: Collection[str], pod_networks: Iterable[str]
) -> str | None:
    """The node's address of one family: the Node object's first InternalIP that is local.

    Without such a one, the least local address that others can reach: not loopback, not link-local
    and not in a network of pods (the bridge has one of these). None if there is none.
    """
    listed = node.status.addresses if node and node.status else None
    for entry in listed or ():
        mine = entry.type == "InternalIP" and entry.address in local_addresses
        if mine and family(entry.address) is of:
            return entry.address
    pods = tuple(pod_networks)
    reachable = [
        ip
        for ip in map(ipaddress.ip_address, (a for a in local_addresses if family(a) is of))
        if not (ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified)
        and not any(contains(cidr, str(ip)) for cidr in pods)
    ]
    return str(min(reachable, key=lambda ip: ip.packed)) if reachable else None


def is_loopback(address: str) -> bool:
    """Whether an address never leaves the node: 127.0.0.0/8 and ::1."""
    return address.startswith("127.") or address == "::1"


def _is_loopback(cidr: str, address: str) -> bool:
    """Whether a range is one of loopback addresses only, and holds this one."""
    return network(cidr).is_loopback and contains(cidr, address)
