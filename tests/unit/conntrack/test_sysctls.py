"""Which settings of connection tracking are written, and what is said of those that cannot be?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from conntrack.limits import Wish, buckets, wishes
from conntrack.settings import ConntrackSettings
from conntrack.sysctls import Settled, settle

PREFIX = "net.netfilter.nf_conntrack_"
MAX, LIBERAL = f"{PREFIX}max", f"{PREFIX}tcp_be_liberal"
ESTABLISHED, CLOSE_WAIT = f"{PREFIX}tcp_timeout_established", f"{PREFIX}tcp_timeout_close_wait"
UDP, STREAM = f"{PREFIX}udp_timeout", f"{PREFIX}udp_timeout_stream"
KERNELS_OWN = {MAX: 262144, LIBERAL: 0, ESTABLISHED: 432000, CLOSE_WAIT: 60, UDP: 30, STREAM: 120}
HASH_SIZE = 65536


class Row(NamedTuple):
    settings: ConntrackSettings
    written: Mapping[str, str]
    """On four processors, where the kernel has its own."""


def asked(**fields: int) -> ConntrackSettings:
    """What an operator wrote."""
    liberal = bool(fields.pop("tcp_be_liberal", 0))
    return ConntrackSettings(**fields, tcp_be_liberal=liberal, asked=frozenset(fields))


ROWS = {
    "defaults raise, and lower nothing": Row(ConntrackSettings(), {CLOSE_WAIT: "3600"}),
    "defaults on a large machine": Row(
        ConntrackSettings(max_per_core=100_000),
        {MAX: "400000", "hash": "100000", CLOSE_WAIT: "3600"},
    ),
    "what is asked for is lowered, the number of buckets is not": Row(
        asked(
            max_per_core=10_000,
            min=50_000,
            tcp_established_seconds=86400,
            tcp_close_wait_seconds=30,
        ),
        {MAX: "50000", ESTABLISHED: "86400", CLOSE_WAIT: "30"},
    ),
    "the least, asked for alone": Row(asked(min=200_000), {MAX: "200000", CLOSE_WAIT: "3600"}),
    "0 leaves it": Row(
        asked(max_per_core=0, tcp_established_seconds=0, tcp_close_wait_seconds=0), {}
    ),
    "UDP": Row(
        asked(udp_seconds=10, udp_stream_seconds=300),
        {UDP: "10", STREAM: "300", CLOSE_WAIT: "3600"},
    ),
    "liberal": Row(asked(tcp_be_liberal=1), {LIBERAL: "1", CLOSE_WAIT: "3600"}),
    "more buckets": Row(
        asked(max_per_core=300_000), {MAX: "1200000", "hash": "300000", CLOSE_WAIT: "3600"}
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What /proc/sys is."""
    for name, value in KERNELS_OWN.items():
        file = tmp_path / name.replace(".", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    (tmp_path / "hash").write_text(f"{HASH_SIZE}\n")
    return tmp_path


def run(settings: ConntrackSettings, root: Path) -> Settled:
    return settle(settings, 4, root, root / "hash")


def held(root: Path) -> dict[str, int]:
    names = {name: root / name.replace(".", "/") for name in KERNELS_OWN} | {"hash": root / "hash"}
    return {name: int(file.read_text()) for name, file in names.items() if file.exists()}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_what_differs_from_what_is_wanted_is_written(row: Row, root: Path) -> None:
    settled = run(row.settings, root)
    written = {str(root / "hash") if name == "hash" else name: v for name, v in row.written.items()}
    assert (settled.written, settled.warnings) == (written, ())
    wanted = {name: int(value) for name, value in row.written.items()}
    assert held(root) == KERNELS_OWN | {"hash": HASH_SIZE} | wanted
    assert run(row.settings, root).written == {}


def test_what_cannot_be_written_is_told_in_one_sentence_and_the_rest_is_written(root: Path) -> None:
    """A directory in a file's place: not even root writes into that."""
    for name in (MAX, UDP):
        (root / name.replace(".", "/")).unlink()
    (root / UDP.replace(".", "/")).mkdir()
    settled = run(asked(max_per_core=300_000, udp_seconds=10, udp_stream_seconds=20), root)
    assert settled.written == {STREAM: "20", CLOSE_WAIT: "3600"}
    (warning,) = settled.warnings
    assert warning == (
        f"settings of conntrack stay as they are: {MAX} is not set to 1200000 (No such file or directory); "
        f"{UDP} is not set to 10 (Is a directory)"
    )
    # As many buckets as before: the table did not become larger.
    assert held_hash(root) == HASH_SIZE


def held_hash(root: Path) -> int:
    return int((root / "hash").read_text())


def test_a_hash_table_that_cannot_grow_is_told_and_nothing_else_is_lost(root: Path) -> None:
    (root / "hash").unlink()
    settled = run(asked(max_per_core=300_000), root)
    assert settled.written == {MAX: "1200000", CLOSE_WAIT: "3600"}
    (warning,) = settled.warnings
    assert f"{root / 'hash'} is not set to 300000" in warning


def test_a_kernel_that_has_enough_is_asked_for_nothing(root: Path) -> None:
    """Read-only files are no reason for a warning then: a container often has no others."""
    assert not list(
        wishes(asked(max_per_core=0, tcp_established_seconds=0, tcp_close_wait_seconds=0), 4)
    )
    assert Wish(MAX, 5, exactly=False).to_write(6) is None
    assert Wish(MAX, 5, exactly=True).to_write(5) is None
    assert Wish(MAX, 5, exactly=True).to_write(6) == 5
    assert buckets(262144) == 65536
    settled = run(ConntrackSettings(tcp_close_wait_seconds=60), root)
    assert (settled.written, settled.warnings) == ({}, ())
    (root / "net/netfilter/nf_conntrack_tcp_timeout_close_wait").write_text("70\n")
    settled = run(ConntrackSettings(tcp_close_wait_seconds=60), root)
    assert settled.kept.get(CLOSE_WAIT) == "70"
