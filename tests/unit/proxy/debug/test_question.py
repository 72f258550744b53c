"""Is a place written as the kernel's tools write it, and nothing else taken for one?"""

from __future__ import annotations

import pytest

from endpoints.names import Protocol
from modes.held import Only
from proxy.debug.question import Target, subject, target
from proxy.settings.refusal import ConfigError

ARABIC_80 = "\u0668\u0660"
LONG_S = "\u017f"
"""Its capital letter is an S."""


def test_letters_are_of_either_case() -> None:
    assert target("10.96.7.7:80/sctp") == Target("10.96.7.7", 80, Protocol.SCTP)
    assert target("[FD00::1]:080/Udp") == Target("fd00::1", 80, Protocol.UDP)


@pytest.mark.parametrize(
    "place", [f"10.96.7.7:{ARABIC_80}", f"10.96.7.7:80/{LONG_S}ctp", f"10.96.7.7:{8:05000}"]
)
def test_other_digits_and_letters_are_none(place: str) -> None:
    with pytest.raises(ConfigError) as refused:
        target(place)
    assert str(refused.value) == f"ADDR:PORT[/PROTO]: {place}: must be an address and a port"
    with pytest.raises(ConfigError, match=r"^SERVICE: "):
        subject(place)


def test_a_name_is_one_that_kubernetes_gives() -> None:
    assert subject("shop/pay.eu-1:http-2") == Only(service="shop/pay.eu-1:http-2")
    for name in (f"{LONG_S}hop/pay", "shop/p\x1b[31my", "shop/pay?x", "shop/pay\n"):
        with pytest.raises(ConfigError, match=r"^SERVICE: .*must be namespace/name"):
            subject(name)
