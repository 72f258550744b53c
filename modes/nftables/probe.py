"""What can this kernel do of what the nftables mode needs?

Asked by transactions that are never committed: the kernel checks every message, loads the modules
that it needs, and forgets them all.
"""

from __future__ import annotations

from typing import NamedTuple

from endpoints.names import Family
from modes.base import EnvironmentFault, Feature
from modes.nftables import netlink as nl
from modes.nftables import ruleset
from modes.nftables.kernel import Kernel
from modes.nftables.sets import set_specs
from modes.nftables.shape import Shape
from modes.nftables.skeleton import Chain, Layout

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
    _Question("flow's original address", "input", "NodePorts", "module nft_ct"),
)


class _Trial(NamedTuple):
    """A feature, and what the kernel takes only if it has it."""

    feature: str
    needed_for: str
    hint: str
    messages: list[nl.Message]


def probe() -> tuple[Feature, ...]:
    """The features, in the order of their weight; all `unknown` where we may not ask.

    All are tried in one transaction, and singly only if that is refused: the kernel takes 10 to
    20 ms to forget one.
    """
    kernel = None
    try:
        kernel = Kernel()
        kernel.check()
        together, trials = _trials()
        works = _works(kernel, together)
        features = [Feature("nf_tables", "yes", _MODE)]
        features += [_feature(of, works=works or _works(kernel, of.messages)) for of in trials]
    except EnvironmentFault as fault:
        state = "unknown" if "CAP_NET_ADMIN" in str(fault) else "no"
        return (Feature("nf_tables", state, _MODE, str(fault)),)
    finally:
        if kernel is not None:
            kernel.close()
    return tuple(features)


def _trials() -> tuple[list[nl.Message], list[_Trial]]:
    """All trials as one, and each by itself."""
    layout = Layout(Shape(Family.IPV4))
    base = {chain.name: chain for chain in layout.base_chains()}
    hint = "kernel 5.6 (concatenated intervals)"
    trials = [_Trial(f"{of} maps and sets", of, hint, _sets(of)) for of in Family]
    chains = [ruleset.new_chain(Family.IPV4, Chain(name, ()), _TABLE) for name in base]
    together = [message for trial in trials for message in trial.messages] + chains
    before = _sets(Family.IPV4) + chains
    for number, question in enumerate(_QUESTIONS):
        chain = base.get(question.chain) or layout.numbered_chain(question.chain)
        if chain is None:
            raise LookupError(f"there is no chain {question.chain}")
        named = Chain(f"asked-{number}", chain.rules)
        asked = [ruleset.new_chain(Family.IPV4, named, _TABLE)]
        asked += ruleset.new_rules(Family.IPV4, named, _TABLE)
        together += asked
        trials.append(_Trial(question.feature, question.needed_for, question.hint, before + asked))
    return together, trials


def _feature(trial: _Trial, *, works: bool) -> Feature:
    state, hint = ("yes", "") if works else ("no", trial.hint)
    return Feature(trial.feature, state, f"{_MODE}: {trial.needed_for}", hint)


def _sets(family: Family) -> list[nl.Message]:
    messages = [ruleset.new_table(family, _TABLE)]
    messages += [ruleset.new_set(family, spec, _TABLE) for spec in set_specs(family)]
    return messages


def _works(kernel: Kernel, messages: list[nl.Message]) -> bool:
    return not kernel.transact(messages, commit=False).failures
