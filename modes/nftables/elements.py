"""Which map elements does a Service become? Pure.

A fragment is what one Service puts into the tables of both families. Its keys start with a byte
that tells family and set, so that one flat dictionary holds it and a change of fragments is a
difference of dictionaries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from endpoints.addresses import network, pack
from endpoints.names import Family
from endpoints.node import NodeView
from endpoints.plan import Frontend, FrontendKind, ServicePlan, TrafficPolicy
from modes.nftables.expressions import native32
from modes.nftables.sets import S
from modes.nftables.skeleton import LOCAL_OFFSET

_FAMILY_STEP = 32
_FAMILY_BASE = {Family.IPV4: 0, Family.IPV6: _FAMILY_STEP}
_CLUSTER_IP, _NODE_PORT = FrontendKind.CLUSTER_IP, FrontendKind.NODE_PORT
_LOCAL_POLICY = TrafficPolicy.LOCAL
_CLUSTER_IPS, _SPECIAL_IPS = S.CLUSTER_IPS, S.SPECIAL_IPS
"""What each Service asks for, by names of this file: those of a class take Python 3.11 70 ns."""
_SLOTS_AT_HAND = 256
"""More than most lists have."""


class Verdict(NamedTuple):
    """The data of a verdict map: where a packet goes, and for whom, for people who list it."""

    verdict: str
    comment: str = ""


Value = bytes | Verdict
"""The data of an element: packed for a map of data, empty for a set."""
Elements = dict[bytes, Value]
Fragment = Mapping[bytes, Value]


def key_prefix(family: Family, set_id: S) -> bytes:
    """The byte that leads the keys of this set."""
    return bytes((_FAMILY_BASE[family] + set_id,))


_SETS = {base + set_id: (family, set_id) for family, base in _FAMILY_BASE.items() for set_id in S}
_SHARED = frozenset(
    base + set_id
    for base in _FAMILY_BASE.values()
    for set_id in (S.CLUSTER_IPS, S.HAIRPIN, S.SPECIAL_IPS)
)


def set_of(key: bytes) -> tuple[Family, S]:
    """The family and set that a key leads to."""
    return _SETS[key[0]]


def is_shared(key: bytes) -> bool:
    """Whether several Services may want this element."""
    return key[0] in _SHARED


def shared_of(fragment: Fragment) -> list[bytes]:
    """The elements of a fragment that other Services may want, too."""
    return [key for key in fragment if key[0] in _SHARED]


@lru_cache(maxsize=4096)
def pack_port(port: int) -> bytes:
    """A port as a register holds it: network order, filled to a word."""
    return port.to_bytes(2, "big") + b"\0\0"


@cache
def _first_slots(offset: int) -> tuple[bytes, ...]:
    return tuple(map(native32, range(offset, offset + _SLOTS_AT_HAND)))


def _numbered(offset: int, count: int) -> tuple[bytes, ...]:
    """The slots of a list, as keys end with them."""
    if count <= _SLOTS_AT_HAND:
        return _first_slots(offset)[:count]
    return tuple(map(native32, range(offset, offset + count)))


def render(
    plans: Iterable[ServicePlan], previous: Mapping[bytes, Value], *, pick_refuses: bool = False
) -> Elements:
    """The fragment of one Service.

    `previous` is what the kernel holds of it: endpoints keep their slots, so that a change of one
    among a thousand stays a change of one. The set of endpoints per list is a function of the
    plans alone.

    Where `pick_refuses` (a list without slots: where no lookup can miss one), who loses the last
    endpoint keeps the verdict, too: that it goes, and that another comes, is a change of slots
    (decision 0023).
    """
    out: Elements = {}
    for plan in plans:
        service = _ServicePort(plan, previous, out, pick_refuses=pick_refuses)
        for frontend in plan.frontends:
            service.render(frontend)
        service.hairpins()
    return out


def render_node(node: NodeView) -> Elements:
    """The elements that stand for the node itself: where NodePorts answer."""
    return {
        key_prefix(family, set_id) + pack(address): b""
        for family in Family
        for address in node.node_ports(family).addresses
        for set_id in (S.NODEPORT_IPS, S.SPECIAL_IPS)
    }


def place(previous: Sequence[Value | None], wanted: Sequence[bytes]) -> Sequence[bytes]:
    """An order of `wanted` that differs from `previous` in as few slots as possible.

    What stays in reach keeps its slot; newcomers, and those whose slot is cut off, fill the gaps.
    None is a slot that somebody else emptied.
    """
    if not previous:
        return wanted
    missing = set(wanted)
    slots: list[bytes | None] = []
    for item in previous[: len(wanted)]:
        if item is None or item not in missing:
            slots.append(None)
        else:
            slots.append(item)
            missing.discard(item)
    slots += [None] * (len(wanted) - len(slots))
    newcomers = iter([item for item in wanted if item in missing])
    return [next(newcomers) if item is None else item for item in slots]


class _Target(NamedTuple):
    """The sets that a kind of frontend uses; NodePorts have their own, keyed without address."""

    services: S
    local: S
    endpoints: S
    post_ext: S
    post_extlocal: S
    learn: S
    valid: S
    local_valid: S
    chain: str


_COMMENT_LIMIT = 250
"""Characters: names are ASCII, and the kernel keeps 255 bytes with a header and a zero."""
_PICKS = {of: re.compile(rf"goto {of}pick-[1-9]\d{{0,6}}") for of in ("", "np-")}
"""Verdicts that end in a refusal where there is no slot; by the prefix of chains of a target."""
_CLUSTER, _LOCAL = ("pick", 0), ("local", LOCAL_OFFSET)
"""The two lists of a plan: the chain that picks among one, and its first slot."""
_BY_ADDRESS = _Target(
    S.SERVICES,
    S.EXTERNAL_LOCAL,
    S.ENDPOINTS,
    S.POST_EXT,
    S.POST_EXTLOCAL,
    S.LEARN,
    S.AFFINITY_VALID,
    S.AFFINITY_LOCAL_VALID,
    "",
)
_BY_NODE_PORT = _Target(
    S.NODEPORTS,
    S.NODEPORT_LOCAL,
    S.NODEPORT_ENDPOINTS,
    S.POST_EXT_NODEPORTS,
    S.POST_EXTLOCAL_NODEPORTS,
    S.LEARN_NODEPORTS,
    S.AFFINITY_VALID_NODEPORTS,
    S.AFFINITY_LOCAL_VALID_NODEPORTS,
    "np-",
)


class _ServicePort:
    """One plan on its way into a fragment."""

    def __init__(
        self,
        plan: ServicePlan,
        previous: Mapping[bytes, Value],
        out: Elements,
        *,
        pick_refuses: bool,
    ) -> None:
        self.plan = plan
        self.previous = previous
        self.pick_refuses = pick_refuses
        self.out = out
        self.comment = str(plan.name)[:_COMMENT_LIMIT]
        self.protocol = bytes((plan.name.protocol.number, 0, 0, 0))
        self.base = _FAMILY_BASE[plan.family]
        self.cluster = [pack(e.address) + pack_port(e.port) for e in plan.cluster]
        self.local = [pack(e.address) + pack_port(e.port) for e in plan.local]

    def put(self, set_id: S, key: bytes, value: Value = b"") -> None:
        self.out[bytes((self.base + set_id,)) + key] = value

    def render(self, frontend: Frontend) -> None:
        """Add one frontend: dispatch, slots, masquerade, affinity."""
        target = _BY_NODE_PORT if frontend.kind is _NODE_PORT else _BY_ADDRESS
        address = pack(frontend.address) if frontend.address else b""
        key = address + self.protocol + pack_port(frontend.port)
        is_local = frontend.policy is _LOCAL_POLICY
        if address and self._is_special(frontend):
            self.put(_SPECIAL_IPS, address)
        if frontend.kind is _CLUSTER_IP:
            self.put(_CLUSTER_IPS, address)
            lists = [(target.services, _LOCAL if is_local else _CLUSTER)]
        else:
            lists = [(target.services, _CLUSTER)]
            lists += [(target.local, _LOCAL)] if is_local else []
            self.put(target.post_extlocal if is_local else target.post_ext, key)
        self._source_ranges(key, frontend)
        if not self.plan.has_any:
            keeps = self.pick_refuses and not is_local
            kept = keeps and self._kept(target, bytes((self.base + target.services,)) + key)
            self._dispatch(target.services, key, kept or "goto no-endpoints")
            return
        for set_id, (chain, offset) in lists:
            endpoints = self.local if offset else self.cluster
            self._dispatch(set_id, key, self._verdict(target, chain, len(endpoints)))
            self._slots(target, key, endpoints, offset)
            valid = target.local_valid if offset else target.valid
            self._affinity(target.learn, valid, key, endpoints, target.chain)

    def _is_special(self, frontend: Frontend) -> bool:
        """Whether more is done with its flows than with those of a plain cluster IP."""
        is_cluster_ip = frontend.kind is _CLUSTER_IP
        plain = is_cluster_ip and not (self.plan.affinity_seconds or frontend.source_ranges)
        return not plain

    def _dispatch(self, set_id: S, key: bytes, verdict: str) -> None:
        self.put(set_id, key, Verdict(verdict, self.comment))

    def _verdict(self, target: _Target, name: str, count: int) -> str:
        if not count:
            return "drop"
        sticky = "sticky-" if self.plan.affinity_seconds else ""
        return f"goto {target.chain}{sticky}{name}-{count}"

    def _kept(self, target: _Target, key: bytes) -> str:
        """The verdict by which a frontend was served, if it refuses without slots.

        Not a sticky one: to clients that are remembered it serves an endpoint that is gone.
        """
        held = self.previous.get(key)
        if not isinstance(held, Verdict) or held.comment != self.comment:
            return ""
        return held.verdict if _PICKS[target.chain].fullmatch(held.verdict) else ""

    def _slots(self, target: _Target, key: bytes, wanted: Sequence[bytes], offset: int) -> None:
        prefix = bytes((self.base + target.endpoints,)) + key
        keys = [prefix + slot for slot in _numbered(offset, len(wanted))]
        if self.previous:
            found = list(map(self.previous.get, keys))
            wanted = wanted if found == wanted else place(found, wanted)
        self.out.update(zip(keys, wanted, strict=True))

    def _affinity(
        self, learn: S, valid: S, key: bytes, endpoints: Iterable[bytes], chain: str
    ) -> None:
        if not self.plan.affinity_seconds:
            return
        self.put(learn, key, Verdict(f"jump {chain}learn-{self.plan.affinity_seconds}"))
        for endpoint in endpoints:
            self.put(valid, key + endpoint)

    def _source_ranges(self, key: bytes, frontend: Frontend) -> None:
        if not frontend.source_ranges:
            return
        self.put(S.LB_RESTRICTED, key)
        for cidr in frontend.source_ranges:
            net = network(cidr)
            low = key + net.network_address.packed
            self.put(S.LB_SOURCES, low + key + net.broadcast_address.packed)

    def hairpins(self) -> None:
        """Add the pods that may reach themselves through the Service from this node."""
        both = (self.plan.cluster, self.plan.local)
        here = [e for part in both for e in part if e.is_local or e.node is None]
        for endpoint in here:
            address = pack(endpoint.address)
            self.put(S.HAIRPIN, address + address)
