"""Does `iptables-save` print a rule as we wrote it, character for character, in both variants?"""

from __future__ import annotations

import subprocess

import pytest

from endpoints.names import Family
from modes.iptables.names import Table
from modes.iptables.restore import parse, spec
from modes.iptables.rules import ChainName, Rule
from modes.iptables.script import Script, read
from tests.lab import sandbox
from tests.unit.modes.iptables.examples import (
    BY_FAMILY,
    FILTER_ONLY,
    KUBE_PROXY,
    NAT_ONLY,
    SEP,
    SVC,
)

COMMAND = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}
EACH = pytest.mark.parametrize(
    ("variant", "family"), [(v, f) for v in ("nft", "legacy") for f in Family]
)
HELD = "HELD"
"""A chain that nothing leads to: its rules stand there and match nothing."""


def held_after(command: str, script: Script) -> dict[ChainName, list[str]]:
    """What a network without any rule holds when it was given a script."""
    sandbox.require_sandbox()
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", f"{command}-restore --noflush; {command}-save"],
        input=script.text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return read(done.stdout)


def fits(rule: Rule, table: Table) -> bool:
    """Some targets exist in one of the tables only."""
    return rule.target not in (NAT_ONLY if table is Table.FILTER else FILTER_ONLY)


def script_of(rules: dict[Table, list[str]]) -> Script:
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


@EACH
def test_what_is_printed_is_what_was_written(variant: str, family: Family) -> None:
    rules = list(BY_FAMILY[family].values())
    specs = {t: [spec(r, family) for r in rules if fits(r, t)] for t in Table}
    held = held_after(f"{COMMAND[family]}-{variant}", script_of(specs))
    for table in Table:
        assert held[ChainName(table, HELD)] == specs[table]
        assert held[ChainName(table, SVC)] == []


@EACH
def test_a_rule_is_deleted_and_inserted_by_its_text(variant: str, family: Family) -> None:
    rules = list(BY_FAMILY[family].values())
    specs = [spec(r, family) for r in rules if fits(r, Table.NAT)]
    script = script_of({Table.NAT: specs})
    script.section(Table.NAT)
    for text in specs[::2]:
        script.delete(HELD, text)
    script.insert(HELD, 2, "-j RETURN")
    script.commit()
    left = specs[1::2]
    held = held_after(f"{COMMAND[family]}-{variant}", script)
    assert held[ChainName(Table.NAT, HELD)] == [left[0], "-j RETURN", *left[1:]]


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_rules_that_kube_proxy_left_are_understood(variant: str) -> None:
    worded = [text for text in KUBE_PROXY if "nfacct" not in text and "KUBE-SERVICES" not in text]
    rules = [parse(text, Family.IPV4) for text in worded]
    by_table = {
        table: [text for text, rule in zip(worded, rules, strict=True) if fits(rule, table)]
        for table in Table
    }
    found = held_after(f"iptables-{variant}", script_of(by_table))
    for table in Table:
        held = [parse(text, Family.IPV4) for text in found[ChainName(table, HELD)]]
        assert held == [rule for rule in rules if fits(rule, table)]
