"""Which shapes can a table have?"""

from __future__ import annotations

from itertools import product

from endpoints.names import Family
from modes.nftables.shape import Shape
from modes.nftables.skeleton import Layout

_CIDRS = {Family.IPV4: "10.244.0.0/16", Family.IPV6: "fd00:10:244::/48"}
_DETECTORS = {
    "nobody": "",
    "cidr": "",
    "bridge": "cni0",
    "prefix": "veth*",
}
_SWITCHES = (
    "masquerade_all",
    "node_ports_everywhere",
    "node_ports_on_loopback",
    "lookups_can_miss",
)


def shapes(family: Family) -> dict[str, Shape]:
    """Every shape of a family's table by a name that says what is in it."""
    made: dict[str, Shape] = {}
    for (detector, interface), on in product(
        _DETECTORS.items(), product((False, True), repeat=len(_SWITCHES))
    ):
        words = [word for word, is_on in zip(_SWITCHES, on, strict=True) if is_on]
        cidrs = (_CIDRS[family],) if detector == "cidr" else ()
        made["+".join([detector, *words])] = Shape(family, interface, cidrs, *on)
    return made


NAMES = tuple(shapes(Family.IPV4))

NUMBERED = (
    *(
        f"{np}{sticky}{kind}-3"
        for sticky in ("", "sticky-")
        for np in ("", "np-")
        for kind in ("pick", "local")
    ),
    "learn-60",
    "np-learn-60",
)
"""One chain of each kind that is made when first named, those that others go to first."""


def layouts() -> list[Layout]:
    """A layout for every shape."""
    return [Layout(shape) for family in Family for shape in shapes(family).values()]
