"""Is the same told of a part, of what was written down, and in the tool's own notation?"""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest

from endpoints.names import Family, ObjectName, Protocol
from modes.base import Delta, ModeSettings, Plans
from modes.held import EVERYTHING, Difference, Only
from modes.iptables import service_chains
from modes.iptables.looking import look, recalled
from modes.iptables.mode import IptablesMode
from modes.iptables.rendering import LARGE_CLUSTER
from modes.xtables.kernel import Kernel
from modes.xtables.variant import Variant
from tests.kernel.iptables import others, tables
from tests.kernel.iptables.looked import (
    ENDS,
    EXTRA,
    KNOWN,
    MISSING,
    NODE,
    PAY,
    S1,
    SEPS,
    SVC,
    seen,
    wrong,
)
from tests.kernel.rulesets import named, services
from tests.lab import sandbox
from tests.unit.modes.nftables.build import (
    LOCAL,
    balancer,
    cluster_ip,
    plan_of,
    pods,
)


def lines_of(family: Family, lines: tuple[str, ...]) -> list[str]:
    """Those behind `# IPv4` or `# IPv6`: a comment stands before each table."""
    found: list[str] = []
    current = ""
    for line in lines:
        current = line[2:] if line.startswith("# ") else current
        found += [line] if current == family else []
    return found


@pytest.mark.usefixtures("applied")
def test_everything_in_native_form_makes_the_same_rules(variant: Variant) -> None:
    lines = seen(variant).native()
    with sandbox.own_network():
        Kernel(variant).ensure_counters()
        for family in Family:
            text = "\n".join(lines_of(family, lines))
            others.write(variant, f"{text}\n", tables.COMMAND[family])
        assert [of for of in wrong(variant) if "route_localnet" not in of.what] == []


@pytest.mark.usefixtures("applied")
def test_one_service_in_native_form(variant: Variant) -> None:
    lines = seen(variant, Only(service=S1)).native()
    v4 = lines[: lines.index("# IPv6")]
    assert v4 == seen(variant, Only(address="10.96.0.1", port=80)).native()
    assert [line for line in v4 if not line.startswith("-A ")] == [
        "# IPv4",
        "*filter",
        ":KUBE-CLUSTER-IPS - [0:0]",
        "COMMIT",
        "# IPv4",
        "*nat",
        ":KUBE-SERVICES - [0:0]",
        *(f":{chain} - [0:0]" for chain in sorted((SVC, *SEPS))),
        "COMMIT",
    ]
    rules = {line for line in v4 if line.startswith("-A ")}
    assert {line.split()[1] for line in rules} == {
        "KUBE-CLUSTER-IPS",
        "KUBE-SERVICES",
        SVC,
        *SEPS,
    }
    assert rules < set(seen(variant).native())


@pytest.mark.usefixtures("applied")
def test_a_part_of_what_is_written_down(variant: Variant) -> None:
    settings = ModeSettings(iptables_variant=variant)
    document = msgspec.json.decode(msgspec.json.encode(seen(variant).document()))
    for only in (EVERYTHING, Only(service="shop/pay"), Only(address="fd00:10:96::2", port=80)):
        now, then = seen(variant, only), recalled(document, only, settings)
        assert (then.services, then.native()) == (now.services, now.native())
        assert now.services
        assert then.differences(NODE, KNOWN) == ()
    # What was asked for less answers no more.
    less = seen(variant, Only(service="shop/pay"))
    again = recalled(less.document(), EVERYTHING, settings)
    assert (again.services, again.differences(NODE, KNOWN)) == (less.services, ())


LARGE = ObjectName("shop", "large")
MANY = pods(*(f"10.244.{2 + n // 250}.{n % 250}" for n in range(LARGE_CLUSTER)))
NEAR = (*pods("10.244.1.9"), *MANY)


def test_either_form_of_a_service_is_right(mode: IptablesMode, variant: Variant) -> None:
    """A Service that was written when the cluster was small stays in its form (decision 0008)."""
    few = services(1, 2, endpoints=3)
    more = {**few, LARGE: (plan_of(cluster_ip("10.96.8.8"), cluster=NEAR, name=named("large")),)}
    mode.start(NODE)
    mode.replace(few)
    mode.apply(Delta({LARGE: more[LARGE]}))
    assert seen(variant).differences(NODE, more) == ()
    mode.apply(Delta({}, frozenset({LARGE})))
    mode.start(NODE)
    mode.replace(more)  # adopted, and so none of them changes its form
    assert seen(variant).differences(NODE, more) == ()
    tables.iptables(variant, "-t", "nat", "-D", SVC, "2")
    for only in (EVERYTHING, Only(service=S1)):
        (told,) = seen(variant, only).differences(NODE, more)
        assert (told.service, told.kind) == (S1, MISSING)


