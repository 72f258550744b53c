"""Does what is written always turn the rules that are there into those that should be?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.names import Family, ObjectName
from modes.iptables.program import ServiceProgram
from modes.iptables.rendering import Rendering
from modes.iptables.skeleton import skeleton
from modes.xtables import adopt, chains, delta, transaction
from modes.xtables.chains import Skeleton
from modes.xtables.delta import NOTHING, Written
from modes.xtables.names import Table
from modes.xtables.rules import ChainName
from tests.unit.modes.xtables.restorer import Strict, Tables, node_of

V4 = Family.IPV4
SERVICES = [ObjectName("shop", name) for name in ("amy", "bob", "cid", "dee")]
SKELETON: Skeleton = skeleton(node_of(), V4, Rendering(), drops_invalid=True)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

State = Mapping[ObjectName, Written]


def chain(kind: str, number: int, part: int = 0) -> ChainName:
    """A name as `names` makes them."""
    tail = _LETTERS[number] + _LETTERS[part] + "A" * 14
    return ChainName(Table.NAT, f"KUBE-{kind}-{tail}")


def service(number: int, endpoints: int, port: int, *, refuses: bool) -> Written:
    """A Service with so many endpoints; its rules as simple as they can be."""
    host = f"10.96.0.{number * 40 + 1}"
    address = int.from_bytes(bytes(map(int, host.split("."))), "big")
    known = (chains.CLUSTER_IPS, f"-d {host}/32 -j KUBE-REFUSE")
    at = f"-d {host}/32 -p tcp -m tcp --dport {port}"
    if refuses:
        refusal = (chains.SERVICES, f"{at} -j REJECT --reject-with tcp-reset")
        return Written({}, (known, refusal), 0, (address,))
    seps = [chain("SEP", number, part) for part in range(endpoints)]
    own: dict[ChainName, tuple[str, ...]] = {sep: (f"-p tcp -j DNAT --to-destination 10.244.{number}.{i}:80",)
           for i, sep in enumerate(seps)}  # fmt: skip
    svc = chain("SVC", number)
    own[svc] = tuple(f"-j {sep.name}" for sep in seps)
    return Written(
        own, (known, (chains.NAT_SERVICES, f"{at} -j {svc.name}")), endpoints, (address,)
    )


def state_of(drawn: list[tuple[int, int, bool] | None]) -> State:
    """A Service for each that is there."""
    return {
        SERVICES[number]: service(number, endpoints, port, refuses=refuses)
        for number, of in enumerate(drawn)
        if of is not None
        for endpoints, port, refuses in [of]
    }


a_service = st.none() | st.tuples(st.integers(1, 5), st.sampled_from([80, 81]), st.booleans())
states = st.lists(a_service, min_size=len(SERVICES), max_size=len(SERVICES)).map(state_of)


def program_of(state: State) -> ServiceProgram:
    """All of a state, as if the kernel held it."""
    program = ServiceProgram(V4, SKELETON)
    program.commit(state)
    return program


def kernel_with(state: State, *, in_blocks: bool = False) -> Strict:
    """A kernel that held nothing before."""
    kernel = Strict()
    program = program_of(state)
    changes = adopt.difference(program, kernel.chains)
    kernel.restore(transaction.script(program, changes, in_blocks=in_blocks).text)
    return kernel


def essence(tables: Tables) -> dict[ChainName, object]:
    """Rules of Services stand in shared chains in any order."""
    shared = {name for name, of in SKELETON.chains.items() if of.is_shared}
    return {name: Counter(rules) if name in shared else rules for name, rules in tables.items()}


def updates(a: State, b: State) -> dict[ObjectName, Written]:
    """What makes b of a."""
    return {name: b.get(name, NOTHING) for name in {**a, **b} if a.get(name) != b.get(name)}


@given(states, states, st.booleans(), st.sampled_from([1, 200]))
def test_a_change_makes_what_a_start_makes(a: State, b: State, blocks: bool, bulk: int) -> None:
    kernel, program, news = kernel_with(a), program_of(a), updates(a, b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delta, "BULK", bulk)
        changes = program.changes(news)
    kernel.restore(transaction.script(program, changes, in_blocks=blocks).text)
    program.commit(news)
    assert essence(kernel.chains) == essence(kernel_with(b).chains)
    assert not adopt.difference(program, kernel.chains)
    assert bool(changes) == bool(news)


@given(states, states, st.booleans())
def test_what_is_found_is_made_what_is_wanted(a: State, b: State, blocks: bool) -> None:
    kernel, program = kernel_with(a, in_blocks=blocks), program_of(b)
    for bulk in (1, 200):
        changes = adopt.difference(program, kernel.chains, bulk)
        kernel.restore(transaction.script(program, changes, in_blocks=blocks).text)
        assert essence(kernel.chains) == essence(kernel_with(b).chains)
        assert not adopt.difference(program, kernel.chains)


@given(states, states)
def test_rules_are_counted_as_they_come_and_go(a: State, b: State) -> None:
    kernel, program, news = kernel_with(a), program_of(a), updates(a, b)
    changes = program.changes(news)
    kernel.restore(transaction.script(program, changes, in_blocks=False).text)
    program.commit(news)
    told = {of.table: of for of in program.tables(changes)}
    held = Counter(name.table for name, rules in kernel.chains.items() for _ in rules)
    assert {table: of.total for table, of in told.items()} == held
    assert sum(of.written for of in told.values()) == changes.added_rules()


@given(states)
def test_removal_leaves_the_kernel_as_it_was(a: State) -> None:
    kernel = kernel_with(a)
    changes = adopt.removal(V4, kernel.chains, keeps_martian_rule=False)
    kernel.restore(transaction.script(program_of({}), changes, in_blocks=False).text)
    assert kernel.chains == Strict().chains


@given(states, states, st.sets(st.sampled_from(SERVICES)))
def test_part_by_part_comes_to_the_same(a: State, b: State, first: set[ObjectName]) -> None:
    """As a refusal is looked for: the node's own, then some Services, then the others."""
    kernel, program = kernel_with(a), program_of(b)
    for trial in (set(), first, {*SERVICES} - first):
        changes = adopt.difference(program, kernel.chains, bulk=inf).part(trial)
        kernel.restore(transaction.script(program, changes, in_blocks=False).text)
    rest = adopt.difference(program, kernel.chains)
    assert not rest.owners()
    kernel.restore(transaction.script(program, rest, in_blocks=False).text)
    assert essence(kernel.chains) == essence(kernel_with(b).chains)


