"""Is the kernel's list of connections read for whom affinity keeps?"""

from __future__ import annotations

import pytest

from endpoints.names import Family, Protocol
from modes.ipvs.persistence import Kept, kept
from modes.ipvs.servers import RealServer, ServerKey

HEAD = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData"
V4 = "TCP CB007109 0000 0A600707 0050 0AF40102 1F90 NONE             87"
V6 = (
    "UDP 20010db8000000000000000000000009 0000 fd00:0010:0096:0000:0000:0000:0000:000a 0035 "
    "fd00:0010:0244:0001:0000:0000:0000:0002 0035 ASSURED          5"
)


def test_templates_are_read() -> None:
    found = list(kept(line.encode() + b"\n" for line in (HEAD, V4, V6)))
    assert found == [
        Kept(
            ServerKey(Family.IPV4, Protocol.TCP, "10.96.7.7", 80),
            "203.0.113.9",
            RealServer("10.244.1.2", 8080),
            87,
        ),
        Kept(
            ServerKey(Family.IPV6, Protocol.UDP, "fd00:10:96::a", 53),
            "2001:db8::9",
            RealServer("fd00:10:244:1::2", 53),
            5,
        ),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "TCP CB007109 C350 0A600707 0050 0AF40102 1F90 ESTABLISHED     899",
        "IP  CB007109 0000 00000000 0000 0AF40102 0000 NONE             87",
        "TCP CB007109 0000 0A600707 0050 0AF40102 1F90 NONE",
        "TCP CB0071 0000 0A600707 0050 0AF40102 1F90 NONE             87",
        "TCP CB007109 0000 0A600707 0050 0AF40102 1F90 NONE             soon",
    ],
)
def test_nothing_else_is(line: str) -> None:
    assert not list(kept([line.encode()]))
