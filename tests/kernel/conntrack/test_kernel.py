"""Does the kernel list what a filter asks for, and forget just the entries that it is told to?"""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from conntrack.flows import Filter, Flow, decode
from conntrack.kernel import Kernel
from endpoints.names import Family
from tests.kernel.conntrack.table import Seen, Table, seen
from tests.unit.conntrack.flowing import TCP, UDP, flow

V4, V6 = Family.IPV4, Family.IPV6
TRACKED = [
    flow("10.96.7.7:53", "10.244.1.2:5353"),
    flow("10.96.7.7:54", "10.244.1.2:5353"),
    flow("10.96.8.8:53", "10.244.1.2:5353"),
    flow("192.168.0.12:8472"),
    flow("10.96.7.7:53", "10.244.1.2:5353", zone=7),
    flow("[fd00:10:96::7]:53", "[fd00:10:244:1::2]:5353"),
    flow("[fd00:10:96::7]:54", "[fd00:10:244:1::2]:5353"),
]


def listed(kernel: Kernel, asked: Filter) -> list[Flow]:
    found = [decode(asked.family, payload) for payload in kernel.dump(asked)]
    return sorted((one for one in found if one is not None), key=lambda one: one.original)


def places(flows: list[Flow]) -> list[str]:
    ends = [(one.original.destination, one.zone) for one in flows]
    return [f"{end.address}:{end.port}" + (f" zone {zone}" if zone else "") for end, zone in ends]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (Filter(V4, UDP, "10.96.7.7", 53), ["10.96.7.7:53", "10.96.7.7:53 zone 7"]),
        (Filter(V4, UDP, None, 8472), ["192.168.0.12:8472"]),
        (Filter(V4, UDP, "10.96.8.8"), ["10.96.8.8:53"]),
        (Filter(V4, UDP, "10.96.9.9", 53), []),
        (Filter(V4, UDP, "10.96.8.8", 53, "203.0.113.7"), ["10.96.8.8:53"]),
        (Filter(V4, UDP, "10.96.8.8", 53, "203.0.113.8"), []),
        (Filter(V4, TCP), []),
        (Filter(V6, UDP, None, 54), ["fd00:10:96::7:54"]),
        (Filter(V6, UDP), ["fd00:10:96::7:53", "fd00:10:96::7:54"]),
        (Filter(V6), ["fd00:10:96::7:53", "fd00:10:96::7:54"]),
    ],
    ids=str,
)
def test_the_kernel_lists_what_the_filter_lets_through(
    kernel: Kernel, table: Table, asked: Filter, found: list[str]
) -> None:
    table.track(TRACKED)
    expected = [place for place in found if table.has_zones or "zone" not in place]
    assert sorted(places(listed(kernel, asked))) == expected


def test_what_is_read_is_what_another_program_reads(kernel: Kernel, table: Table) -> None:
    tracked = table.track(TRACKED)
    for family in Family:
        ours = [
            Seen(one.protocol.lower(), *one.original.destination, *one.reply.source, one.zone)
            for one in listed(kernel, Filter(family))
        ]
        assert sorted(ours) == seen(family.lower())
        assert len(ours) == sum(one.family is family for one in tracked)


def test_just_the_entries_that_are_named_are_forgotten(kernel: Kernel, table: Table) -> None:
    table.track(TRACKED)
    lies = [*listed(kernel, Filter(V4, UDP, "10.96.7.7", 53)), *listed(kernel, Filter(V6))]
    in_zone = [one for one in lies if one.zone == 7]
    assert kernel.delete(in_zone) == len(in_zone) == table.has_zones
    assert len(seen("ipv4")) == 4
    assert kernel.delete(lies) == len(lies) - len(in_zone)  # one is gone already
    assert sorted(places(listed(kernel, Filter(V4)))) == [
        "10.96.7.7:54",
        "10.96.8.8:53",
        "192.168.0.12:8472",
    ]
    assert seen("ipv6") == []
    assert kernel.delete(lies) == 0


def test_another_entry_of_the_same_packets_stays(kernel: Kernel, table: Table) -> None:
    """As far as its id tells, which the kernel makes of the place in memory and the addresses."""
    table.track(TRACKED[:1])
    (there,) = listed(kernel, Filter(V4))
    assert kernel.delete([msgspec.structs.replace(there, id=there.id ^ 1)]) == 0
    assert len(seen("ipv4")) == 1


WITHOUT = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
ASK = """
from conntrack.flows import Filter
from conntrack.kernel import Kernel
from modes.base import NotPermitted
from tests.unit.conntrack.flowing import V4, flow
try:
    {call}
except NotPermitted as fault:
    print(fault)
"""


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("list(Kernel().dump(Filter(V4)))", "list flows"),
        ("Kernel().delete([flow('10.0.0.1:1')])", "forget flows"),
    ],
)
@pytest.mark.usefixtures("network")
def test_without_privilege_it_says_so(call: str, what: str) -> None:
    for prefix, expected in (
        (WITHOUT, f"conntrack does not {what}: CAP_NET_ADMIN is missing\n"),
        ((), ""),
    ):
        command = [*prefix, sys.executable, "-c", ASK.format(call=call)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == (expected, "")
