"""What was found on a machine that keeps a connection from arriving? Pure."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Cause(StrEnum):
    """What is not as a connection needs it; `breaks` of the finding says how certainly."""

    RULES = "rules"
    """The kernel does not hold what it should."""
    CONNTRACK_FULL = "conntrack-full"
    STALE_FLOW = "stale-flow"
    REVERSE_PATH = "reverse-path"
    """rp_filter: the kernel takes the source for a forged one."""
    NO_ROUTE = "no-route"
    LINK_DOWN = "link-down"
    NOT_FORWARDING = "not-forwarding"
    BRIDGE_BYPASS = "bridge-bypass"
    """Answers within a bridge do not pass netfilter: nobody translates them back."""
    HAIRPIN = "hairpin"
    """A bridge does not send a frame back to the port where it came from."""
    LOCALHOST = "localhost"
    """A loopback address as source or destination, where the kernel drops such packets."""
    FOREIGN_TRANSLATION = "foreign-translation"
    """A rule of others sends the packet elsewhere before ours see it, or keeps it from NAT."""
    FOREIGN_DROP = "foreign-drop"
    """A rule of others drops or refuses the packet."""
    FOREIGN_SOURCE = "foreign-source"
    """A rule of others replaces the source: the endpoint sees another client."""


class Finding(msgspec.Struct, frozen=True):
    """One of them, in words."""

    cause: Cause
    breaks: bool
    """Whether the connection fails for certain; otherwise it may."""
    text: str
    """One sentence, without its full stop: what it is, and its value."""
    remedy: str
    """What to do, a command if there is one; empty: nothing that can be told from here."""
