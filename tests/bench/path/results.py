"""What is found of the way of a packet? Pure."""

from __future__ import annotations

import msgspec

NONE = "no proxy"
"""No rules at all: clients ask for the address of a pod."""
TRACKED = "no proxy, tracked"
"""Likewise, but the node tracks flows, as one does that masquerades or has a stateful firewall."""
RULE = "one rule"
"""The least that a translation can be: a rule of nft for each protocol, and one Service."""

STRAIGHT = "straight to the pod, beside headgate"
"""Clients ask for the address of a pod, on a node that has headgate's rules: what one can choose there
instead of a Service."""


class Spread(msgspec.Struct):
    """A figure that was taken in every round."""

    median: float
    low: float
    """The first quartile of the rounds."""
    high: float
    """The third quartile of the rounds."""


class Figure(msgspec.Struct):
    """A figure of a variant, and what it is of others' of the same rounds."""

    value: Spread
    to_none: Spread
    """The ratio to `NONE`."""
    to_tracked: Spread
    """The ratio to `TRACKED`."""
    to_straight: Spread | None = None
    """Of headgate's rules, the ratio to `STRAIGHT` beside the same rules."""


class Path(msgspec.Struct):
    """What packets of new flows pay on a node with the rules of one variant."""

    variant: str
    """`NONE`, `TRACKED`, `RULE`, `STRAIGHT`, or the program that wrote the rules."""
    back_end: str
    """Empty where no proxy wrote them; and then there are 0 Services."""
    services: int
    datagram: Figure
    """Microseconds until the answer to a first datagram is there: the median of a round."""
    connect: Figure
    """Microseconds that connect(2) takes for TCP: the median of a round."""
    connections: Figure
    """TCP connections a second, that are made and reset one after the other: the median batch."""
    pods: int
    """How many of the pods answered."""
    packets: int
    """How many flows that is from."""
