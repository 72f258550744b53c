"""Where do the tests of this folder work? In a network of their own, each."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from modes.base import EnvironmentFault
from modes.ipvs.kernel import Ipset, Ipvs
from modes.ipvs.links import Link
from tests.lab import namespaces, sandbox
from tests.lab.modes import NO_IPVS


@pytest.fixture
def network() -> Iterator[None]:
    """A network with nothing in it but `lo`, which is up: without any address none is local."""
    with sandbox.own_network():
        namespaces.loopback_up()
        yield


@pytest.fixture
def ipvs(network: None) -> Iterator[Ipvs]:  # noqa: ARG001
    """A connection to IPVS."""
    try:
        made = Ipvs()
    except EnvironmentFault:
        pytest.skip(NO_IPVS)
    yield made
    made.close()


@pytest.fixture
def ipset(network: None) -> Iterator[Ipset]:  # noqa: ARG001
    """A connection to ipset."""
    made = Ipset()
    yield made
    made.close()


@pytest.fixture
def link(network: None) -> Iterator[Link]:  # noqa: ARG001
    """The link; where the kernel has no dummy links, one of another type, that is down as well."""
    made = Link()
    try:
        made.ensure()
    except EnvironmentFault:
        command = ["ip", "link", "add", "kube-ipvs0", "type", "veth", "peer", "name", "unused"]
        subprocess.run(command, check=True)
    yield made
    made.close()
