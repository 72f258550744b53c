"""What is in chains of nf_tables that iptables has no words for? Pure.

One rule of nft in a chain keeps `iptables-nft-save` from the whole table. All chains without such
rules can be asked for by name; of the others the kernel's own answers are read: our jumps are known
by their expressions, and of the rest it is told where it leads.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from endpoints.names import Family
from modes.wire import attributes, words
from modes.xtables.adopt import BUILT_IN, TAKES_ALL, ends, target
from modes.xtables.restore import spec
from modes.xtables.rules import ACCEPT, DROP, OPAQUE, RETURN, Rule
from modes.xtables.script import lines

_OF_KUBERNETES = "KUBE-"
_CHAIN, _EXPRESSIONS = 2, 4  # NFTA_RULE_*
_NAME, _BODY = 1, 2  # NFTA_EXPR_*; a match and a target have their names in 1 too
_MATCH_INFO = 3
_IMMEDIATE_DATA, _VERDICT = 2, 2
_CODE, _VERDICT_CHAIN = 1, 2
_GOTO, _JUMP = -4, -3
_VERDICTS = {1: ACCEPT, 0: DROP, -5: RETURN}
_CONNTRACK = struct.Struct("=146xHHH")
"""In `struct xt_conntrack_mtinfo3`: what is matched, what inverted, the states."""
_COUNTED = re.compile(r"(-A .*) -c (\d+) (\d+)((?: -[jg] .*)?)", re.DOTALL)
"""A rule as `iptables -S -v` prints it: counters come before what is done."""
_STATE, _IS_NEW = 1, 1 << 3
_NEW = spec(Rule(ct_state=("NEW",)), Family.IPV4)


class Expressions(NamedTuple):
    """What of a rule of nf_tables can be said."""

    target: str = ""
    """A chain, a verdict, or an extension of iptables."""
    goto: bool = False
    is_extension: bool = False
    """The target is one of iptables' own."""
    said: tuple[str, ...] = ()
    """Its comment, and that it asks for new packets, in their order."""
    asks: bool = False
    """It asks for anything else."""


def expressions(rule: bytes) -> Expressions:
    """What the attributes of a rule say, as nf_tables dumps it."""
    found = Expressions()
    for _, element in attributes(dict(attributes(rule)).get(_EXPRESSIONS, b"")):
        told = dict(attributes(element))
        found = _with(found, words(told.get(_NAME, b"")), dict(attributes(told.get(_BODY, b""))))
    return found


def _with(found: Expressions, kind: str, body: Mapping[int, bytes]) -> Expressions:
    name = words(body.get(_NAME, b""))
    match kind, name:
        case "counter", _:
            pass
        case "immediate", _:
            data = dict(attributes(body.get(_IMMEDIATE_DATA, b"")))
            found = _verdict(found, data.get(_VERDICT, b""))
        case "target", _:
            found = found._replace(target=name, is_extension=True)
        case "masq", _:
            found = found._replace(target="MASQUERADE", is_extension=True)
        case "match", "comment":
            comment = body.get(_MATCH_INFO, b"").partition(b"\0")[0]
            found = _commented(found, comment.decode(errors="replace"))
        case "match", "conntrack" if _asks_for_new(body.get(_MATCH_INFO, b"")):
            found = found._replace(said=(*found.said, _NEW))
        case _:
            found = found._replace(asks=True)
    return found


def _commented(found: Expressions, comment: str) -> Expressions:
    return found._replace(said=(*found.said, spec(Rule(comment=comment), Family.IPV4)))


def _verdict(found: Expressions, verdict: bytes) -> Expressions:
    told = dict(attributes(verdict))
    code = int.from_bytes(told.get(_CODE, b""), "big", signed=True)
    if code in (_JUMP, _GOTO):
        return found._replace(target=words(told.get(_VERDICT_CHAIN, b"")), goto=code == _GOTO)
    return found._replace(target=_VERDICTS.get(code, ""), asks=found.asks or code not in _VERDICTS)


def _asks_for_new(info: bytes) -> bool:
    if len(info) < _CONNTRACK.size:
        return False
    if _CONNTRACK.unpack_from(info) != (_STATE, 0, _IS_NEW):
        return False
    return not any(info[:146]) and not any(info[_CONNTRACK.size :])


