"""Is said what the kernel lacks for the IPVS mode, and is nothing else changed by asking?"""

from __future__ import annotations

import subprocess
import sys

import pytest

from modes.base import Feature, IpvsSettings, KernelFault, ModeSettings
from modes.ipvs import netlink as nl
from modes.ipvs.ipsets import SetName, SetSpec, Type
from modes.ipvs.kernel import Ipset, Ipvs
from modes.ipvs.links import Link
from modes.ipvs.probe import features
from modes.registry import lacking
from tests.kernel.ipvs.programs import said

SETS = ("bitmap:port", "hash:ip", "hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net")


def found(settings: ModeSettings = ModeSettings()) -> dict[str, Feature]:  # noqa: B008 (frozen)
    """The features by name; none is there twice."""
    of = features(settings)
    by_name = {feature.name: feature for feature in of}
    assert len(by_name) == len(of)
    return by_name


def test_a_kernel_that_has_everything(ipvs: Ipvs) -> None:
    before = ipvs.servers()
    told = found()
    assert lacking(told.values()) is None
    assert list(told)[:3] == ["ip_vs", "schedulers", "net.ipv4.vs.conntrack"]
    works = told["schedulers"].needed_for.removeprefix("ipvs mode: ").split()
    assert works[0] == "rr"
    assert "none" not in works
    assert ipvs.servers() == before == {}


def test_a_scheduler_that_no_kernel_has(ipvs: Ipvs) -> None:  # noqa: ARG001
    told = found(ModeSettings(ipvs=IpvsSettings("best")))
    assert lacking(told.values()) == told["schedulers"]
    hint = told["schedulers"].hint
    assert hint.startswith(
        "--ipvs-scheduler: best: this kernel has no such scheduler (module ip_vs_"
    )
    assert "it has rr, " in hint


@pytest.mark.usefixtures("network")
def test_a_kernel_without_ipvs_has_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    no_family = nl.get_family().replace(b"IPVS", b"NONE")
    monkeypatch.setattr(nl, "get_family", lambda: no_family)
    told = found()
    assert (next(iter(told)), told["ip_vs"].state) == ("ip_vs", "no")
    assert told["ip_vs"].hint == "this kernel has no IPVS (modprobe ip_vs)"
    for name in ("ipset", *(f"ipset {kind}" for kind in SETS), "xt_set", "SET --map-mark"):
        assert told[name].state == "yes"
    assert not {"schedulers", "xt_statistic", "DNAT", "xt_recent"} & set(told)


@pytest.mark.usefixtures("network")
def test_a_type_of_sets_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    create = Ipset.create

    def lame(ipset: Ipset, name: SetName, spec: SetSpec) -> None:
        if spec.type is Type.IP_PORT_NET:
            raise KernelFault(f"there are no sets of type {spec.type}: not supported")
        create(ipset, name, spec)

    monkeypatch.setattr(Ipset, "create", lame)
    told = found()
    assert told["ipset"].state == "yes"
    assert told["ipset hash:ip,port,net"].state == "no"
    assert told["ipset hash:ip,port,net"].hint.startswith("there are no sets of type")
    assert "xt_set" not in told


@pytest.mark.usefixtures("network")
def test_nothing_is_changed(ipset: Ipset) -> None:
    commands = (["ip", "-o", "link"], ["iptables-save"], ["ip6tables-save"])
    before = [said(*command) for command in commands]
    found()
    assert ipset.names() == set()
    assert [said(*command) for command in commands] == before


ASK = """
from modes.base import ModeSettings
from modes.ipvs.probe import features
for feature in features(ModeSettings()):
    print(feature.name, feature.state, feature.optional, feature.hint)
"""


@pytest.mark.parametrize(
    ("capability", "works", "reason"),
    [
        (
            "sys_admin",
            True,
            "no network namespace can be made: Operation not permitted (run as root)",
        ),
        ("net_admin", False, "CAP_NET_ADMIN is missing (run as root)"),
    ],
)
def test_where_we_may_not_ask(capability: str, reason: str, *, works: bool) -> None:
    without = ["setpriv", f"--bounding-set=-{capability}", f"--inh-caps=-{capability}"]
    command = [*without, sys.executable, "-c", ASK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"ip_vs unknown {works} ")
    assert line.endswith(reason)


def test_the_link_stays_where_it_was_tried(link: Link) -> None:
    link.bind(["192.0.2.7"])
    found()
    assert link.addresses() == frozenset({"192.0.2.7"})
