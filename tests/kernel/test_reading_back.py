"""Does the kernel give back what it was told, in every shape, and can everyone's nft list it?"""

from __future__ import annotations

import pytest

from endpoints.names import Family
from modes.nftables import adopt, ruleset
from modes.nftables.kernel import Kernel
from modes.nftables.mode import NftablesMode
from modes.nftables.skeleton import Layout
from tests.kernel.rulesets import commit, nft, services
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.shapes import NAMES, NUMBERED, shapes


def everything(layout: Layout, kernel: Kernel) -> None:
    """Make the table of a layout with one chain of each kind."""
    messages = adopt.rebuilding(layout, exists=(layout.family, "headgate") in kernel.tables())
    for name in NUMBERED:
        chain = layout.numbered_chain(name)
        assert chain is not None
        messages.append(ruleset.new_chain(layout.family, chain))
        messages.extend(ruleset.new_rules(layout.family, chain))
    commit(kernel, messages)


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("name", NAMES)
def test_every_shape_reads_back_and_no_other_passes_for_it(kernel: Kernel, name: str) -> None:
    layouts = [Layout(shapes(family)[name]) for family in Family]
    for layout in layouts:
        everything(layout, kernel)
        table = kernel.table(layout.family)
        assert table is not None
        assert adopt.misfit(table, layout) == ""
        assert set(table.chains) == {c.name for c in layout.base_chains()} | set(NUMBERED)
        rules = layout.base_chains()
        for other in map(Layout, shapes(layout.family).values()):
            assert bool(adopt.misfit(table, other)) == (other.base_chains() != rules)
    listed = nft("list", "ruleset")
    for table_name in ("table ip headgate", "table ip6 headgate"):
        assert table_name in listed
    for numbered in NUMBERED:
        assert listed.count(f"chain {numbered} {{") == len(layouts)


def test_an_operator_reads_the_names_of_services(mode: NftablesMode) -> None:
    mode.start(NODE_A)
    mode.replace(services(7))
    v4 = nft("list", "map", "ip", "headgate", "services")
    assert '10.96.0.7 . tcp . 80 comment "shop/s7:http" : goto pick-2' in v4
    v6 = nft("list", "map", "ip6", "headgate", "services")
    assert 'fd00:10:96::7 . tcp . 80 comment "shop/s7:http" : goto pick-2' in v6


def test_what_nft_prints_it_reads_again_but_for_the_rules(mode: NftablesMode) -> None:
    """Nft 1.0.6 misreads rules of its own listing; elements of data sets it must understand."""
    mode.start(NODE_A)
    mode.replace(services(7))
    nft("add", "element", "ip", "headgate", "cluster-ips", "{ 10.96.0.8 }")
    assert mode.verify().extra == ("ip cluster-ips 10.96.0.8",)
