"""What becomes of virtual servers that another mode has taken the place of? Pure.

IPVS keeps a connection in a table of its own: it lives as long as its real server does, and as the
address that its packets go to is local. So who has connections stays, and takes no new ones, until
they have ended or its time is over; an address goes when no virtual server needs it any more.

At an address that is the node's own, new connections cannot be refused: who serves now may send
them to a process of the node, at just the address and port of a virtual server, and IPVS comes
after that. There it gives them to the node itself, which they are for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from modes.ipvs.adopt import Found, Ownership
from modes.ipvs.draining import entry
from modes.ipvs.ipsets import (
    PLAIN,
    Entry,
    Extra,
    Kind,
    SetChange,
    SetName,
    SetVerb,
)
from modes.ipvs.program import HeldServer, Owned, Steps, bound, registered
from modes.ipvs.servers import Command, FoundReal, RealServer, ServerKey, Verb, VirtualServer

KINDS = (Kind.IPVS_IPS, Kind.VIRTUAL_SERVERS, Kind.NO_ENDPOINTS, Kind.DRAINING)
"""The sets that it takes, also where kube-proxy's IPVS mode was before."""


def quiesced(
    found: Found, owned: Ownership, local: Collection[str], now: float, drain_seconds: int
) -> Steps:
    """One step on the way out, from what was found to less; datagrams have connections, too.

    An address goes a step after its last virtual server: what still comes by a flow of that one
    would leave the host otherwise. `local` are the addresses of the node, without those that it
    holds for Services.
    """
    out = Steps()
    closed = {refused(k) for k in owned.held.servers if not k.mark and k.address not in local}
    for key, held in owned.held.servers.items():
        itself = RealServer(key.address, key.port) if key.address in local else None
        _admit(out, key, owned, is_closed=itself is None)
        drained = owned.draining.get(key)
        deadlines = drained.deadlines if drained is not None else {}
        busy = {
            real: at
            for real, at in found.servers[key].reals.items()
            if real != itself
            and not at.is_idle
            and drain_seconds
            and deadlines.get(real, now + drain_seconds) > now
        }
        if busy:
            if itself is not None:
                _hand_over(out, key, held, itself)
            _thin_out(out, key, held, busy.keys(), itself)
            _quiesce(out, key, busy.items(), found, drain_seconds)
        else:
            _end(out, key, held)
    needed = {key.address for key in owned.held.servers}
    marked = {key.family for key in owned.held.servers if key.mark}
    out.unbind = sorted(
        address
        for address in owned.held.addresses - needed
        # Which addresses the packets with a mark went to, the virtual server does not say.
        if bound(address).set.family not in marked
    )
    out.removals += _deletions(map(bound, out.unbind))
    # Services without endpoints: who serves now knows which they are.
    out.removals += _deletions(
        one for one in owned.held.entries if one.set.kind is Kind.NO_ENDPOINTS and one not in closed
    )
    return out


def refused(key: ServerKey) -> Entry:
    """What lets nobody new to the address and port of a virtual server."""
    return Entry(SetName(Kind.NO_ENDPOINTS, key.family), registered(key).element)


def _admit(out: Steps, key: ServerKey, owned: Ownership, *, is_closed: bool) -> None:
    """Let the sets say whose it is, and whether it takes nobody new."""
    if key.mark:
        return
    wanted = (refused(key), registered(key)) if is_closed else (registered(key),)
    missing = [one for one in wanted if one not in owned.held.entries]
    out.additions += [SetChange(SetVerb.ADD, one, PLAIN) for one in missing]


def _hand_over(out: Steps, key: ServerKey, held: HeldServer, itself: RealServer) -> None:
    """Let the node itself be the only real server of new connections, before the others stop.

    Schedulers that hash give some of them to nobody while others have weight 0.
    """
    plain = VirtualServer()
    if held.server != plain:
        out.commands.append(Owned(None, Command(Verb.SET_SERVER, key, server=plain)))
    if not held.weights.get(itself):
        verb = Verb.SET_REAL if itself in held.weights else Verb.NEW_REAL
        out.commands.append(Owned(None, Command(verb, key, real=itself)))


def _quiesce(
    out: Steps,
    key: ServerKey,
    busy: Iterable[tuple[RealServer, FoundReal]],
    found: Found,
    drain_seconds: int,
) -> None:
    for real, at in busy:
        deadline = entry(key, real)
        if at.weight or deadline.set not in found.sets:
            extra = Extra(timeout_seconds=drain_seconds)
            out.additions.append(SetChange(SetVerb.ADD, deadline, extra))
        if at.weight:
            command = Command(Verb.SET_REAL, key, real=real, weight=0)
            out.commands.append(Owned(None, command))


def _thin_out(
    out: Steps,
    key: ServerKey,
    held: HeldServer,
    busy: Collection[RealServer],
    itself: RealServer | None,
) -> None:
    """Remove the real servers that nobody would miss; the node itself drains no more."""
    kept = {entry(key, real) for real in busy}
    idle = [real for real in held.weights if real not in busy]
    gone = [real for real in idle if real != itself]
    out.commands += [Owned(None, Command(Verb.DELETE_REAL, key, real=real)) for real in gone]
    out.removals += _deletions(one for real in idle if (one := entry(key, real)) not in kept)


def _end(out: Steps, key: ServerKey, held: HeldServer) -> None:
    out.commands.append(Owned(None, Command(Verb.DELETE_SERVER, key)))
    out.removals += _deletions(dict.fromkeys(entry(key, real) for real in held.weights))
    if not key.mark:
        out.removals += _deletions((registered(key), refused(key)))


def _deletions(entries: Iterable[Entry]) -> list[SetChange]:
    return [SetChange(SetVerb.DELETE, one) for one in entries]
