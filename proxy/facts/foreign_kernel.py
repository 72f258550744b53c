"""Which rules of others does this machine hold, in nf_tables and in either kind of iptables?

With `foreign_sets` the only file of foreign rules that touches the machine; all of it concerns the
network namespace of the calling thread. Nothing is written, and nothing is made by looking: a table
of iptables-legacy is read only if it is there. Of sets only those with few elements are read.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from errno import EINTR, ENOENT, EPERM
from typing import NamedTuple

from endpoints.names import Family
from modes.base import EnvironmentFault, KernelFault, NotPermitted
from modes.nftables import netlink as nl
from modes.nftables.skeleton import TABLE
from modes.wire import (
    NLM_F_DUMP,
    NLMSG_DONE,
    NLMSG_ERROR,
    OPENING_SIZE,
    Reply,
    attributes,
    replies,
    words,
)
from modes.xtables import opaque
from modes.xtables.kernel import installed
from modes.xtables.names import REFUSE
from modes.xtables.variant import Variant
from modes.xtables.witness import legacy_tables
from proxy.facts import foreign_iptables, foreign_nft
from proxy.facts.foreign import (
    KUBE_PROXY,
    OF_KUBERNETES,
    PRIORITIES,
    ForeignChain,
    ForeignChains,
    ForeignRule,
    Kind,
)
from proxy.facts.foreign_nft import Dumped
from proxy.facts.foreign_sets import DATAGRAM, Sets, opened

_UNPRIVILEGED = "nf_tables does not answer us: CAP_NET_ADMIN is missing (run as root)"
_ATTEMPTS = 20
_FAMILIES = {1: "inet", 2: "ip", 5: "netdev", 10: "ip6"}
"""NFPROTO_*; a packet to a Service does not meet arp and bridge."""
_IP = {Family.IPV4: "ip", Family.IPV6: "ip6"}
_FAMILY_OF = {name: family for family, name in _IP.items()}
_HOOKS = {0: "prerouting", 1: "input", 2: "forward", 3: "output", 4: "postrouting", 5: "ingress"}
_TABLE_HANDLE, _CHAIN_HANDLE = 4, 2
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_BUILT_IN = frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"))


class _Table(NamedTuple):
    """A table of nf_tables."""

    protocol: int
    name: str
    age: int

    @property
    def family(self) -> str:
        """`ip`, `inet`…"""
        return _FAMILIES[self.protocol]


def foreign_rules() -> ForeignChains:
    """Chains of others with the rules that decide something, and of ours what leads to Services.

    Raises NotPermitted without CAP_NET_ADMIN, EnvironmentFault and KernelFault as the modes do.
    """
    return (*_of_nf_tables(), *_of_legacy())


def _of_legacy() -> Iterator[ForeignChain]:
    for family in Family:
        tables = legacy_tables(family)
        if not tables:
            continue
        saved = "".join(_save(family, Variant.LEGACY, table) for table in tables)
        yield from foreign_iptables.chains(f"iptables-{Variant.LEGACY}", _IP[family], saved)


def _save(family: Family, variant: Variant, table: str) -> str:
    """What iptables-save prints of a table that exists; empty where it is not installed."""
    programs = installed(family, variant)
    if programs is None:
        return ""
    done = _run([programs.save, "-t", table])
    if done.returncode:
        raise EnvironmentFault(f"{programs.save} fails: {done.stderr.strip()}")
    return done.stdout


def _said(family: Family, table: str, chains: list[str]) -> dict[str, list[str]]:
    """The rules of these chains of iptables-nft, as it prints them; none of what it cannot say.

    The rest of the table is not read: it may hold all Services of a cluster.
    """
    programs = installed(family, Variant.NFT)
    printed = ""
    while chains and programs:
        done = _run([programs.restore, "--noflush"], opaque.question(table, chains))
        printed += done.stdout
        chains = opaque.unanswered(chains, done.stdout)[1:]
    return foreign_iptables.by_chain(printed)


def _run(command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )


def _of_nf_tables() -> Iterator[ForeignChain]:
    try:
        netfilter = _Netfilter()
    except OSError:  # a kernel without nfnetlink has no rules there
        return
    with netfilter.socket:
        tables = netfilter.tables()
        found = netfilter.chains()
        chains = {table: found.get((table.protocol, table.name), {}) for table in tables}
        for table in tables:
            if table.name == TABLE and table.family in _IP.values():
                yield from _ours(table, chains[table])
            elif _is_of_iptables(table, chains[table]):
                filtering = table._replace(name="filter")
                others = next((t for t in tables if t[:2] == filtering[:2]), None)
                is_ours = others is not None and REFUSE in chains[others]
                yield from _of_iptables(netfilter, table, chains[table], is_ours=is_ours)
            else:
                sets = netfilter.sets(table)
                for name, rules in netfilter.rules(table, chains[table]).items():
                    made = [one for r in rules for one in foreign_nft.rules(table.family, r, sets)]
                    if table.name == KUBE_PROXY:
                        made = [foreign_nft.of_kube_proxy(one) for one in made]
                    yield _chain("nft", table, name, chains[table][name], made)


def _ours(table: _Table, chains: Mapping[str, bytes]) -> Iterator[ForeignChain]:
    """Where our own table translates."""
    for name, chain in chains.items():
        told = _chain("nft", table, name, chain, [])
        if told.type == "nat" and told.hook in ("prerouting", "output"):
            serves = ForeignRule(Kind.OURS, "headgate serves Services")
            yield _chain("nft", table, name, chain, [serves])


def _is_of_iptables(table: _Table, chains: Mapping[str, bytes]) -> bool:
    return (
        table.family in _IP.values()
        and table.name in PRIORITIES
        and any(name in _BUILT_IN for name in chains)
    )


def _of_iptables(
    netfilter: _Netfilter, table: _Table, chains: Mapping[str, bytes], *, is_ours: bool
) -> Iterator[ForeignChain]:
    """A table of iptables-nft: its extensions are read as its program prints them."""
    prefix = OF_KUBERNETES if is_ours else ""
    wanted = {n: c for n, c in chains.items() if not prefix or not n.startswith(prefix)}
    by_chain = netfilter.rules(table, wanted)
    extended = [
        name
        for name, rules in by_chain.items()
        if any(foreign_nft.is_of_iptables(rule.expressions) for rule in rules)
    ]
    printed = _said(_FAMILY_OF[table.family], table.name, extended)
    sets = netfilter.sets(table)
    for name, rules in by_chain.items():
        lines = printed.get(name, [])
        made = _rules_of_iptables(table, rules, lines, sets)
        chain = _chain(f"iptables-{Variant.NFT}", table, name, wanted[name], made)
        yield foreign_iptables.of_ours(chain) if is_ours else chain


def _rules_of_iptables(
    table: _Table, rules: Sequence[Dumped], lines: Sequence[str], sets: Sets
) -> Iterator[ForeignRule]:
    """`lines`: those of its program, one for each rule; or fewer, where it could not say all."""
    is_said = len(lines) == len(rules)
    for number, rule in enumerate(rules, 1):
        if is_said and foreign_nft.is_of_iptables(rule.expressions):
            if found := foreign_iptables.rule(lines[number - 1], number):
                yield found
        else:
            yield from (
                ForeignRule(one.kind, one.text, number, one.conditions, one.opaque, one.to)
                for one in foreign_nft.rules(table.family, rule, sets)
            )


def _chain(
    tool: str,
    table: _Table,
    name: str,
    told: bytes,
    rules: Iterator[ForeignRule] | list[ForeignRule],
) -> ForeignChain:
    parts = dict(attributes(told))
    hook = parts.get(nl.NFTA_CHAIN_HOOK)
    chain = ForeignChain(tool, table.family, table.name, name, tuple(rules))
    if hook is None:
        return chain
    of = dict(attributes(hook))
    number = int.from_bytes(of.get(_HOOK_NUMBER, b""), "big")
    return ForeignChain(
        tool,
        table.family,
        table.name,
        name,
        chain.rules,
        type=words(parts.get(nl.NFTA_CHAIN_TYPE, b"")),
        hook="ingress" if table.family == "netdev" else _HOOKS.get(number, ""),
        priority=int.from_bytes(of.get(_HOOK_PRIORITY, b""), "big", signed=True),
        drops=parts.get(nl.NFTA_CHAIN_POLICY) == bytes(4),
        age=table.age,
        device=foreign_nft.device(hook),
    )


class _Netfilter:
    """Asks nf_tables. Raises OSError where there is no nfnetlink."""

    def __init__(self) -> None:
        self.socket = opened()
        self._sequence = 0

    def tables(self) -> list[_Table]:
        found = []
        for protocol, answer in self._dump(nl.GETTABLE, 0):
            told = dict(attributes(answer))
            age = int.from_bytes(told.get(_TABLE_HANDLE, b""), "big")
            if protocol in _FAMILIES:
                found.append(_Table(protocol, words(told.get(nl.NFTA_TABLE_NAME, b"")), age))
        return found

    def chains(self) -> dict[tuple[int, str], dict[str, bytes]]:
        """The attributes of the chains of each table, by its protocol and name."""
        found: dict[tuple[int, str], dict[str, bytes]] = {}
        for protocol, answer in self._dump(nl.GETCHAIN, 0):
            told = dict(attributes(answer))
            table = words(told.get(nl.NFTA_CHAIN_TABLE, b""))
            name = words(told.get(nl.NFTA_CHAIN_NAME, b""))
            found.setdefault((protocol, table), {})[name] = answer
        return found

    def rules(self, table: _Table, chains: Mapping[str, bytes]) -> dict[str, list[Dumped]]:
        """The rules of these chains of a table."""
        found: dict[str, list[Dumped]] = {name: [] for name in chains}
        wanted = nl.text(nl.NFTA_RULE_TABLE, table.name)
        for chain in chains:
            body = wanted + nl.text(nl.NFTA_RULE_CHAIN, chain)
            for _, answer in self._dump(nl.GETRULE, table.protocol, body):
                found[chain].append(foreign_nft.dumped(answer))
        return found

    def sets(self, table: _Table) -> Sets:
        """The sets of a table; their elements are read when they are asked for."""
        flags = {}
        for _, answer in self._dump(
            nl.GETSET, table.protocol, nl.text(nl.NFTA_SET_TABLE, table.name)
        ):
            told = dict(attributes(answer))
            name = words(told.get(nl.NFTA_SET_NAME, b""))
            flags[name] = int.from_bytes(told.get(nl.NFTA_SET_FLAGS, b""), "big")
        return Sets(table.protocol, table.name, flags)

    def _dump(self, kind: int, protocol: int, body: bytes = b"") -> list[tuple[int, bytes]]:
        """The protocol and the attributes of each; none of what does not exist."""
        for _ in range(_ATTEMPTS):
            answers = self._request(kind, protocol, body)
            if any(answer.error == EPERM for answer in answers):
                raise NotPermitted(_UNPRIVILEGED)
            if not any(answer.interrupted or answer.error == EINTR for answer in answers):
                break
        else:
            raise KernelFault("the ruleset changes too fast to be read")
        refused = next((a.error for a in answers if a.error not in (0, ENOENT)), 0)
        if refused and kind != nl.GETTABLE:
            raise KernelFault(f"the ruleset cannot be read: {os.strerror(refused)}")
        return [
            (answer.payload[0], answer.payload[OPENING_SIZE:])
            for answer in answers
            if answer.kind not in (NLMSG_DONE, NLMSG_ERROR)
        ]

    def _request(self, kind: int, protocol: int, body: bytes) -> list[Reply]:
        self._sequence += 1
        self.socket.sendall(nl.nft_message(kind, NLM_F_DUMP, protocol, self._sequence, body))
        answers: list[Reply] = []
        while True:
            for answer in replies(self.socket.recv(DATAGRAM), opening=0):
                if answer.sequence != self._sequence:
                    continue
                answers.append(answer)
                if answer.kind in (NLMSG_ERROR, NLMSG_DONE):
                    return answers
