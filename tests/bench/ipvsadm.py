"""What does `ipvsadm --restore` read of the same virtual and real servers? Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from modes.ipvs.servers import Command, Verb

RESTORE = ("ipvsadm", "--restore")
SAVE = ("ipvsadm", "--save", "--numeric")

_SERVICE = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}


def lines(commands: Iterable[Command]) -> Iterator[str]:
    """One for each new server, as `ipvsadm --save --numeric` spells what it led to.

    For IPv4, and virtual servers that are known by an address and have neither persistence nor
    flags.
    """
    for verb, key, server, real, weight in commands:
        service = f"{_SERVICE[key.protocol]} {key.address}:{key.port}"
        if verb is Verb.NEW_SERVER and server is not None:
            yield f"-A {service} -s {server.scheduler}"
        elif verb is Verb.NEW_REAL and real is not None:
            yield f"-a {service} -r {real} -m -w {weight}"
        else:
            raise ValueError(f"nothing new: {verb.name} {key}")
