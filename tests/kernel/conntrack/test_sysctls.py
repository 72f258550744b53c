"""Does a network namespace take its timeouts, and is it told what only the machine can set?"""

from __future__ import annotations

from pathlib import Path

import pytest

from conntrack.settings import ConntrackSettings
from conntrack.sysctls import settle

NETFILTER = Path("/proc/sys/net/netfilter")
MAX = NETFILTER / "nf_conntrack_max"
PREFIX = "net.netfilter.nf_conntrack_"


def number(name: str) -> int:
    return int((NETFILTER / f"nf_conntrack_{name}").read_text())


@pytest.mark.usefixtures("network")
def test_timeouts_are_those_of_the_network_namespace(tmp_path: Path) -> None:
    # Also to root: the size of the table is not this namespace's.
    assert not MAX.stat().st_mode & 0o222
    most = number("max")
    asked = ConntrackSettings(
        max_per_core=most + 1,
        min=0,
        tcp_close_wait_seconds=77,
        tcp_be_liberal=True,
        udp_seconds=33,
        udp_stream_seconds=1,
        asked=frozenset({"max_per_core", "min", "udp_seconds", "udp_stream_seconds"}),
    )
    settled = settle(asked, 1, hash_size=tmp_path / "none")
    assert settled.written == {
        f"{PREFIX}tcp_timeout_close_wait": "77",
        f"{PREFIX}tcp_be_liberal": "1",
        f"{PREFIX}udp_timeout": "33",
        f"{PREFIX}udp_timeout_stream": "1",
    }
    assert (number("tcp_timeout_close_wait"), number("udp_timeout")) == (77, 33)
    assert (number("udp_timeout_stream"), number("tcp_be_liberal")) == (1, 1)
    assert number("tcp_timeout_established") == 432_000  # the default would have been less
    (warning,) = settled.warnings
    assert warning == (
        f"settings of conntrack stay as they are: {PREFIX}max is not set to {most + 1} "
        "(Permission denied)"
    )
    assert number("max") == most


@pytest.mark.usefixtures("network")
def test_a_kernel_that_has_enough_is_not_written_to(tmp_path: Path) -> None:
    enough = ConntrackSettings(max_per_core=1, min=0, tcp_close_wait_seconds=1)
    hash_size = tmp_path / "hash"
    hash_size.write_text("1")
    settled = settle(enough, 1, hash_size=hash_size)
    assert (settled.written, settled.warnings) == ({}, ())
