"""Which rules does python-iptables find in a legacy table?

It is asked in a process of its own for each family: extensions of iptables that one process loaded
for IPv4 are not found for IPv6.
"""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_address, ip_network
from typing import Any

import iptc
import msgspec

from endpoints.addresses import bracketed
from endpoints.names import Family
from modes.xtables.rules import CERTAIN, ChainName, Mark, Rule, SetMatch

Told = dict[str, Any]
"""A rule as python-iptables tells it: fields of the header, and a dictionary for each extension."""


def rules_of(family: Family, chain: ChainName) -> list[Rule]:
    """The rules of a chain, in this network."""
    command = [sys.executable, "-m", __name__, family, chain.table, chain.name]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return [_rule(told) for told in msgspec.json.decode(done.stdout, type=list[Told])]


def _rule(told: Told) -> Rule:
    """All that is told of a rule is taken out of it; nothing may be left."""
    fields: dict[str, Any] = {"protocol": told.pop("protocol", "").replace("icmpv6", "ipv6-icmp")}
    for key, field in (("src", "source"), ("dst", "destination"), ("in-interface", "in_interface")):
        if key in told:
            value = told.pop(key)
            if value.startswith("!"):
                fields["inverted"] = field
            value = value.lstrip("!")
            fields[field] = value if key == "in-interface" else str(ip_network(value))
    _matches(told, fields)
    target = told.pop("target", "")
    if isinstance(target, str):
        fields["target"] = target
    else:
        ((fields["target"], options),) = target.items()
        _target(options, fields)
    assert told == {"counters": [0, 0]}
    return Rule(**fields)


def _matches(told: Told, fields: dict[str, Any]) -> None:
    if "comment" in told:
        fields |= told.pop("comment")
    if "conntrack" in told:
        states, fields["ct_state_inverted"] = _sign(told.pop("conntrack")["ctstate"])
        fields["ct_state"] = tuple(sorted(states.split(",")))
    if "addrtype" in told:
        fields |= {key.replace("-", "_"): value for key, value in told.pop("addrtype").items()}
    if "mark" in told:
        mark, fields["mark_inverted"] = _sign(told.pop("mark")["mark"])
        fields["mark"] = _mark(mark)
    if fields["protocol"] in told:
        fields["destination_port"] = int(told.pop(fields["protocol"])["dport"])
    if "set" in told:
        sets = told.pop("set")
        sets = sets if isinstance(sets, list) else [sets]
        fields["sets"] = tuple(_set(match["match-set"]) for match in sets)
    if "statistic" in told:
        statistic = told.pop("statistic")
        assert statistic["mode"] == "random"
        fields["probability"] = round(float(statistic["probability"]) * CERTAIN)
    if "recent" in told:
        recent = told.pop("recent")
        assert recent.keys() & {"set", "rcheck"} == {"rcheck" if "seconds" in recent else "set"}
        fields |= {"recent": recent["name"], "recent_seconds": int(recent.get("seconds", 0))}


def _sign(value: str | list[str]) -> tuple[str, bool]:
    return (value, False) if isinstance(value, str) else (value[1], True)


def _set(words: list[str]) -> SetMatch:
    *sign, name, directions = words
    return SetMatch(name, directions, inverted=sign == ["!"])


def _mark(text: str) -> Mark:
    value, _, mask = text.partition("/")
    return Mark(int(value, 0), int(mask or "0xffffffff", 0))


def _target(options: str | dict[str, Any], fields: dict[str, Any]) -> None:
    if isinstance(options, str):
        assert fields["target"] == "goto"
        fields |= {"target": options, "goto": True}
        return
    if "set-xmark" in options:
        fields["set_mark"] = _mark(options.pop("set-xmark"))
    if "map-set" in options:
        assert options.pop("map-mark") == ""
        fields["map_mark_of"] = _set(options.pop("map-set"))
    if "random-fully" in options:
        fields["random_fully"] = options.pop("random-fully") == ""
    if "to-destination" in options:
        address, _, port = options.pop("to-destination").rpartition(":")
        fields["to_destination"] = f"{bracketed(str(ip_address(address.strip('[]'))))}:{port}"
    fields |= {key.replace("-", "_"): value for key, value in options.items()}


if __name__ == "__main__":
    asked_family, asked_table, asked_chain = sys.argv[1:]
    held = iptc.easy.dump_chain(asked_table, asked_chain, ipv6=asked_family == Family.IPV6)
    sys.stdout.buffer.write(msgspec.json.encode(held))
