"""What is there on a machine that packets depend on, besides our rules? Pure.

Values only: `proxy.facts.machine` reads them from a kernel, and a snapshot keeps `Facts`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from conntrack.flows import Flow
from endpoints.addresses import contains
from endpoints.names import Family


class Link(msgspec.Struct, frozen=True):
    """A network interface."""

    name: str
    index: int
    kind: str = ""
    """`bridge`, `veth`, `vxlan`; empty for a real one, and for `lo`."""
    master: str = ""
    """The bridge, bond or VRF that it belongs to."""
    is_up: bool = True
    """Whether an administrator wants it up."""
    has_carrier: bool = True
    addresses: tuple[str, ...] = ()
    """`10.244.1.1/24`, of both families; those of Services on kube-ipvs0 are left out."""
    forwards: Mapping[Family, bool] = {}
    """By family that it speaks, net.ipv4.conf.NAME.forwarding: whether what arrives here from
    others may leave again. For IPv6 it only says what the machine is to its neighbours."""
    rp_filter: int = 0
    """Its own; the kernel takes the greater one of this and that of `all`."""
    route_localnet: bool = False
    hairpin: bool = False
    """Of a bridge's port: whether it may send a frame back to where that came from."""
    calls: frozenset[Family] = frozenset()
    """Of a bridge: in which families it shows frames to netfilter even if the sysctls say no."""


class Route(msgspec.Struct, frozen=True):
    """One nexthop of a route that somebody wrote or that an address brings."""

    network: str
    """`10.244.2.0/24`; of a default route `0.0.0.0/0` or `::/0`."""
    interface: str = ""
    gateway: str = ""
    kind: str = "unicast"
    """Or `blackhole`, `unreachable`, `prohibit`, `throw`."""
    table: int = 254


class Facts(msgspec.Struct, frozen=True):
    """One look at a machine, in one network namespace."""

    release: str = ""
    """Of the kernel: `6.1.0-18-amd64`."""
    sysctls: Mapping[str, str] = {}
    """By name, `net.ipv4.ip_forward`; one that the kernel does not have is missing here."""
    links: tuple[Link, ...] = ()
    """By index."""
    routes: tuple[Route, ...] = ()
    """The first ones of all tables; local and multicast routes are left out."""
    has_more_routes: bool = False
    reverse_path_drops: int | None = None
    """How many packets rp_filter dropped since the machine (or the namespace) began."""
    tools: Mapping[str, str] = {}
    """What each program says of its version; empty if nobody asked."""

    def number(self, sysctl: str) -> int | None:
        """The value of a sysctl that is one number; None: the kernel has no such, or hides it."""
        value = self.sysctls.get(sysctl, "")
        return int(value) if value.lstrip("-").isdigit() else None

    def link(self, name: str) -> Link | None:
        """The link of this name."""
        return next((link for link in self.links if link.name == name), None)

    def receiver(self, interface: str | None) -> str:
        """On which link the kernel sees arrive what comes in by an interface; empty: not known.

        What a port of a bridge or of a bond gets arrives on that.
        """
        link = self.link(interface or "")
        if link is None:
            return ""
        master = self.link(link.master)
        return master.name if master and master.kind in _RECEIVERS else link.name

    def is_own(self, address: str) -> bool:
        """Whether it is an address of this machine."""
        return any(
            held.partition("/")[0] == address for link in self.links for held in link.addresses
        )

    def rp_filter(self, link: Link) -> int:
        """What the kernel applies to IPv4 packets that arrive there (0 off, 1 strict, 2 loose)."""
        return max(link.rp_filter, self.number("net.ipv4.conf.all.rp_filter") or 0)

    def is_neighbour(self, bridge: Link, *addresses: str) -> bool:
        """Whether these are all in one network of the link, so that they talk directly."""
        return any(
            all(contains(held, address) for address in addresses) for held in bridge.addresses
        )

    def calls_netfilter(self, bridge: Link, of: Family) -> bool:
        """Whether packets within the bridge pass netfilter."""
        name = "ip6tables" if of is Family.IPV6 else "iptables"
        return of in bridge.calls or self.number(f"net.bridge.bridge-nf-call-{name}") == 1


def exception(link: str) -> str:
    """The sysctl that lets packets of IPv6 that arrive on a link pass while forwarding is off."""
    return f"net.ipv6.conf.{link}.force_forwarding"


_RECEIVERS = frozenset({"bridge", "bond", "team"})


class Way(msgspec.Struct, frozen=True):
    """Where the kernel's routing sends one packet; it was asked, nothing is concluded here."""

    source: str
    destination: str
    arrival: str = ""
    """The link on which it arrives; empty: it is made here."""
    interface: str = ""
    """By which it leaves; empty if it does not."""
    gateway: str = ""
    network: str = ""
    """The network of the route that matched."""
    is_local: bool = False
    """Whether its journey ends here."""
    error: str = ""
    """`EINVAL`, or another errno's name: the kernel would not take this packet."""
    route_error: str = ""
    """Likewise, of any packet to this destination: there is no route."""

    @property
    def is_default(self) -> bool:
        """Whether it goes where everything goes that nobody knows."""
        return self.network.endswith("/0")


class Ways(msgspec.Struct, frozen=True):
    """The ways that belong to one connection."""

    before: Way | None = None
    """Of what this machine sends itself: the way to the destination asked for. Without it there is
    no packet that a rule could translate."""
    there: tuple[Way, ...] = ()
    """To each endpoint; of a packet that nothing translates, to its destination."""
    back: tuple[Way, ...] = ()
    """Of the answers, from each endpoint to the client."""
    suspected: tuple[Way, ...] = ()
    """If nobody knows where the packet arrives: the links where the kernel would not take it."""
    is_arrival_known: bool = False
    """Whether the operator named where it arrives; else it is where the way back leaves."""


class Tracked(msgspec.Struct, frozen=True):
    """An entry of conntrack."""

    flow: Flow
    state: str = ""
    """Of TCP `SYN_SENT` and so on; of others `UNREPLIED`, `REPLIED` or `ASSURED`."""
    seconds_left: int = 0
    """When it is forgotten, if no packet comes."""