WEB = ObjectName("shop", "web")
HEALTH = msgspec.structs.replace(
    plan_of(
        cluster_ip("10.96.6.6"),
        balancer("198.51.100.6", policy=LOCAL),
        cluster=ENDS,
        name=named("web", "http"),
    ),
    health_check_node_port=32000,
)
SECURE = plan_of(cluster_ip("10.96.6.6", 443), cluster=ENDS, name=named("web", "https"))


def test_one_port_of_a_service(mode: IptablesMode, variant: Variant) -> None:
    """Of some rules the comment tells no port."""
    known: dict[ObjectName, Plans] = {**services(1), WEB: (HEALTH, SECURE)}
    mode.start(NODE)
    mode.replace(known)
    asked = {
        Only(service="shop/web"): 2,
        Only(service="shop/web:http"): 1,
        Only(service="shop/web:https"): 1,
        Only(address="10.96.6.6", port=443): 1,
        Only(address="10.96.6.6", port=80, protocol=Protocol.UDP): 0,
    }
    for only, count in asked.items():
        held = seen(variant, only)
        assert (len(held.services), held.differences(NODE, known)) == (count, ())
    tables.iptables(variant, "-F", "KUBE-CLUSTER-IPS")
    for only, count in asked.items():
        told = [of.service for of in seen(variant, only).differences(NODE, known) if of.service]
        assert len(told) == min(count, 1)  # a rule of both is told of once


@pytest.mark.usefixtures("applied")
def test_rules_of_nft_beside_ours(variant: Variant) -> None:
    """iptables-nft-save says nothing of such a table; what it would say is read otherwise."""
    rule = "ip nat PREROUTING ip saddr { 6.6.6.6, 6.6.6.7 } accept"
    if variant is Variant.NFT:
        subprocess.run(["nft", "add", "rule", *rule.split()], check=True)
    for only in (EVERYTHING, Only(service=S1)):
        assert wrong(variant, only) == ()
        assert len(seen(variant, only).services) == (2 if only.service else 9)


def test_the_variant_that_holds_rules_is_looked_at(mode: IptablesMode, variant: Variant) -> None:
    mode.start(NODE)
    mode.replace(KNOWN)
    assert look().differences(NODE, KNOWN) == ()
    other = next(one for one in Variant if one is not variant)
    second = tables.mode_of(other)
    second.start(NODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IptablesMode, "_leave_other", lambda _: None)
        second.replace(KNOWN)
    what = f"Service rules beside those in iptables ({variant}) in iptables ({other})"
    assert wrong(variant) == (Difference("", EXTRA, what),)
    second.close()


@pytest.mark.usefixtures("applied")
def test_localhost_is_not_routed(variant: Variant) -> None:
    Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("0")
    what = "net.ipv4.conf.all.route_localnet = 1, for NodePorts on 127.0.0.1, in sysctls"
    assert wrong(variant) == (Difference("", MISSING, what),)


def test_a_document_of_another_version() -> None:
    for document, told in (({"version": 9}, "of version 9;"), ([], "of version None;")):
        with pytest.raises(ValueError, match=told):
            recalled(document)
    with pytest.raises(ValueError, match="cannot be read: Object missing required field"):
        recalled({"version": 1})


@pytest.mark.usefixtures("applied")
def test_a_chain_that_nothing_leads_to_any_more(variant: Variant) -> None:
    """It is found by its name, which ends as that of its sisters."""
    pay = KNOWN[PAY][0].name
    svl, ext = service_chains.local_chain(pay), service_chains.external_chain(pay)
    tables.iptables(variant, "-t", "nat", "-F", ext)
    tables.iptables(variant, "-t", "nat", "-F", svl)
    told = wrong(variant)
    assert [(of.service, of.kind, of.what) for of in told] == [
        ("shop/pay:http", MISSING, f"every rule of chain {chain} in nat (IPv4)")
        for chain in (ext, svl)
    ]
    assert wrong(variant, Only(service="shop/pay")) == told
