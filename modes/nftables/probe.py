"""What can this kernel do of what the nftables mode needs?

Asked by transactions that are never committed: the kernel checks every message, loads the modules
that it needs, and forgets them all.
"""

from __future__ import annotations

from typing import NamedTuple

from endpoints.names import Family
from modes.base import EnvironmentFault, Feature
from modes.nftables import codec
from modes.nftables import netlink as nl
from modes.nftables.kernel import Kernel
from modes.nftables.sets import set_specs
from modes.nftables.skeleton import Chain, Layout, Shape

_TABLE = "headgate-probe"
_MODE = "nftables mode"


class _Question(NamedTuple):
    """A feature, and the chain of ours that cannot be made without it."""

    feature: str
    chain: str
    needed_for: str
    hint: str


_QUESTIONS = (
    _Question("numgen in concatenated keys", "pick-2", "choosing endpoints", "module nft_numgen"),
    _Question("reject with tcp reset", "no-endpoints", "refusing", "module nft_reject_ipv4"),
    _Question("masquerade fully-random", "masq", "replies to the node", "module nft_masq"),
    _Question("fib address type", "post-extlocal", "externalTrafficPolicy", "module nft_fib_ipv4"),
    _Question("dynamic maps", "learn-60", "session affinity", "kernel 5.13"),
    _Question("flow's original address", "output", "NodePorts", "module nft_ct"),
)


def probe() -> tuple[Feature, ...]:
    """The features, in the order of their weight; all `unknown` where we may not ask."""
    kernel = None
    try:
        kernel = Kernel()
        kernel.check()
        features = [Feature("nf_tables", "yes", _MODE)]
        features += [_maps(kernel, family) for family in Family]
        features += [_ask(kernel, question) for question in _QUESTIONS]
    except EnvironmentFault as fault:
        state = "unknown" if "CAP_NET_ADMIN" in str(fault) else "no"
        return (Feature("nf_tables", state, _MODE, str(fault)),)
    finally:
        if kernel is not None:
            kernel.close()
    return tuple(features)


def _maps(kernel: Kernel, family: Family) -> Feature:
    hint = "kernel 5.6 (concatenated intervals)"
    works = _works(kernel, _sets(family))
    return _feature(f"{family} maps and sets", family, hint, works=works)


def _ask(kernel: Kernel, question: _Question) -> Feature:
    layout = Layout(Shape(Family.IPV4))
    base = {chain.name: chain for chain in layout.base_chains()}
    chain = base.get(question.chain) or layout.numbered_chain(question.chain)
    if chain is None:
        raise LookupError(f"there is no chain {question.chain}")
    messages = _sets(Family.IPV4)
    messages += [codec.new_chain(Family.IPV4, Chain(name, ()), _TABLE) for name in base]
    asked = Chain("asked", chain.rules)
    messages.append(codec.new_chain(Family.IPV4, asked, _TABLE))
    messages += codec.new_rules(Family.IPV4, asked, _TABLE)
    works = _works(kernel, messages)
    return _feature(question.feature, question.needed_for, question.hint, works=works)


def _feature(name: str, needed_for: str, hint: str, *, works: bool) -> Feature:
    state = "yes" if works else "no"
    return Feature(name, state, f"{_MODE}: {needed_for}", "" if works else hint)


def _sets(family: Family) -> list[nl.Message]:
    messages = [codec.new_table(family, _TABLE)]
    messages += [codec.new_set(family, spec, _TABLE) for spec in set_specs(family)]
    return messages


def _works(kernel: Kernel, messages: list[nl.Message]) -> bool:
    return not kernel.transact(messages, commit=False).failures
