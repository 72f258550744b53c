"""Which rules that decide something does `iptables-save` print? Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from modes.xtables.names import REFUSE
from modes.xtables.script import lines
from proxy.facts.foreign import (
    OF_KUBERNETES,
    PRIORITIES,
    SOURCE_NAT_PRIORITY,
    Condition,
    Field,
    ForeignChain,
    ForeignRule,
    Kind,
)

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_KINDS = {
    "ACCEPT": Kind.ACCEPT,
    "DNAT": Kind.DNAT,
    "DROP": Kind.DROP,
    "MASQUERADE": Kind.MASQUERADE,
    "NETMAP": Kind.DNAT,
    "NFQUEUE": Kind.UNKNOWN,
    "NOTRACK": Kind.NOTRACK,
    "QUEUE": Kind.UNKNOWN,
    "REDIRECT": Kind.REDIRECT,
    "REJECT": Kind.REJECT,
    "RETURN": Kind.RETURN,
    "SNAT": Kind.SNAT,
    "SYNPROXY": Kind.UNKNOWN,
    "TPROXY": Kind.TPROXY,
}
"""Targets that end a chain; `CT --notrack` is NOTRACK too."""
_GOES_ON = frozenset(
    (
        "AUDIT",
        "CHECKSUM",
        "CLASSIFY",
        "CONNMARK",
        "CONNSECMARK",
        "CT",
        "DSCP",
        "ECN",
        "HL",
        "HMARK",
        "IDLETIMER",
        "LED",
        "LOG",
        "MARK",
        "NFLOG",
        "RATEEST",
        "SECMARK",
        "SET",
        "TCPMSS",
        "TCPOPTSTRIP",
        "TEE",
        "TOS",
        "TRACE",
        "TTL",
        "ULOG",
    )
)
"""Targets that note, mark or change something else, and let the packet go on."""
_FIELDS = {
    "-s": Field.SOURCE,
    "-d": Field.DESTINATION,
    "--src-range": Field.SOURCE,
    "--dst-range": Field.DESTINATION,
    "-p": Field.PROTOCOL,
    "--sport": Field.SOURCE_PORT,
    "--sports": Field.SOURCE_PORT,
    "--dport": Field.DESTINATION_PORT,
    "--dports": Field.DESTINATION_PORT,
    "-i": Field.IN_INTERFACE,
    "-o": Field.OUT_INTERFACE,
    "--ctstate": Field.STATE,
    "--state": Field.STATE,
    "--src-type": Field.SOURCE_TYPE,
    "--dst-type": Field.DESTINATION_TYPE,
}
_PORTS = (Field.SOURCE_PORT, Field.DESTINATION_PORT)
_INTERFACES = (Field.IN_INTERFACE, Field.OUT_INTERFACE)
_WHERE_TO = {"--to-destination", "--to-ports", "--to-source", "--to", "--on-port"}
_HOOKS = {
    "PREROUTING": "prerouting",
    "INPUT": "input",
    "FORWARD": "forward",
    "OUTPUT": "output",
    "POSTROUTING": "postrouting",
}


def chains(tool: str, family: str, saved: str) -> Iterator[ForeignChain]:
    """The chains of all tables in an output of iptables-save (`family`: `ip` or `ip6`).

    Of headgate's own, if they are there, what leads to them.
    """
    if not is_ours(saved):
        yield from _read(tool, family, saved, "")
        return
    for chain in _read(tool, family, saved, OF_KUBERNETES):
        yield of_ours(chain)


def is_ours(saved: str) -> bool:
    """Whether headgate's own chains are in table filter; then all of Kubernetes' are."""
    return f"\n:{REFUSE} " in saved


def _read(tool: str, family: str, saved: str, leave_out: str) -> Iterator[ForeignChain]:
    """`leave_out`: how the names of chains begin that are not looked at; empty: none."""
    table = ""
    policies: dict[str, str] = {}
    rules: dict[str, list[ForeignRule]] = {}
    counts: dict[str, int] = {}
    for line in lines(saved):
        if line.startswith("*"):
            table, policies, rules, counts = line[1:], {}, {}, {}
        elif line.startswith(":"):
            name, policy = line[1:].split(" ")[:2]
            if not leave_out or not name.startswith(leave_out):
                policies[name], rules[name], counts[name] = policy, [], 0
        elif line.startswith("-A "):
            name = line[3:].partition(" ")[0]
            if name in rules:
                counts[name] += 1
                if found := rule(line, counts[name]):
                    rules[name].append(found)
        elif line == "COMMIT":
            for name, policy in policies.items():
                yield _chain(tool, family, table, name, tuple(rules[name]), policy)


def _chain(
    tool: str, family: str, table: str, name: str, rules: tuple[ForeignRule, ...], policy: str
) -> ForeignChain:
    if policy == "-":
        return ForeignChain(tool, family, table, name, rules)
    hook = _HOOKS.get(name, "")
    priority = PRIORITIES.get(table, 0)
    if table == "nat" and hook in ("input", "postrouting"):
        priority = SOURCE_NAT_PRIORITY
    return ForeignChain(
        tool,
        family,
        table,
        name,
        rules,
        type="nat" if table == "nat" else "filter",
        hook=hook,
        priority=priority,
        drops=policy == "DROP",
    )


def by_chain(printed: str) -> dict[str, list[str]]:
    """The lines of the rules of one table, by their chains."""
    found: dict[str, list[str]] = {}
    for line in lines(printed):
        if line.startswith("-A "):
            found.setdefault(line[3:].partition(" ")[0], []).append(line)
    return found


def rule(line: str, number: int) -> ForeignRule | None:
    """What a line `-A CHAIN …` says; None if it decides nothing."""
    draft = _Draft()
    if '"' in line:
        words = [quoted or bare for quoted, bare in _WORD.findall(line)]
    else:
        words = line.split()
    draft.read(words[2:])
    return draft.rule(line, number)


class _Draft:
    """A rule while its words are read."""

    def __init__(self) -> None:
        self.conditions: list[Condition] = []
        self.opaque = False
        self.target = ""
        self.is_goto = False
        self.to = ""
        self.is_notrack = False
        self._is_comment = False

    def read(self, words: list[str]) -> None:
        """Words of options; each option's values reach up to the next word with a dash or `!`."""
        at, end = 0, len(words)
        while at < end:
            negated = words[at] == "!"
            at += negated
            option = words[at] if at < end else ""
            stop = at + 1
            while stop < end and words[stop] != "!" and words[stop][:1] != "-":
                stop += 1
            if option == "--comment":  # one word, whatever it begins with
                stop = min(at + 2, end)
            self._take(option, words[at + 1 : stop], negated=negated)
            at = stop

    def _take(self, option: str, values: list[str], *, negated: bool) -> None:
        if option in ("-j", "-g"):
            self.target, self.is_goto = values[0] if values else "", option == "-g"
        elif self.target:
            self._of_target(option, values)
        elif option in ("-m", "--comment"):
            pass
        elif option in _FIELDS and len(values) == 1:
            self._condition(_FIELDS[option], values[0], negated=negated)
        else:
            self.opaque = True

    def _of_target(self, option: str, values: list[str]) -> None:
        if option == "--notrack":
            self.is_notrack = True
        elif option in _WHERE_TO and values:
            self.to = values[0]

    def _condition(self, field: Field, value: str, *, negated: bool) -> None:
        values = value.split(",")
        if field in _PORTS:
            values = [one.replace(":", "-") for one in values]
        elif field in _INTERFACES:
            values = [one[:-1] + "*" if one.endswith("+") else one for one in values]
        elif field is Field.PROTOCOL and value in ("all", "0"):
            return
        self.conditions.append(Condition(field, tuple(values), negated))

    def rule(self, line: str, number: int) -> ForeignRule | None:
        """What was read, unless it decides nothing."""
        kind = Kind.NOTRACK if self.is_notrack else _KINDS.get(self.target)
        to = self.to
        if kind is None:
            if not self.target or self.target in _GOES_ON:
                return None
            kind, to = Kind.GOTO if self.is_goto else Kind.JUMP, self.target
        return ForeignRule(kind, line, number, tuple(self.conditions), self.opaque, to)


def of_ours(chain: ForeignChain) -> ForeignChain:
    """The chain, with its jumps to chains of Kubernetes told as ours."""
    rules = tuple(
        msgspec.structs.replace(one, kind=Kind.OURS)
        if one.kind in (Kind.JUMP, Kind.GOTO) and one.to.startswith(OF_KUBERNETES)
        else one
        for one in chain.rules
    )
    return msgspec.structs.replace(chain, rules=rules)
