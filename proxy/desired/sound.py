"""Is what a file claims of a cluster and of a machine such as could be read there? Pure.

Right JSON may hold what no API server lets pass and no kernel says: an address that is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from endpoints.addresses import canonical, network
from endpoints.nodeports import selectors
from endpoints.objects import KubernetesObject, name_of
from endpoints.validate import Refused, Shared, accept_node, accept_service, accept_slice
from modes.registry import require
from proxy.desired.recorded import Recorded
from proxy.facts.facts import Facts
from proxy.facts.foreign import Condition, Field, ForeignChains
from proxy.settings.refusal import plain

_PORTS = re.compile(r"[0-9]{1,5}(?:-[0-9]{1,5})?")


def require_sound(cluster: Recorded, facts: Facts | None, foreign: ForeignChains) -> None:
    """Refuse what commands could not reckon with. Raises ValueError that names the first of it."""
    _require_cluster(cluster)
    if facts is not None:
        _networks("the address of a link", (held for of in facts.links for held in of.addresses))
        _networks("the network of a route", (route.network for route in facts.routes))
        _addresses("a gateway", (route.gateway for route in facts.routes if route.gateway))
    for chain in foreign:
        for rule in chain.rules:
            for condition in rule.conditions:
                _require_condition(f"a rule of {plain(chain.place)}", condition)


def _require_cluster(cluster: Recorded) -> None:
    require(cluster.mode)
    # Accepting brings objects into canonical form, in place.
    objects = msgspec.json.decode(msgspec.json.encode(cluster), type=Recorded)
    shared = Shared({})
    for service in objects.services:
        _require(f"Service {_name(service)}", partial(accept_service, service))
    for of in objects.slices:
        _require(f"EndpointSlice {_name(of)}", partial(accept_slice, of, shared))
    if (node := objects.node) is not None:
        _require(f"Node {_name(node)}", partial(accept_node, node))
    settings = cluster.settings
    selectors(settings.node_port_addresses)
    _networks("clusterCIDR", settings.cluster_cidrs)
    bound = (settings.bind_address,) if settings.bind_address else ()
    _addresses("an address of the node", (*cluster.addresses, *bound))


def _require_condition(what: str, of: Condition) -> None:
    match of.field:
        case Field.SOURCE | Field.DESTINATION:
            ranges = [value for value in of.values if "-" in value]
            _networks(what, (value for value in of.values if "-" not in value))
            _addresses(what, (end for value in ranges for end in value.split("-", 1)))
        case Field.SOURCE_PORT | Field.DESTINATION_PORT:
            for value in of.values:
                if not _PORTS.fullmatch(value):
                    raise ValueError(f"{what}: {value!r}: is no port")
        case _:
            return


def _name(of: KubernetesObject) -> str:
    return plain(str(name_of(of)))


def _require(subject: str, accept: Callable[[], Iterable[Refused] | None]) -> None:
    """All of an object is accepted, or it is named."""
    try:
        left_out = tuple(accept() or ())
    except Refused as refused:
        left_out = (refused,)
    if left_out:
        raise ValueError(f"{subject}: {left_out[0]}")


def _networks(what: str, texts: Iterable[str]) -> None:
    for text in texts:
        try:
            network(text)
        except ValueError:
            raise ValueError(f"{what}: {text!r}: is no CIDR") from None


def _addresses(what: str, texts: Iterable[str]) -> None:
    for text in texts:
        try:
            canonical(text)
        except ValueError:
            raise ValueError(f"{what}: {text!r}: is no IP address") from None
