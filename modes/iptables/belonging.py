"""Which of the rules that the kernel holds belong to which Service? Pure.

Told by comments, which rules of chains that Services share always have, and by what these rules
lead to. A Service is named as there: `namespace/name:port`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from modes.held import Only
from modes.xtables import chains, names
from modes.xtables.adopt import target
from modes.xtables.names import Table
from modes.xtables.rules import DROP, REJECT, ChainName

UNKNOWN = "?"
SHARED = (
    chains.NAT_SERVICES,
    chains.NAT_NODEPORTS,
    chains.SERVICES,
    chains.EXTERNAL_SERVICES,
    chains.EXTERNAL_NODEPORTS,
    chains.NODEPORTS,
    chains.PROXY_FIREWALL,
    chains.CLUSTER_IPS,
)
"""Chains that hold rules of many Services."""
_TITLE = re.compile(r'--comment "?([^"\s]+)')
_HASH = 16
_MENTIONED = re.compile(r'--comment "?[^"]*?(?<![^"\s])([^"\s/]+/[^"\s/]+)')

Found = Mapping[ChainName, Sequence[str]]


def titled(spec: str) -> str:
    """The word that the comment of a rule begins with: the name of its Service; `?` for none."""
    found = _TITLE.search(spec)
    return found[1] if found else UNKNOWN


def service_of(spec: str) -> str:
    """The Service that a rule of a shared chain is for, as far as its comment tells; or empty.

    Of a cluster IP and of a health check the port is not told: `namespace/name`.
    """
    title = titled(spec)
    return title if "/" in title else ""


def object_of(name: str) -> str:
    """`namespace/name` of `namespace/name:port`."""
    return name.partition(":")[0]


def is_of_a_service(chain: ChainName) -> bool:
    """Whether a chain belongs to one Service port, by its name."""
    return chain.name.startswith(names.OF_A_SERVICE)


def reached(found: Found, specs: Iterable[tuple[Table, str]]) -> set[ChainName]:
    """The chains of Services to which rules lead, and those to which these lead."""
    reached: set[ChainName] = set()
    left = [ChainName(table, target(one)) for table, one in specs]
    while left:
        chain = left.pop()
        if chain in found and chain not in reached and is_of_a_service(chain):
            reached.add(chain)
            left += [ChainName(chain.table, target(one)) for one in found[chain] if " KUBE-" in one]
    return reached


def may_be_at(only: Only) -> Callable[[str], bool]:
    """Whether a rule may be for a place, by its spec alone; at any address for a NodePort."""
    port, address = f" --dport {only.port} ", f"-d {only.address}/"
    # Addresses that begin with zeros are printed in two ways.
    is_any = only.address.startswith("::")
    return lambda spec: (
        port in spec and (is_any or spec.startswith(address) or not spec.startswith("-d "))
    )


def dispatched(found: Found, only: Only) -> list[ChainName]:
    """Where rules of shared chains send the packets of asked Services; REJECT and DROP too."""
    shared = [(chain.table, one) for chain in SHARED for one in found.get(chain, ())]
    if only.address:
        is_there = may_be_at(only)
        asked = {service_of(one) for _, one in shared if is_there(one)}
    else:
        asked = {name for _, one in shared if only.names(name := service_of(one))}
    targets = [ChainName(table, target(one)) for table, one in shared if service_of(one) in asked]
    return [of for of in targets if of.name in (REJECT, DROP) or is_of_a_service(of)]


def concerning(found: Found, only: Only, there: Collection[ChainName]) -> set[ChainName]:
    """The chains of asked Services that are there, as far as what was read by now leads to them.

    Chains of one Service port share the end of their names: none of these is overlooked.
    """
    left = dispatched(found, only)
    concerned: set[ChainName] = set()
    while left:
        chain = left.pop()
        if chain in there and chain not in concerned and is_of_a_service(chain):
            concerned.add(chain)
            left += [ChainName(chain.table, target(one)) for one in found.get(chain, ())]
            if not chain.name.startswith(names.SEP):
                hashed = chain.name[-_HASH:]
                left += [
                    ChainName(table, kind + hashed)
                    for table in (Table.FILTER, Table.NAT)
                    for kind in names.OF_A_SERVICE
                ]
    return concerned


def owners(found: Found) -> dict[ChainName, str]:
    """The Service of each chain of one that can be told."""
    owners: dict[ChainName, str] = {}
    for shared in SHARED:
        for one in found.get(shared, ()):
            if " -j KUBE-" in one and (name := service_of(one)):
                for chain in reached(found, [(shared.table, one)]):
                    owners.setdefault(chain, name)
    for chain, specs in found.items():
        if is_of_a_service(chain) and chain not in owners:
            mentioned = next(filter(None, map(_MENTIONED.search, specs)), None)
            if mentioned:
                owners[chain] = mentioned[1]
    return owners


def selected(
    found: Found, is_asked: Callable[[str], bool], known: Iterable[ChainName] = ()
) -> Iterator[tuple[ChainName, tuple[str, ...]]]:
    """The rules of some Services: those of shared chains, then chains of their own, whole.

    `is_asked` is asked for the name of a Service as comments have it; `known` are chains of these
    Services to which perhaps no rule leads.
    """
    roots: list[tuple[Table, str]] = []
    for chain in SHARED:
        specs = tuple(one for one in found.get(chain, ()) if is_asked(service_of(one)))
        roots += [(chain.table, one) for one in specs]
        if specs:
            yield chain, specs
    for chain in sorted(reached(found, roots).union(known)):
        if chain in found:
            yield chain, tuple(found[chain])
