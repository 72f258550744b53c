"""How are the matches and statements of a rule spelled as nf_tables expressions, and read? Pure.

Each function gives the bytes of one expression. Registers are counted in words of four bytes
(0 to 15), since concatenated keys are laid out word by word. Attributes stand in the order in
which the kernel dumps them, so that a rule that was read back compares equal.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache

from modes.nftables.netlink import (
    NFTA_DATA_VALUE,
    NFTA_DATA_VERDICT,
    NFTA_EXPR_DATA,
    NFTA_EXPR_NAME,
    NFTA_LIST_ELEM,
    NFTA_VERDICT_CHAIN,
    NFTA_VERDICT_CODE,
    attr,
    attributes,
    be32,
    be64,
    nested,
    pad,
    text,
)

NFT_JUMP, NFT_GOTO, NFT_RETURN = -3, -4, -5
NF_DROP, NF_ACCEPT = 0, 1
META_IIFNAME, META_OIFNAME, META_L4PROTO = 6, 7, 16
CT_STATUS, CT_PROTO_DST, CT_DST_IP, CT_DST_IP6 = 2, 12, 20, 22
IPS_DST_NAT = 1 << 5
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
CMP_EQ, CMP_NEQ = 0, 1
IFNAMSIZ = 16
RTN_LOCAL = 2
FIB_SADDR, FIB_DADDR = 1, 2
FIB_RESULT_TYPE = 3
RANDOM_FULLY = 1 << 4
NUMGEN_RANDOM, NAT_DESTINATION, REJECT_TCP_RESET = 1, 1, 1
_VERDICT_REGISTER = 0
_CODES = {"drop": NF_DROP, "accept": NF_ACCEPT, "return": NFT_RETURN}


@lru_cache(maxsize=4096)
def native32(value: int) -> bytes:
    """A 32-bit integer in host order, as registers hold marks, slots and conntrack bits."""
    return value.to_bytes(4, sys.byteorder)


def register(word: int) -> int:
    """The register that starts at this word; the kernel names aligned ones by their old names."""
    return 1 + word // 4 if word % 4 == 0 else 8 + word


def expression(name: str, *data: bytes) -> bytes:
    """One expression of a rule."""
    return nested(NFTA_LIST_ELEM, text(NFTA_EXPR_NAME, name), nested(NFTA_EXPR_DATA, *data))


def verdict_data(verdict: str) -> bytes:
    """The attribute of a verdict: `drop`, `return`, `goto CHAIN`, `jump CHAIN`."""
    word, _, chain = verdict.partition(" ")
    code = _CODES[word] if not chain else NFT_GOTO if word == "goto" else NFT_JUMP
    parts = [attr(NFTA_VERDICT_CODE, code.to_bytes(4, "big", signed=True))]
    if chain:
        parts.append(text(NFTA_VERDICT_CHAIN, chain))
    return nested(NFTA_DATA_VERDICT, *parts)


def verdict(text_form: str) -> bytes:
    """An unconditional verdict."""
    return expression("immediate", be32(1, _VERDICT_REGISTER), nested(2, verdict_data(text_form)))


def payload(base: int, offset: int, length: int, word: int) -> bytes:
    """Load `length` bytes of a header."""
    return expression(
        "payload", be32(1, register(word)), be32(2, base), be32(3, offset), be32(4, length)
    )


def meta(key: int, word: int) -> bytes:
    """Load what the kernel knows of the packet."""
    return expression("meta", be32(2, key), be32(1, register(word)))


def ct(key: int, word: int, *, original: bool = False) -> bytes:
    """Load a property of the packet's flow, of its original direction if asked."""
    direction = (attr(3, b"\0"),) if original else ()
    return expression("ct", be32(1, register(word)), be32(2, key), *direction)


def cmp(operator: int, word: int, value: bytes) -> bytes:
    """Continue if the register compares to the value."""
    data = nested(3, attr(NFTA_DATA_VALUE, value))
    return expression("cmp", be32(1, register(word)), be32(2, operator), data)


