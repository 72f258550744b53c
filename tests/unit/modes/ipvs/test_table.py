"""Is the kernel's list of virtual servers read as it is meant, and nothing guessed?"""

from __future__ import annotations

import pytest

from endpoints.names import Family, Protocol
from modes.ipvs.servers import FoundReal, RealServer, ServerKey
from modes.ipvs.table import table

HEAD = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
"""
WEB = """\
TCP  0A600707:0050 rr  persistent 10800 FFFFFFFF
  -> 0AF40103:1F90      Masq    1      12         345       \n\
  -> 0AF40102:1F90      Masq    0      0          0         \n"""
DNS = """\
UDP  [fd00:0010:0096:0000:0000:0000:0000:000a]:0035 lc\x20
  -> [fd00:0010:0244:0000:0000:0000:0000:0002]:0035      Route   3      0          0         \n"""
MARKED = """\
FWM  4B000001 rr\x20
  -> 0AF40102:0000      Masq    1      0          0         \n"""
V4, V6 = Family.IPV4, Family.IPV6
SERVERS = {
    ServerKey(V4, Protocol.TCP, "10.96.7.7", 80): {
        RealServer("10.244.1.3", 8080): FoundReal(1, 12, 345),
        RealServer("10.244.1.2", 8080): FoundReal(0),
    },
    ServerKey(V6, Protocol.UDP, "fd00:10:96::a", 53): {
        RealServer("fd00:10:244::2", 53): FoundReal(3, method=3),
    },
    ServerKey(V4, Protocol.SCTP, "10.96.7.8", 80): {},
}


def lines(text: str) -> list[bytes]:
    return text.encode().splitlines(keepends=True)


def test_all_but_marks_are_read() -> None:
    assert table(lines(HEAD + WEB + DNS + MARKED + "SCTP 0A600708:0050 sh  \n")) == SERVERS


def test_nothing_is_nothing() -> None:
    assert table(lines(HEAD)) == table([]) == {}


@pytest.mark.parametrize(
    "broken",
    [
        WEB.replace("Masq    0", "Portal  0"),
        WEB.replace("Masq    0", "Masq"),
        WEB.replace("0AF40102", "0AF401"),
        WEB.replace("0AF40102", "nowhere"),
        WEB.replace("0A600707", "0A6007"),
        WEB.replace("0A600707:0050", "somewhere"),
        WEB.replace("TCP ", "DCCP"),
    ],
)
def test_one_of_another_form_is_left_out(broken: str) -> None:
    found = table(lines(HEAD + broken + DNS + WEB.replace("0A600707", "0A600709")))
    assert {key.address for key in found} == {"fd00:10:96::a", "10.96.7.9"}
