"""What has to change in the rules that the kernel holds? Pure.

At start, after a refusal and for `verify`: what was found is held against what shall be there, and
only what differs is written. Rules of a stopped kube-proxy are taken over the same way: the chains
have the same names, and those of another mode are known by theirs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf

import msgspec

from endpoints.names import Family, ObjectName
from modes.base import Drift
from modes.xtables import chains, names, trials
from modes.xtables.compared import compared
from modes.xtables.delta import BULK, Changes, Gone, Placed, Program, Specs, Whole
from modes.xtables.names import Table
from modes.xtables.restore import Unreadable, parse
from modes.xtables.rules import DROP, OPAQUE, ChainName, Rule

Found = Mapping[ChainName, Sequence[str]]
"""Chains with the specs of their rules, as `script.read` gives them."""

Trial = frozenset[ObjectName] | None
"""The Services whose changes are written together; empty: the node's own; None: all of it."""

BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
_OF_A_SERVICE = re.compile(rf"({'|'.join(names.OF_A_SERVICE)})[A-Z2-7]{{16}}")
_TARGET = re.compile(r"(?:^| )-[jg] (\S+)")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
TAKES_ALL = frozenset({"ACCEPT", "RETURN", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP"})
"""Targets after which no rule of the chain sees a packet; who drops everything means it."""
_ENDS = re.compile(
    rf"(?:-m comment --comment \S+ )?(?:-g \S+|-j (?:{'|'.join(sorted(TAKES_ALL))})\b.*)"
)
_GUEST_TARGETS = (
    chains.SERVICES,
    chains.EXTERNAL_SERVICES,
    chains.NODEPORTS,
    chains.PROXY_FIREWALL,
    chains.FORWARD,
    chains.NAT_SERVICES,
    chains.POSTROUTING,
    chains.NODE_PORT,
    chains.IPVS_FILTER,
    chains.IPVS_OUT_FILTER,
    chains.LOCAL_POLICY,
    chains.LOCAL_POLICY_POST,
)
"""The chains, of any mode, that rules in built-in chains lead into."""
_FRAMES = frozenset(
    (
        *_GUEST_TARGETS,
        chains.EXTERNAL_NODEPORTS,
        chains.UNKNOWN_PORTS,
        chains.CLUSTER_IPS,
        chains.REFUSE,
        chains.ROUTE_LOCALNET_WAS_OFF,
        chains.NAT_NODEPORTS,
        chains.MARK_MASQ,
        chains.SOURCE_RANGES_FIREWALL,
        chains.NAT_NODE_PORT,
        chains.NAT_LOAD_BALANCER,
        *(ChainName(table, trials.CHAIN) for table in Table),
    )
)


def is_ours(chain: ChainName) -> bool:
    """Whether a chain is one that headgate or kube-proxy makes."""
    return chain in _FRAMES or _OF_A_SERVICE.fullmatch(chain.name) is not None


def holds_ours(found: Found) -> bool:
    """Whether there is anything of ours, or of kube-proxy's."""
    return any(map(is_ours, found))


def translates(found: Found) -> bool:
    """Whether the nat table leads to endpoints."""
    return any(chain.table is Table.NAT and _OF_A_SERVICE.fullmatch(chain.name) for chain in found)


def says_localnet_was_off(found: Found) -> bool:
    """Whether we allowed packets from localhost to leave this host, and nobody had before."""
    return chains.ROUTE_LOCALNET_WAS_OFF in found


def difference(program: Program, found: Found, bulk: float = BULK) -> Changes:
    """What turns the rules that were found into those of the program.

    A shared chain with more than `bulk` changes is written anew.
    """
    changes = Changes()
    wanted: set[ChainName] = set(program.frames)
    for name, written in program.fragments.items():
        wanted.update(written.chains)
        for chain, specs in written.chains.items():
            have = found.get(chain)
            if have is None:
                changes.new.append(Whole(name, chain, specs))
            elif not _same(have, specs, program.family):
                changes.rewritten.append(Whole(name, chain, specs))
    for whole in program.whole(program.frames):
        _frame(program, whole, found.get(whole.chain), changes, bulk)
    _guests(program, found, changes)
    stale = [chain for chain in found if is_ours(chain) and chain not in wanted]
    changes.gone += _gone(found, stale, _foreign_targets(found, changes))
    return changes


def part(program: Program, found: Found, trial: Trial, bulk: float = BULK) -> Changes:
    """The difference as far as a trial goes; a part may change more of a shared chain than all."""
    if trial is None:
        return difference(program, found, bulk)
    return difference(program, found, bulk=inf).part(trial)


def narrower(trial: Trial, suspects: Sequence[ObjectName]) -> list[Trial]:
    """What to try instead of a trial that was refused without a word on whose it was.

    The last comes first: the node's own, one half of the Services, the other; then all, which by
    then is what nothing refers to any more.
    """
    middle = len(suspects) // 2
    halves = [frozenset(suspects[:middle]), frozenset(suspects[middle:])]
    found = [half for half in halves if half]
    return [None, *found, frozenset()] if trial is None else [*found]


def removal(
    family: Family,
    found: Found,
    *,
    keeps_martian_rule: bool,
    kept: frozenset[ChainName] = frozenset(),
) -> Changes:
    """What removes everything of ours, and only that.

    A chain of ours that somebody else's rule refers to is emptied and stays. `keeps_martian_rule`:
    the kernel routes localhost still, or the kubelet wants the same rule. `kept`: chains that stay
    as they are, with what leads to them.
    """
    changes = Changes()
    ours = [chain for chain in found if is_ours(chain) and chain not in kept]
    changes.deleted += _for_ipvs(found) if kept else []
    martians = [] if keeps_martian_rule else _martians(family, found)
    targets = set(_GUEST_TARGETS) - kept
    if martians and len(martians) == len(found[chains.FIREWALL]):
        ours.append(chains.FIREWALL)
        targets.add(chains.FIREWALL)
    else:
        changes.deleted += [Placed(None, chains.FIREWALL, one) for one in martians]
    changes.deleted += jumps(family, found, targets)
    emptied = frozenset(ours) | kept
    removed = {(placed.chain, placed.spec) for placed in changes.deleted}
    referred_to = {
        ChainName(chain.table, target(one))
        for chain, specs in found.items()
        for one in specs
        if chain not in emptied and (chain, one) not in removed
    }
    changes.gone = _gone(found, ours, referred_to)
    return changes


def masquerades_for_others(found: Found) -> frozenset[ChainName]:
    """The chains that mark packets and masquerade those, if a chain of others leads to the mark."""
    if not found.get(chains.MARK_MASQ):
        return frozenset()
    is_used = any(
        chain.table is Table.NAT and target(one) == chains.MARK_MASQ.name
        for chain, specs in found.items()
        if not is_ours(chain)
        for one in specs
    )
    return frozenset({chains.MARK_MASQ, chains.POSTROUTING}) if is_used else frozenset()


def _for_ipvs(found: Found) -> list[Placed]:
    """Rules of kube-proxy's IPVS mode in KUBE-POSTROUTING, which keep its sets from going."""
    chain = chains.POSTROUTING
    return [Placed(None, chain, one) for one in found.get(chain, ()) if "--match-set" in one]


def _martians(family: Family, found: Found) -> list[str]:
    """Our rule, or the kubelet's, that keeps others from localhost."""
    wanted = chains.martian_rule(chains.LOOPBACK[family], "")
    return [one for one in found.get(chains.FIREWALL, ()) if _plain(family, one) == wanted]


def jumps(family: Family, found: Found, targets: Collection[ChainName]) -> list[Placed]:
    """The rules of built-in chains that do nothing but lead new packets into these chains."""
    return [
        Placed(None, chain, one)
        for chain, specs in found.items()
        if chain.name in BUILT_IN
        for one in specs
        if _is_jump(family, chain, one, targets)
    ]


def _is_jump(family: Family, chain: ChainName, spec: str, targets: Collection[ChainName]) -> bool:
    """Whether a rule does nothing but lead new packets into a proxy's chain, as ours do.

    An administrator's, for packets of an interface or an address, is no such rule.
    """
    if ChainName(chain.table, target(spec)) not in targets:
        return False
    rule = _plain(family, spec)
    return rule is not None and rule == Rule(rule.target, ct_state=rule.ct_state)


def _plain(family: Family, spec: str) -> Rule | None:
    """A rule without its comment, if it can be read."""
    try:
        return msgspec.structs.replace(parse(spec, family), comment="")
    except Unreadable:
        return None


def drift(changes: Changes, found: Found) -> Drift:
    """The same difference in words, a rule each: `IPv4 nat -A KUBE-SERVICES -d …`."""
    missing, extra, reordered = compared(changes, found)
    return Drift(
        tuple(sorted(f"{of.chain.table} -A {of.chain.name} {of.spec}" for of in missing)),
        tuple(sorted(f"{of.chain.table} -A {of.chain.name} {of.spec}" for of in extra)),
        tuple(sorted(f"{chain}: its rules stand in another order" for chain in reordered)),
    )


def _same(have: Sequence[str], want: Specs, family: Family) -> bool:
    """Whether two chains do the same; spelled differently where another program wrote one."""
    if len(have) != len(want):
        return False
    return all(a == b or _equal(a, b, family) for a, b in zip(have, want, strict=True))


def _equal(one: str, other: str, family: Family) -> bool:
    try:
        return one == other or parse(one, family) == parse(other, family)
    except Unreadable:
        return False


def _frame(
    program: Program, whole: Whole, have: Sequence[str] | None, changes: Changes, bulk: float
) -> None:
    """One chain of the skeleton; in a shared one, the rules of Services stand in any order."""
    if have is None:
        changes.new.append(whole)
        return
    if _same(have, whole.specs, program.family):
        return
    frame, tail = program.frames[whole.chain], program.frames[whole.chain].tail
    first, last = len(frame.head), len(have) - len(tail)
    is_framed = (
        frame.is_shared
        and first <= last
        and _same(have[:first], frame.head, program.family)
        and _same(have[last:], tail, program.family)
    )
    if not is_framed:
        changes.rewritten.append(whole)
        return
    owners: dict[str, list[int]] = {}
    end = len(whole.specs) - len(tail)
    for number in range(first, end):
        owners.setdefault(whole.specs[number], []).append(number)
    extra = []
    for one in have[first:last]:
        if owners.get(one):
            owners[one].pop()
        else:
            extra.append(one)
    missing = [number for of in owners.values() for number in of]
    if len(extra) + len(missing) > bulk or not all(map(_is_deletable, extra)):
        changes.rewritten.append(whole)
        return
    changes.added += [Placed(whole.owners[n], whole.chain, whole.specs[n]) for n in missing]
    changes.deleted += [Placed(None, whole.chain, one) for one in extra]


def _is_deletable(spec: str) -> bool:
    """Whether a rule can be named in a text of lines: not what spans some, nor one of nft."""
    return spec.isprintable() and not spec.startswith(OPAQUE)


def _guests(program: Program, found: Found, changes: Changes) -> None:
    """Our rules in chains that are not ours: each once, and none that is not wanted."""
    wanted: dict[ChainName, list[str]] = {}
    for chain, one in program.guests:
        wanted.setdefault(chain, []).append(one)
    targets = {ChainName(chain.table, target(one)) for chain, one in program.guests}
    for chain, specs in wanted.items():
        have = found.get(chain)
        if have is None and chain.name not in BUILT_IN:
            changes.new.append(Whole(None, chain, ()))
        rest = list(have or ())
        matches: list[str] = []
        for one in specs:
            match = next((h for h in rest if _is_there(h, one, program.family)), None)
            if match is None:
                changes.guests.append(Placed(None, chain, one))
            else:
                rest.remove(match)
                matches.append(match)
        if chain.name in BUILT_IN and _are_behind(have or (), matches, rest):
            changes.guests = [placed for placed in changes.guests if placed.chain != chain]
            changes.guests += [Placed(None, chain, one) for one in specs]
            changes.deleted += [Placed(None, chain, one) for one in matches]
        if chain.name in BUILT_IN:
            unwanted = [one for one in rest if _is_jump(program.family, chain, one, targets)]
            changes.deleted += [Placed(None, chain, one) for one in unwanted]
    another_modes = {chain for chain in _GUEST_TARGETS if chain not in program.frames}
    changes.deleted += jumps(program.family, found, another_modes)


def _is_there(have: str, wanted: str, family: Family) -> bool:
    """Whether a rule is the wanted one; of what iptables cannot say, one that drops may be it."""
    return _equal(have, wanted, family) or (
        have == f"{OPAQUE} -j {DROP}" and target(wanted) == DROP
    )


def _are_behind(have: Sequence[str], ours: Collection[str], others: Collection[str]) -> bool:
    """Whether a rule of others keeps packets from one of ours.

    Only one that lets all of them pass, or translates them, whatever they are: what asks for more
    is an exception that somebody wants.
    """
    ended = next((n for n, one in enumerate(have) if one in others and ends(one)), len(have))
    return any(one in ours for one in have[ended:])


def ends(spec: str) -> bool:
    """Whether a rule takes all packets, and does not drop them."""
    return _ENDS.fullmatch(_unquoted(spec)) is not None


def _gone(found: Found, stale: Iterable[ChainName], referred_to: set[ChainName]) -> list[Gone]:
    """What is to be done about stale chains; one that others need and that is empty stays so."""
    return [
        Gone(None, chain, chain in referred_to)
        for chain in stale
        if found[chain] or chain not in referred_to
    ]


def _foreign_targets(found: Found, changes: Changes) -> set[ChainName]:
    """The chains that rules of others jump to, once the changes are made."""
    deleted = {(placed.chain, placed.spec) for placed in changes.deleted}
    return {
        ChainName(chain.table, target(one))
        for chain, specs in found.items()
        if not is_ours(chain)
        for one in specs
        if (chain, one) not in deleted
    }


def target(spec: str) -> str:
    """The chain that a rule jumps to, or its other target; what is quoted is only text."""
    match = _TARGET.search(_unquoted(spec))
    return match[1] if match else ""


def _unquoted(spec: str) -> str:
    return _QUOTED.sub('""', spec) if '"' in spec else spec