def bitwise_and(word: int, mask: bytes) -> bytes:
    """Mask a register in place."""
    zero = bytes(len(mask))
    return expression(
        "bitwise",
        be32(1, register(word)),
        be32(2, register(word)),
        be32(3, len(mask)),
        be32(6, 0),
        nested(4, attr(NFTA_DATA_VALUE, mask)),
        nested(5, attr(NFTA_DATA_VALUE, zero)),
    )


def lookup(set_name: str, word: int, *, to: int | None = None, invert: bool = False) -> bytes:
    """Continue if the key is (not) in the set; of a map, load its data to the word `to`."""
    target = (be32(3, register(to)),) if to is not None else ()
    return expression(
        "lookup", text(1, set_name), be32(2, register(word)), *target, be32(5, int(invert))
    )


def vmap(set_name: str, word: int) -> bytes:
    """Take the verdict of the key, if the map has one."""
    return expression(
        "lookup",
        text(1, set_name),
        be32(2, register(word)),
        be32(3, _VERDICT_REGISTER),
        be32(5, 0),
    )


def numgen_random(modulus: int, offset: int, word: int) -> bytes:
    """Load a random number from `offset` to `offset + modulus - 1`, in host order."""
    return expression(
        "numgen", be32(1, register(word)), be32(2, modulus), be32(3, NUMGEN_RANDOM), be32(4, offset)
    )


def dnat(nfproto: int, address: int, port: int) -> bytes:
    """Translate the destination to the address and port in these words."""
    low, high = register(address), register(port)
    return expression(
        "nat",
        be32(1, NAT_DESTINATION),
        be32(2, nfproto),
        be32(3, low),
        be32(4, low),
        be32(5, high),
        be32(6, high),
        be32(7, 1 << 0 | 1 << 1),
    )


def masquerade() -> bytes:
    """Translate the source to the outgoing interface's address, `fully-random` in its port."""
    return expression("masq", be32(1, RANDOM_FULLY))


def reject_tcp_reset() -> bytes:
    """Answer with a TCP reset."""
    return expression("reject", be32(1, REJECT_TCP_RESET))


def reject_port_unreachable(code: int) -> bytes:
    """Answer with ICMP or ICMPv6 port unreachable, whose code (3 or 4) the caller knows."""
    return expression("reject", be32(1, 0), attr(2, bytes((code,))))


def fib_type(flag: int, word: int) -> bytes:
    """Load the routing type (RTN_*) of the packet's source or destination address."""
    return expression("fib", be32(1, register(word)), be32(2, FIB_RESULT_TYPE), be32(3, flag))


def update(set_name: str, key: int, data: int, timeout_seconds: int) -> bytes:
    """Put the key with this data into a dynamic map, or renew its time there."""
    return expression(
        "dynset",
        be32(4, register(key)),
        be32(5, register(data)),
        be32(3, 1),
        be64(6, timeout_seconds * 1000),
        text(1, set_name),
        be32(9, 0),
    )


def rule_holds(wanted: Sequence[bytes], found: Sequence[bytes]) -> bool:
    """Whether the kernel's rule says all that ours says.

    Attributes are compared without their order: newer kernels may add some of their own.
    """
    return len(wanted) == len(found) and all(
        expression_parts(ours).items() <= expression_parts(theirs).items()
        for ours, theirs in zip(wanted, found, strict=True)
    )


def expression_parts(encoded: bytes) -> dict[int | str, bytes]:
    """The name of an expression, and its attributes by number."""
    body = dict(attributes(encoded[4:]))
    parts: dict[int | str, bytes] = {"name": body.get(NFTA_EXPR_NAME, b"").rstrip(b"\0")}
    for kind, payload in attributes(body.get(NFTA_EXPR_DATA, b"")):
        parts[kind] = _without_flags(payload)
    return parts


def _without_flags(payload: bytes) -> bytes:
    """Nested data alike whether or not a kernel marks it as nested."""
    parts = list(attributes(payload))
    if len(payload) > 4 and sum(4 + len(pad(p)) for _, p in parts) == len(payload):  # noqa: PLR2004 (a header)
        return b"".join(attr(kind, _without_flags(part)) for kind, part in parts)
    return payload
