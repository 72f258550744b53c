"""Where was a packet lost that no rule of nf_tables dropped? Pure.

It was seen at one place and not at the next one; what lies between them can have taken it.
"""

from __future__ import annotations

from modes.tracing.events import Header
from modes.tracing.following import Seen

ROUTED = "prerouting-translated"
"""The last place before routing decides; no rule comes after it in this hook."""
_NOT_NFT = "a rule of iptables-legacy or a program of the kernel (BPF) dropped it"
_FULL = "the table of conntrack is full (net.netfilter.nf_conntrack_max)"
_WHERE = {
    "prerouting-early": (
        "in prerouting, before conntrack knew it",
        f"{_FULL}, the packet is damaged, or {_NOT_NFT}",
    ),
    "prerouting-tracked": ("in prerouting, before it was routed", _NOT_NFT),
    ROUTED: ("between prerouting and forward: routing refused it", ""),
    "input-early": ("in input", f"{_NOT_NFT}, or IPVS has no server for it"),
    "forward-early": ("in forward", _NOT_NFT),
    "forward-late": ("after forward", _NOT_NFT),
    "output-early": ("in output, before conntrack knew it", f"{_FULL}, or {_NOT_NFT}"),
    "output-tracked": ("in output, before it was translated", _NOT_NFT),
    "output-translated": ("in output", f"{_NOT_NFT}, or IPVS has no server for it"),
    "output-late": ("after output", "there is no route to where it was translated to"),
    "postrouting-early": ("in postrouting", f"{_NOT_NFT}, or no port is free for masquerade"),
}
_ICMP = {
    (3, 0): "network unreachable",
    (3, 1): "host unreachable",
    (3, 2): "protocol unreachable",
    (3, 3): "port unreachable",
    (3, 4): "packet too big",
    (3, 10): "host prohibited",
    (3, 13): "administratively prohibited",
    (11, 0): "time to live exceeded",
}
_ICMPV6 = {
    (1, 0): "no route",
    (1, 1): "administratively prohibited",
    (1, 3): "address unreachable",
    (1, 4): "port unreachable",
    (2, 0): "packet too big",
    (3, 0): "hop limit exceeded",
}
_ICMPV6_NUMBER = 58


def where_lost(at: Seen, *, is_quiet: bool = False) -> tuple[str, str]:
    """Between which places, and what may have done it.

    `is_quiet`: the rules of nf_tables were not told of either.
    """
    where, guess = _WHERE[at.place.chain]
    return where, guess.replace(_NOT_NFT, "a rule dropped it") if is_quiet else guess


def icmp_words(header: Header) -> str:
    """What an ICMP error says."""
    kind, code = header.icmp or (0, 0)
    known = _ICMPV6 if header.ends.protocol == _ICMPV6_NUMBER else _ICMP
    return known.get((kind, code), f"type {kind}, code {code}")
