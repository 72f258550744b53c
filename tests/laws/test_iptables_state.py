"""Does iptables hold what the last cluster means, whatever was there before?

In both variants, in small clusters and where the number is crossed above which rules are short
(decision 0008). "The same" is what iptables-save prints, but that rules of Services in shared
chains may stand in any order.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given

from endpoints.names import Family
from endpoints.node import NodeSettings
from modes.base import Delta
from modes.iptables import mode as module
from modes.iptables.mode import IptablesMode
from modes.iptables.rendering import LARGE_CLUSTER
from modes.xtables.names import Table
from modes.xtables.variant import Variant
from tests.kernel.iptables import others, programs, tables
from tests.lab import sandbox
from tests.laws.clusters import (
    Cluster,
    Clustered,
    Objects,
    change,
    clusters,
    compiled,
    node_settings,
    objects,
)
from tests.laws.effort import effort

SIZES = {"small": LARGE_CLUSTER, "crossing": 2}
"""A third of the clusters have more than 2 endpoints in a family."""
FOREIGN = """\
*mangle
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*filter
:KUBE-PROXY-CANARY - [0:0]
:KUBE-ROUTER-FORWARD - [0:0]
:INPUT ACCEPT [0:0]
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A FORWARD -m comment --comment "to KUBE-SERVICES or not" -j KUBE-ROUTER-FORWARD
-A KUBE-ROUTER-FORWARD -j RETURN
COMMIT
*nat
:KUBE-PROXY-CANARY - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A CNI-HOSTPORT-DNAT -p udp -m udp --dport 53 -j ACCEPT
COMMIT
"""
EMPTY = "".join(f"*{table}\n-F\n-X\nCOMMIT\n" for table in Table)


def made(held: tables.Tables) -> tables.Tables:
    """What is there of a program's making: the kernel's own chains come with a table."""
    return {c: specs for c, specs in held.items() if specs or c.name not in tables.BUILT_IN}


@pytest.fixture(scope="module", autouse=True)
def _network() -> Iterator[None]:
    """A network without any rule for the laws of this file."""
    with sandbox.own_network():
        yield


@pytest.fixture(scope="module", params=SIZES)
def size(request: pytest.FixtureRequest) -> Iterator[str]:
    """How many endpoints make a large cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LARGE_CLUSTER", SIZES[request.param])
        yield request.param


@pytest.fixture(scope="module", params=Variant)
def iptables(request: pytest.FixtureRequest) -> Iterator[IptablesMode]:
    """The mode; it is cleaned up in between."""
    made = tables.mode_of(request.param)
    yield made
    made.cleanup()
    made.close()


def held(mode: IptablesMode) -> tables.State:
    return tables.state(mode._kernel.variant)


@effort(8)
@given(node_settings, objects(), objects(), objects())
def test_the_way_does_not_matter(
    size: str,
    iptables: IptablesMode,
    settings: NodeSettings,
    first: Objects,
    second: Objects,
    third: Objects,
) -> None:
    """Empty -> a -> b -> c leaves what empty -> c leaves, and every step what was asked for.

    Crossing the number of endpoints rewrites nothing else; whoever looks at everything does.
    """
    node, at_once = compiled(Cluster(settings, third))
    iptables.cleanup()
    iptables.start(node)
    assert not iptables.replace(at_once).failed
    straight = held(iptables)

    iptables.cleanup()
    iptables.start(node)
    iptables.replace({})
    before: Clustered = {}
    for listed in (first, second, third):
        _, after = compiled(Cluster(settings, listed))
        assert not iptables.apply(change(before, after)).failed
        assert not iptables.verify()
        before = after
    if size == "crossing":
        assert not iptables.replace(at_once).failed
    assert held(iptables) == straight


@effort(6)
@given(clusters, clusters)
@pytest.mark.usefixtures("size")
def test_twice_is_once(iptables: IptablesMode, first: Cluster, second: Cluster) -> None:
    """Also for another node than before, and for a process that knows nothing yet."""
    for cluster in (first, second):
        node, plans = compiled(cluster)
        iptables.start(node)
        iptables.replace(plans)
        before = tables.everything(iptables._kernel.variant)
        with programs.started() as started:
            report = iptables.apply(Delta(plans, frozenset()))
        assert (report.messages, report.bytes_sent, started) == (0, 0, [])
        after_a_crash = tables.mode_of(iptables._kernel.variant)
        assert after_a_crash.start(node).kept
        with programs.started() as started:
            report = after_a_crash.replace(plans)
        after_a_crash.close()
        assert (report.messages, report.bytes_sent, started) == (0, 0, [])
        assert tables.everything(iptables._kernel.variant) == before


@effort(3)
@given(clusters)
@pytest.mark.usefixtures("size")
def test_cleanup_leaves_nothing_of_ours_and_everything_of_others(
    iptables: IptablesMode, cluster: Cluster
) -> None:
    iptables.cleanup()
    node, plans = compiled(cluster)
    iptables.start(node)
    variant = iptables._kernel.variant
    before = tables.everything(variant)
    assert not any(chain.name.startswith("KUBE-SVC") for of in before.values() for chain in of)
    for command in tables.COMMAND.values():
        others.write(variant, FOREIGN, command)
    foreign = tables.everything(variant)
    iptables.replace(plans)
    assert tables.everything(variant) != foreign
    assert iptables.cleanup()
    assert tables.everything(variant) == foreign
    assert not iptables.cleanup()
    for command in tables.COMMAND.values():
        others.write(variant, EMPTY, command)
    for family in Family:
        assert made(tables.held(variant, family)) == made(before[family])
