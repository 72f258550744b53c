"""Which text stands for a rule? Pure.

Both ways; `script` makes whole tables of it. What is written is character for
character what `iptables-save` 1.8.9 prints for it, the same in its legacy and its nft variant, so
that rules which did not change are equal as strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from endpoints.addresses import pack
from endpoints.names import Family
from modes.xtables.options import (
    ALL_BITS,
    CONDITIONS,
    CT_STATES,
    MATCHES,
    NOTES,
    OPTIONS,
    PORT_UNREACHABLE,
    PORTS,
    WAYS,
    WHOLE_ADDRESS,
    WITH_PORTS,
    Option,
)
from modes.xtables.rules import CERTAIN, REJECT, Rule, SetMatch

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"(?!\S)|([^"\s]+)(?!\S)|(\S)')
_DOTTED_WORDS = 6
"""16-bit words of an IPv6 address before those that may be printed as an IPv4 address."""


class Unreadable(ValueError):
    """A rule that `Rule` cannot hold: it is nobody's that writes kube-proxy's rules."""


def spec(rule: Rule, family: Family) -> str:
    """What follows `-A CHAIN ` in the text of a rule.

    First what the header of the packet decides, then conditions, then those that count or
    remember what came so far (the kernel evaluates matches in their order), then the target.
    """
    words: list[str] = []
    _header(rule, family, words)
    if rule.comment:
        words.append(f"-m comment --comment {_quoted(rule.comment)}")
    if rule.ct_state or rule.src_type or rule.dst_type or rule.mark is not None:
        _conditions(rule, words)
    if rule.destination_port:
        words.append(f"-m {rule.protocol} --dport {rule.destination_port}")
    if rule.is_by_ipvs:
        words.append("-m ipvs --ipvs")
    for match in rule.sets:
        sign = "! " if match.inverted else ""
        words.append(f"-m set {sign}--match-set {match.name} {match.directions}")
    if rule.probability:
        words.append(f"-m statistic --mode random --probability {rule.probability / CERTAIN:.11f}")
    if rule.recent:
        _recent(rule, family, words)
    if rule.counter:
        words.append(f"-m nfacct --nfacct-name  {rule.counter}")  # the two spaces are iptables'
    if rule.target:
        words.append(f"{'-g' if rule.goto else '-j'} {rule.target}")
        _target(rule, family, words)
    return " ".join(words)


def _header(rule: Rule, family: Family, words: list[str]) -> None:
    if rule.source:
        words.append(_not(rule, "source") + "-s " + _printed(rule.source, family))
    if rule.destination:
        words.append(_not(rule, "destination") + "-d " + _printed(rule.destination, family))
    if rule.in_interface:
        words.append(_not(rule, "in_interface") + "-i " + rule.in_interface)
    if rule.protocol:
        words.append(f"-p {rule.protocol}")


def _not(rule: Rule, field: str) -> str:
    return "! " if rule.inverted == field else ""


def _conditions(rule: Rule, words: list[str]) -> None:
    if rule.ct_state:
        states = ",".join(state for state in CT_STATES if state in rule.ct_state)
        words.append(f"-m conntrack {'! ' if rule.ct_state_inverted else ''}--ctstate {states}")
    if rule.src_type or rule.dst_type:
        words.append("-m addrtype")
        if rule.src_type:
            words.append(f"--src-type {rule.src_type}")
        if rule.dst_type:
            words.append(f"--dst-type {rule.dst_type}")
    if rule.mark is not None:
        mask = "" if rule.mark.mask == ALL_BITS else f"/{rule.mark.mask:#x}"
        words.append(
            f"-m mark {'! ' if rule.mark_inverted else ''}--mark {rule.mark.value:#x}{mask}"
        )


def _recent(rule: Rule, family: Family, words: list[str]) -> None:
    what = f"--rcheck --seconds {rule.recent_seconds} --reap" if rule.recent_seconds else "--set"
    words.append(f"-m recent {what} --name {rule.recent} --mask {WHOLE_ADDRESS[family]} --rsource")


def _target(rule: Rule, family: Family, words: list[str]) -> None:
    if rule.to_destination:
        words.append("--to-destination " + _printed(rule.to_destination, family))
    elif rule.reject_with:
        words.append("--reject-with " + rule.reject_with)
    elif rule.set_mark is not None:
        words.append(f"--set-xmark {rule.set_mark.value:#x}/{rule.set_mark.mask:#x}")
    elif rule.map_mark_of is not None:
        words.append(f"--map-set {rule.map_mark_of.name} {rule.map_mark_of.directions} --map-mark")
    elif rule.random_fully:
        words.append("--random-fully")


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    return '"' + re.sub(r"[\"'\\]", r"\\\g<0>", text) + '"'


def _printed(place: str, family: Family) -> str:
    """An address with what is around it (`[…]:8080`, `…/128`) as the C library prints it."""
    if family is Family.IPV6 and place.startswith(("::", "[::")):
        return _with_dots(place)
    return place


@lru_cache(maxsize=4096)
def _with_dots(place: str) -> str:
    """Addresses that begin with 96 zero bits, or end such a prefix of ffff, hold an IPv4 one."""
    address = re.split(r"[\]/]", place.removeprefix("["), maxsplit=1)[0]
    words = [int.from_bytes(pack(address)[at : at + 2], "big") for at in range(0, 16, 2)]
    zeros = next((at for at, word in enumerate(words) if word), len(words))
    mapped = zeros == _DOTTED_WORDS - 1 and words[zeros] == 0xFFFF  # noqa: PLR2004 (RFC 4291)
    if zeros != _DOTTED_WORDS and not mapped:
        return place
    octets = ".".join(str(octet) for octet in pack(address)[-4:])
    return place.replace(address, f"::{'ffff:' if mapped else ''}{octets}")


def parse(text: str, family: Family) -> Rule:
    """The rule whose text follows `-A CHAIN `.

    Understands what `spec` writes, and kube-proxy's own spellings of the same: options in any
    order, `-m tcp` without a port (the header says tcp already), `--or-mark`, no `--reject-with`.
    Raises Unreadable.
    """
    draft = _Draft(family)
    words = _words(text)
    try:
        for word in words:
            if word == "-m":
                draft.load(next(words))
            elif word == "!":
                draft.take(next(words), words, negated=True)
            else:
                draft.take(word, words, negated=False)
        return draft.rule()
    except StopIteration:
        raise Unreadable(f"{text!r} ends where a value belongs") from None
    except ValueError as reason:
        raise Unreadable(f"{text!r}: {reason}") from None


def _words(text: str) -> Iterator[str]:
    if '"' not in text:
        return iter(text.split())
    return iter([_word(found) for found in _WORD.finditer(text)])


def _word(found: re.Match[str]) -> str:
    quoted, bare, stray = found.groups()
    if stray is not None:
        raise Unreadable(f"{found.string!r}: a quote is not closed, or inside a word")
    return re.sub(r"\\(.)", r"\1", quoted) if bare is None else bare


class _Draft:
    """A rule while it is read."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._loaded = {""}
        self._fields: dict[str, Any] = {}
        self._notes: set[str] = set()
        self._sets: list[SetMatch] = []
        self._had_effect = False

    def load(self, extension: str) -> None:
        """`-m` and a name."""
        if extension not in MATCHES:
            raise ValueError(f"-m {extension} is not known")
        self._loaded.add(PORTS if extension in WITH_PORTS else extension)

    def take(self, word: str, words: Iterator[str], *, negated: bool) -> None:
        """One option with its value. Raises ValueError, StopIteration."""
        option = OPTIONS.get(word)
        if option is None or option.extension not in self._loaded:
            raise ValueError(f"{word} is not known here")
        value = option.value(words, self._family)
        if option.field == "sets" and isinstance(value, SetMatch):
            self._keep_order(word, option)
            self._sets.append(msgspec.structs.replace(value, inverted=negated))
            return
        if option.field in self._fields or option.field in self._notes:
            raise ValueError(f"{word} says a second time what a rule can hold once")
        self._keep_order(word, option)
        if option.field in NOTES:
            self._notes.add(option.field)
        elif value != "":
            self._fields[option.field] = value
        if negated:
            self._negate(word, option, value)
        if word == "-j":
            self._loaded.add(str(value))
        elif word == "-p" and value in WITH_PORTS:
            self._loaded.add(PORTS)
        elif word == "-g":
            self._fields["goto"] = True

    def _keep_order(self, word: str, option: Option) -> None:
        """A packet is counted and remembered if all matches *before* let it pass."""
        if word in {"--set", "--nfacct-name"}:
            self._had_effect = True
        elif self._had_effect and (option.extension in CONDITIONS or word == "--rcheck"):
            raise ValueError(f"{word} comes after a match that counts or remembers")

    def _negate(self, word: str, option: Option, value: object) -> None:
        if option.negated is None or value == "" or option.negated[0] in self._fields:
            raise ValueError(f"! {word} is not known here")
        field, meaning = option.negated
        self._fields[field] = meaning

    def rule(self) -> Rule:
        """What was read, if a rule can hold it. Raises ValueError."""
        fields, notes = self._fields, self._notes
        if self._sets:
            fields["sets"] = tuple(self._sets)
        said = fields.keys() | notes
        for extension, ways in WAYS.items():
            if extension in self._loaded and said & frozenset().union(*ways) not in ways:
                raise ValueError(f"{extension} with these options is not known")
        if "destination_port" in fields and fields.get("protocol") not in WITH_PORTS:
            raise ValueError("--dport without -p")
        if fields.get("target") == REJECT:
            fields.setdefault("reject_with", PORT_UNREACHABLE[self._family])
        return Rule(**fields)
