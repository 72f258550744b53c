"""Does `iptables-save` print a rule as we wrote it, character for character, in both variants?"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

import pytest

from endpoints.names import Family
from modes.xtables.kernel import Kernel
from modes.xtables.names import Table
from modes.xtables.restore import parse, spec
from modes.xtables.rules import ChainName, Rule
from modes.xtables.script import Script, read
from modes.xtables.variant import Variant
from tests.kernel.iptables import reader
from tests.unit.modes.xtables.examples import (
    BY_FAMILY,
    COUNTED,
    KUBE_PROXY,
    SEP,
    SVC,
    TABLES,
    create_sets,
)

COMMAND = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}
EACH = pytest.mark.parametrize(("variant", "family"), [(v, f) for v in Variant for f in Family])
HELD = "HELD"
"""A chain that nothing leads to: its rules stand there and match nothing."""

pytestmark = pytest.mark.usefixtures("sets")


@pytest.fixture
def sets(network: None) -> None:  # noqa: ARG001
    """The sets that rules look into."""
    create_sets()


def held_after(variant: Variant, family: Family, script: Script) -> dict[ChainName, list[str]]:
    """What the variant's own `save` says when its `restore` was given a script."""
    command = f"{COMMAND[family]}-{variant}"
    written = run(f"{command}-restore", "--noflush", text=script.text)
    assert not written
    return read(run(f"{command}-save"))


def run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def fits(rule: Rule, table: Table) -> bool:
    """Some targets exist in some of the tables only."""
    return table in TABLES.get(rule.target, Table)


def fitting(family: Family, table: Table) -> list[Rule]:
    return [rule for rule in BY_FAMILY[family].values() if fits(rule, table)]


def script_of(rules: Mapping[Table, list[str]]) -> Script:
    """All rules in one chain of each table."""
    script = Script()
    for table, specs in rules.items():
        script.section(table)
        for name in (SVC, SEP, HELD):
            script.chain(name)
        for text in specs:
            script.append(HELD, text)
        script.commit()
    return script


def everything(family: Family) -> dict[Table, list[str]]:
    return {table: [spec(r, family) for r in fitting(family, table)] for table in Table}


@EACH
def test_what_is_printed_is_what_was_written(variant: Variant, family: Family) -> None:
    specs = everything(family)
    held = held_after(variant, family, script_of(specs))
    for table in Table:
        assert held[ChainName(table, HELD)] == specs[table]
        assert held[ChainName(table, SVC)] == []


@EACH
def test_rules_are_deleted_and_inserted_by_their_text(variant: Variant, family: Family) -> None:
    specs = everything(family)[Table.NAT]
    script = script_of({Table.NAT: specs})
    script.section(Table.NAT)
    for text in specs[::2]:
        script.delete(HELD, text)
    script.insert(HELD, 2, "-j RETURN")
    script.commit()
    held = held_after(variant, family, script)
    first, *others = specs[1::2]
    assert held[ChainName(Table.NAT, HELD)] == [first, "-j RETURN", *others]


@EACH
def test_rules_that_count(variant: Variant, family: Family) -> None:
    if not Kernel(variant, lambda *_, **__: None).ensure_counters():
        pytest.skip("this kernel has no nfnetlink_acct")
    held = held_after(variant, family, script_of({Table.FILTER: list(COUNTED)}))
    assert held[ChainName(Table.FILTER, HELD)] == list(COUNTED)


@pytest.mark.parametrize("variant", Variant)
def test_rules_that_kube_proxy_left_are_understood(variant: Variant) -> None:
    rules = {t: parse(t, Family.IPV4) for t in KUBE_PROXY}
    rules = {t: r for t, r in rules.items() if r.target != "KUBE-SERVICES" and not r.counter}
    worded = {table: [t for t, r in rules.items() if fits(r, table)] for table in Table}
    found = held_after(variant, Family.IPV4, script_of(worded))
    for table in Table:
        held = [parse(text, Family.IPV4) for text in found[ChainName(table, HELD)]]
        assert held == [rules[text] for text in worded[table]]


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("table", Table)
def test_another_reader_finds_the_same_rules(table: Table, family: Family) -> None:
    """It cannot undo quotes in a comment, nor tell one that begins with a dash from an option."""
    rules = [r for r in fitting(family, table) if not {"'", '"'} & {*r.comment}]
    rules = [r for r in rules if not r.comment.startswith("-")]
    specs = {table: [spec(rule, family) for rule in rules]}
    held_after(Variant.LEGACY, family, script_of(specs))
    assert reader.rules_of(family, ChainName(table, HELD)) == rules