def test_a_refusal_is_there_before_nat_stops_to_translate() -> None:
    """And goes when nat translates again: a packet between two blocks meets one of them."""
    serving, refusing = (service(0, 2, 80, refuses=of) for of in (False, True))
    for before, after in ((serving, refusing), (refusing, serving)):
        kernel, program = kernel_with({SERVICES[0]: before}), program_of({SERVICES[0]: before})
        kernel.blocks.clear()
        changes = program.changes({SERVICES[0]: after})
        kernel.restore(transaction.script(program, changes, in_blocks=True).text)
        assert len(kernel.blocks) == 2
        for met in kernel.blocks:
            refused = any("REJECT" in rule for rule in met[chains.SERVICES])
            assert refused or any("KUBE-SVC" in rule for rule in met[chains.NAT_SERVICES])


def test_chains_that_nothing_refers_to_are_made_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "CHAINS_IN_A_BLOCK", 4)
    state = {SERVICES[n]: service(n, 3, 80, refuses=False) for n in range(4)}
    kernel = kernel_with(state, in_blocks=True)
    nat = [met for met in kernel.blocks if any(n.name.startswith("KUBE-SEP") for n in met)]
    made = 4 * (1 + 3) + len({"KUBE-MARK-MASQ", "KUBE-POSTROUTING", "KUBE-NODEPORTS"})
    assert len(nat) == -(-made // 4) + 1
    assert not any(met[ChainName(Table.NAT, "PREROUTING")] for met in nat[:-1])
    assert essence(kernel.chains) == essence(kernel_with(state).chains)


def test_chains_that_nothing_refers_to_any_more_go_in_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transaction, "CHAINS_IN_A_BLOCK", 4)
    state = {SERVICES[n]: service(n, 3, 80, refuses=False) for n in range(4)}
    kernel, program = kernel_with(state, in_blocks=True), program_of({})
    changes = adopt.difference(program, kernel.chains)
    text = transaction.script(program, changes, in_blocks=True).text
    sizes = [block.count("\n:") for block in text.split("COMMIT\n")]
    assert max(sizes) <= 4
    kernel.restore(text)
    assert essence(kernel.chains) == essence(kernel_with({}).chains)


def test_one_network_holds_all_cluster_ips() -> None:
    program = program_of({SERVICES[0]: service(0, 1, 80, refuses=False)})
    assert program.cover() == ("-d 10.96.0.1/32 -j KUBE-CLUSTER-IPS",)
    news = {SERVICES[3]: service(3, 1, 80, refuses=False)}
    assert program.cover(news) == ("-d 10.96.0.0/25 -j KUBE-CLUSTER-IPS",)
    program.commit(news)
    assert program.cover(dict.fromkeys(SERVICES, NOTHING)) == ()


def test_a_stale_chain_that_others_refer_to_is_emptied_and_kept() -> None:
    kernel = kernel_with({SERVICES[0]: service(0, 1, 80, refuses=False)})
    kernel.chains[ChainName(Table.NAT, "PREROUTING")].append(f"-j {chain('SVC', 0).name}")
    program = program_of({})
    changes = adopt.difference(program, kernel.chains)
    kernel.restore(transaction.script(program, changes, in_blocks=False).text)
    assert kernel.chains[chain("SVC", 0)] == []
    assert chain("SEP", 0) not in kernel.chains
