"""Are the addresses of Services the host's own, and nobody else's business?"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modes.base import EnvironmentFault, KernelFault
from modes.ipvs import links
from modes.ipvs.links import Link, local_addresses, set_sysctls
from modes.ipvs.servers import LINK
from tests.kernel.ipvs.programs import said
from tests.lab.modes import NO_IPVS

WEB, DNS = "10.96.7.7", "fd00:10:96::a"
SYSCTLS = Path("/proc/sys/net/ipv4")


def details(*what: str) -> dict[str, Any]:
    [found] = json.loads(said("ip", "-json", "-details", *what, "show", "dev", LINK))
    assert isinstance(found, dict)
    return found


def on(link: Link) -> set[str]:
    return set(link.addresses() or ())


@pytest.fixture
def no_link(network: None) -> Iterator[Link]:  # noqa: ARG001
    """Before anything is made."""
    made = Link()
    yield made
    made.close()


def test_without_a_link_there_is_nothing_on_it(no_link: Link) -> None:
    assert no_link.addresses() is None
    assert no_link.unbind([WEB]) == []
    assert no_link.remove_if_empty()
    with pytest.raises(KernelFault, match="there is no link kube-ipvs0"):
        no_link.bind([WEB])


def test_a_link_is_made_once_and_stays_down(no_link: Link) -> None:
    try:
        no_link.ensure()
    except EnvironmentFault as fault:
        pytest.skip(f"{fault}: tests/uml runs this in one that has")
    made = details("link")
    assert made["linkinfo"]["info_kind"] == "dummy"
    assert "NOARP" in made["flags"]
    assert "UP" not in made["flags"]
    no_link.ensure()
    assert details("link") == made


def test_addresses_are_local_although_the_link_is_down(link: Link) -> None:
    assert link.addresses() == frozenset()
    assert link.bind([WEB, DNS]) == []
    assert on(link) == {WEB, DNS}
    for family, address in ((socket.AF_INET, WEB), (socket.AF_INET6, DNS)):
        with socket.create_server((address, 8080), family=family) as server:
            with socket.create_connection((address, 8080), 5) as client:
                assert client.getsockname()[0] == address
            server.accept()[0].close()


def test_an_address_is_of_use_as_soon_as_it_is_bound(link: Link) -> None:
    for number in range(1, 101):
        address = f"fd00:10:96::{number:x}"
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
            assert link.bind([address]) == []
            one.connect((address, 53))
            assert one.getsockname()[0] == address


def test_addresses_are_those_of_hosts_and_no_source(link: Link) -> None:
    assert link.bind([WEB, DNS]) == []
    v4, v6 = sorted(details("address")["addr_info"], key=lambda found: str(found["family"]))
    assert (v4["local"], v4["prefixlen"], v4["scope"]) == (WEB, 32, "host")
    assert (v6["local"], v6["prefixlen"], v6["preferred_life_time"]) == (DNS, 128, 0)
    assert v6["nodad"]
    said("ip", "link", "add", "out", "up", "type", "veth", "peer", "name", "other")
    for address in ("192.0.2.5/24", "fd00:2::5/64"):
        said("ip", "address", "add", address, "dev", "out", *(("nodad",) if ":" in address else ()))
    for there, source in (("192.0.2.9", "192.0.2.5"), ("fd00:2::9", "fd00:2::5")):
        [route] = json.loads(said("ip", "-json", "route", "get", there))
        assert route["prefsrc"] == source


def test_what_is_there_can_be_bound_and_what_is_not_unbound(link: Link) -> None:
    assert link.bind([WEB, DNS]) == []
    assert link.bind([WEB, "10.96.7.8", DNS, WEB]) == []
    assert on(link) == {WEB, DNS, "10.96.7.8"}
    assert link.unbind(["10.96.9.9", WEB, "fd00::9", DNS]) == []
    assert on(link) == {"10.96.7.8"}


def test_a_refusal_is_of_its_address(link: Link) -> None:
    refusals = link.bind([WEB, "fe80::1", "ff02::1", DNS])
    assert [refusal.index for refusal in refusals] == [2]
    assert on(link) == {WEB, DNS}


def test_a_link_with_an_address_stays(link: Link) -> None:
    said("ip", "address", "add", "192.0.2.7/24", "dev", LINK)
    assert link.unbind(["192.0.2.7"]) == []
    assert on(link) == {"192.0.2.7"}
    assert not link.remove_if_empty()
    said("ip", "address", "del", "192.0.2.7/24", "dev", LINK)
    assert link.remove_if_empty()
    assert link.addresses() is None


def test_the_addresses_of_other_links_are_the_hosts(link: Link) -> None:
    said("ip", "address", "add", "192.0.2.1/32", "dev", "lo")
    assert link.bind([WEB, DNS]) == []
    assert local_addresses() == {"127.0.0.1", "::1", "192.0.2.1"}


def test_thousands_of_addresses_are_bound(link: Link) -> None:
    addresses = [f"10.96.{n // 256}.{n % 256}" for n in range(10_000)]
    messages, sends = link.messages, link.sends
    assert link.bind(addresses) == []
    assert (link.messages - messages, link.sends - sends) == (10_000, 40)
    assert on(link) == set(addresses)
    assert link.unbind(addresses[1:]) == []
    assert on(link) == {addresses[0]}


def value(name: str) -> str:
    return (SYSCTLS / name).read_text().strip()


@pytest.mark.usefixtures("network")
@pytest.mark.skipif(not (SYSCTLS / "vs").exists(), reason=NO_IPVS)
def test_what_ipvs_needs_is_set_and_the_rest_left_alone() -> None:
    names = ["conf/all/arp_ignore", "conf/all/arp_announce", "vs/conn_reuse_mode"]
    before = [value(name) for name in names]
    assert set_sysctls(strict_arp=False, kernel_version=(6, 1)) == []
    needed = ["conntrack", "expire_nodest_conn", "expire_quiescent_template"]
    assert {value(f"vs/{name}") for name in needed} | {value("ip_forward")} == {"1"}
    assert [value(name) for name in names] == before
    for version in ((4, 0), (5, 9)):
        assert set_sysctls(strict_arp=True, kernel_version=version) == []
        assert [value(name) for name in names] == ["1", "2", before[2]]
    assert set_sysctls(strict_arp=False, kernel_version=(5, 8)) == []
    assert value("vs/conn_reuse_mode") == "0"


def test_what_cannot_be_set_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a kernel without IPVS, or in a container whose /proc/sys is not to be written."""
    monkeypatch.setattr(links, "_SETTINGS", tmp_path)
    (tmp_path / "ipv4/vs").mkdir(parents=True)
    for name in ("vs/conntrack", "vs/expire_nodest_conn", "ip_forward"):
        (tmp_path / "ipv4" / name).write_text("0\n")
    [complaint] = set_sysctls(strict_arp=False, kernel_version=(6, 1))
    assert complaint == (
        f"{tmp_path}/ipv4/vs/expire_quiescent_template cannot be set to 1, "
        "for clients of endpoints that drain: No such file or directory"
    )
    assert (tmp_path / "ipv4/vs/conntrack").read_text() == "1"
    assert (tmp_path / "ipv4/ip_forward").read_text() == "1"
