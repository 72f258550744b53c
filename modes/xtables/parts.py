"""What does a table hold that iptables-nft-save does not print, for rules of nft are in it? Pure.

But for the program that it is given to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from endpoints.names import Family
from modes.base import Tell
from modes.xtables import opaque
from modes.xtables.answers import Answer


class Parts:
    """Reads such tables chain by chain, and tells once which chains iptables cannot say."""

    def __init__(self, tell: Tell) -> None:
        """Nothing was told yet."""
        self._tell = tell
        self._told: dict[tuple[Family, str], list[str]] = {}

    def forget(self, family: Family, table: str) -> None:
        """The table can be read as a whole."""
        self._told.pop((family, table), None)

    def saved(
        self,
        family: Family,
        table: str,
        rules: Mapping[str, Sequence[bytes]],
        restore: Callable[[str], Answer],
        require: Callable[[Answer], None],
    ) -> str:
        """The table as iptables-save would print it; what it cannot say, as `opaque` says it.

        `rules`: of each chain, as nf_tables dumps them. `restore` gives a text to iptables-restore;
        `require` raises what its answer means.
        """
        asked = [chain for chain in rules if opaque.is_asked_for(chain)]
        read = set(asked)
        printed, unread = "", []
        while asked:
            answer = restore(opaque.question(table, asked))
            printed += answer.output
            asked = opaque.unanswered(asked, answer.output)
            if not asked or "is incompatible" not in answer.errors:
                require(answer)
                break
            unread.append(asked.pop(0))
        self._tell_of(family, table, unread)
        return opaque.saved(table, printed, rules, read.difference(unread, asked))

    def _tell_of(self, family: Family, table: str, unread: list[str]) -> None:
        if self._told.get((family, table)) == unread:
            return
        self._told[family, table] = unread
        self._tell(
            "Rules of nft in a table of iptables",
            family=family,
            table=table,
            chains=", ".join(unread) or "others' own",
            reason="iptables cannot read them: they belong in a table of their own",
        )