def spelled(rule: bytes) -> str:
    """A spec: that of a plain jump, or OPAQUE with the place where the rule leads."""
    found = expressions(rule)
    words_of = [f"{'-g' if found.goto else '-j'} {found.target}"] if found.target else []
    if found.target and not (found.asks or found.is_extension):
        return " ".join([*found.said, *words_of])
    return " ".join([OPAQUE, *words_of])


def takes_all(rule: bytes) -> bool:
    """Whether a rule takes all packets, and does not drop them."""
    found = expressions(rule)
    is_plain = not (found.asks or _NEW in found.said)
    return is_plain and (found.goto or found.target in TAKES_ALL)


def is_incompatible(table: str, printed: str) -> bool:
    """Whether iptables-nft-save could not say all of a table, by what it printed instead."""
    return f"# Table `{table}' is incompatible" in printed


def seeming_ends(printed: str) -> list[str]:
    """The built-in chains in which rules seem to take all packets, for iptables-save says so."""
    found = {}
    for line in lines(printed):
        counted, appends, text = line.partition("-A ")
        chain, _, rule = text.partition(" ")
        if appends and counted[:1] in ("", "[") and chain in BUILT_IN and ends(rule):
            found[chain] = True
    return list(found)


def corrected(printed: str, rules: Mapping[str, Sequence[bytes]]) -> str:
    """What iptables-save said of a table, but for rules of nft whose conditions it left out.

    It does so with the sets of nft (1.8.9): `ip saddr { … } accept` becomes `-j ACCEPT`. `rules`:
    those of some chains, as nf_tables dumps them.
    """
    seen = dict.fromkeys(rules, 0)
    out = []
    for line in lines(printed):
        chain, _, rule = line.removeprefix("-A ").partition(" ")
        if line.startswith("-A ") and chain in rules:
            at, seen[chain] = seen[chain], seen[chain] + 1
            raw = rules[chain][at] if at < len(rules[chain]) else b""
            if ends(rule) and not takes_all(raw):
                line = f"-A {chain} {OPAQUE} -j {target(rule)}"  # noqa: PLW2901 (said rightly)
        out.append(line)
    return "\n".join(out)


def is_asked_for(chain: str) -> bool:
    """Whether it matters what is in a chain: ours, the kubelet's, and those that lead to them."""
    return chain in BUILT_IN or chain.startswith(_OF_KUBERNETES)


def question(table: str, chains: Iterable[str], *, counted: bool = False) -> str:
    """Input for iptables-restore that only prints chains, up to the first that it cannot say."""
    verbose = " -v" if counted else ""
    return "\n".join([f"*{table}", *(f"-S {chain}{verbose}" for chain in chains), "COMMIT", ""])


def counted(table: str, printed: str) -> str:
    """What was printed with counters, as `iptables-save -c` prints it."""
    out = [f"*{table}"]
    for line in lines(printed):
        if line.startswith(("-N ", "-P ")):
            out.append(f":{line.split()[1]} - [0:0]")
        elif found := _COUNTED.fullmatch(line):
            rule, packets, octets, to = found.groups()
            out.append(f"[{packets}:{octets}] {rule}{to}")
    return "\n".join([*out, "COMMIT", ""])


def unanswered(chains: Sequence[str], output: str) -> list[str]:
    """The chains that were asked for and not printed, in their order."""
    told = {line.split()[1] for line in output.split("\n") if line.startswith(("-N ", "-P "))}
    return [chain for chain in chains if chain not in told]


def saved(table: str, printed: str, rules: Mapping[str, Sequence[bytes]], read: set[str]) -> str:
    """The whole table in the words of iptables-save.

    `printed`: the chains that could be `read`; `rules`: all chains as nf_tables has them.
    """
    heads = [f":{chain} - [0:0]" for chain in rules]
    known = [line for line in lines(printed) if line.startswith("-A ")]
    others = [
        f"-A {chain} {spelled(rule)}"
        for chain, of in rules.items()
        if chain not in read
        for rule in of
    ]
    return "\n".join([f"*{table}", *heads, *known, *others, "COMMIT", ""])
