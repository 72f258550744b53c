"""Does the kernel tell which addresses are its own, now and when they change?"""

from __future__ import annotations

import queue
import socket
import subprocess
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute

from proxy.node import AddressWatch, local_addresses, look
from proxy.sources.base import LocalAddresses, Message

PATIENCE_SECONDS = 10


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


@pytest.fixture(autouse=True)
def link() -> Iterator[None]:
    """A pair of links in the test's own network."""
    ip("link add left type veth peer name right")
    ip("link set left up")
    yield
    ip("link del left")


@pytest.fixture
def watch() -> Iterator[tuple[AddressWatch, queue.SimpleQueue[Message]]]:
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    running = AddressWatch()
    running.start(messages)
    yield running, messages
    running.stop()


def test_addresses_of_both_families() -> None:
    before = local_addresses()
    assert {"127.0.0.1", "::1"} <= before
    ip("addr add 192.0.2.1/24 dev left")
    ip("addr add 2001:db8::1/64 dev left nodad")
    assert local_addresses() - before >= {"192.0.2.1", "2001:db8::1"}


def test_of_a_point_to_point_link_ours_and_not_the_peers() -> None:
    ip("addr add 192.0.2.1 peer 192.0.2.2/32 dev left")
    assert "192.0.2.1" in local_addresses()
    assert "192.0.2.2" not in local_addresses()


def test_an_independent_reader_sees_the_same() -> None:
    ip("addr add 192.0.2.1 peer 192.0.2.2/32 dev left")
    ip("addr add 2001:db8::1/64 dev left nodad")
    with IPRoute() as route:
        rows = [dict(row["attrs"]) for row in route.get_addr()]
    assert local_addresses() == {row.get("IFA_LOCAL", row["IFA_ADDRESS"]) for row in rows}


def test_many_addresses_take_more_than_one_datagram() -> None:
    lines = "".join(f"addr add 198.18.{n >> 8}.{n & 255}/32 dev left\n" for n in range(2000))
    subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)
    assert len([address for address in local_addresses() if address.startswith("198.18.")]) == 2000


def test_changes_are_told(watch: tuple[AddressWatch, queue.SimpleQueue[Message]]) -> None:
    running, messages = watch
    before = running.addresses

    def until(address: str, *, there: bool) -> frozenset[str]:
        while True:
            message = messages.get(timeout=PATIENCE_SECONDS)
            assert isinstance(message, LocalAddresses)
            if (address in message.addresses) is there:
                return message.addresses

    ip("addr add 192.0.2.1/24 dev left")
    assert until("192.0.2.1", there=True) >= before
    ip("addr del 192.0.2.1/24 dev left")
    until("192.0.2.1", there=False)


def test_the_same_addresses_are_not_told_again(
    watch: tuple[AddressWatch, queue.SimpleQueue[Message]],
) -> None:
    _, messages = watch
    ip("addr add 192.0.2.1/24 dev left")
    told = messages.get(timeout=PATIENCE_SECONDS)
    while isinstance(told, LocalAddresses) and "192.0.2.1" not in told.addresses:
        told = messages.get(timeout=PATIENCE_SECONDS)
    # Its lifetime changes, which the kernel tells as news of the address.
    ip("addr change 192.0.2.1/24 dev left valid_lft 1000 preferred_lft 1000")
    ip("addr add 192.0.2.2/24 dev left")
    told = messages.get(timeout=PATIENCE_SECONDS)
    assert isinstance(told, LocalAddresses)
    assert "192.0.2.2" in told.addresses


@pytest.fixture
def services_link() -> Iterator[None]:
    """The link of the IPVS mode, here one of another type."""
    ip("link add kube-ipvs0 type veth peer name other")
    yield
    if "kube-ipvs0" in {name for _, name in socket.if_nameindex()}:
        ip("link del kube-ipvs0")


@pytest.mark.usefixtures("services_link")
def test_addresses_of_services_are_not_the_nodes() -> None:
    before = local_addresses()
    ip("addr add 10.96.7.7/32 dev kube-ipvs0")
    ip("addr add fd00:10:96::7/128 dev kube-ipvs0 nodad")
    ip("addr add 192.0.2.1/32 dev left")
    assert local_addresses() == before | {"192.0.2.1"}
    assert look().services_link == socket.if_nametoindex("kube-ipvs0")


@pytest.mark.usefixtures("services_link")
def test_an_address_that_another_link_has_too_is_the_nodes() -> None:
    ip("addr add 192.0.2.1/32 dev kube-ipvs0")
    ip("addr add 192.0.2.1/32 dev left")
    assert "192.0.2.1" in local_addresses()


def test_without_the_link_nothing_is_left_out() -> None:
    assert look().services_link == 0


@pytest.mark.usefixtures("services_link")
def test_a_link_by_another_name_is_the_nodes() -> None:
    ip("addr add 10.96.7.7/32 dev kube-ipvs0")
    ip("link set kube-ipvs0 name kube-ipvs1")
    try:
        assert "10.96.7.7" in local_addresses()
    finally:
        ip("link del kube-ipvs1")


def addresses_of_services(count: int, verb: str) -> None:
    lines = "".join(
        f"addr {verb} 10.96.{n >> 8}.{n & 255}/32 dev kube-ipvs0\n" for n in range(count)
    )
    subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)


def told(messages: queue.SimpleQueue[Message], address: str) -> frozenset[str]:
    """The addresses, as soon as they hold this one."""
    while True:
        message = messages.get(timeout=PATIENCE_SECONDS)
        assert isinstance(message, LocalAddresses)
        if address in message.addresses:
            return message.addresses


@pytest.mark.usefixtures("services_link")
def test_what_happens_to_addresses_of_services_costs_no_look() -> None:
    watch = AddressWatch()
    try:
        assert not watch._is_news()
        addresses_of_services(100, "add")
        addresses_of_services(100, "del")
        assert not watch._is_news()
        addresses_of_services(1, "add")
        ip("addr add 192.0.2.1/32 dev left")
        addresses_of_services(1, "del")
        assert watch._is_news()
        assert not watch._is_news()
    finally:
        watch.start(queue.SimpleQueue())
        watch.stop()


def test_a_link_that_comes_later_is_left_out_as_well() -> None:
    watch = AddressWatch()
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    watch.start(messages)
    try:
        ip("link add kube-ipvs0 type veth peer name other")
        addresses_of_services(20, "add")
        ip("addr add 192.0.2.1/32 dev left")
        found = told(messages, "192.0.2.1")
        assert not any(address.startswith("10.96.") for address in found)
    finally:
        watch.stop()
        ip("link del kube-ipvs0")
