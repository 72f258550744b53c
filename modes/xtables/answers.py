"""What do iptables' programs mean by their words? Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

_COMMITTED = "# committed"
_MAX_REASONS = 3


class Answer(NamedTuple):
    """How a program ended and what it wrote, in the language C."""

    status: int
    output: str
    errors: str

    @property
    def missed_the_lock(self) -> bool:
        """Whether another program held the xtables lock for as long as this one waited."""
        return bool(self.status) and "xtables lock" in self.errors

    @property
    def line(self) -> int | None:
        """The first line at fault of iptables-restore's input, from 1.

        Where an extension and then the parser complain, the parser's number is the true one.
        """
        found = re.search(r"Error occurred at line: (\d+)", self.errors)
        found = found or re.search(r"(?:^|: |\bat )line (\d+)", self.errors, re.MULTILINE)
        return int(found[1]) if found else None

    @property
    def reason(self) -> str:
        """Its words without its name, its usage and the number of the line."""
        reasons = []
        for line in self.errors.splitlines():
            words = re.sub(r"^\S+ v[\d.]+ \(\w+\): |^ip6?tables\S*: ", "", line).strip()
            if words and not words.startswith(("Error occurred at line", "Try `", "# Warning")):
                reasons.append(re.sub(r"^line \d+( failed)?: ", "", words))
        if len(reasons) > _MAX_REASONS:
            reasons[_MAX_REASONS:] = [f"and {len(reasons) - _MAX_REASONS} more"]
        said = "; ".join(reasons)
        if re.fullmatch(r"line \d+ failed", said):
            return "the kernel does not take it"  # iptables-legacy says no more
        return said or f"it ended with status {self.status} and no word"

    @property
    def lacks_privilege(self) -> bool:
        """Whether it says that only root may do this; iptables-legacy often does not say it."""
        return "you must be root" in self.errors or "Permission denied" in self.errors

    @property
    def lacks_table(self) -> str:
        """The table that iptables-legacy could not get from the kernel."""
        found = re.search(r"initialize (?:\S+ )?table ['`](\w+)'", self.errors)
        return found[1] if found else ""

    @property
    def lacks_nf_tables(self) -> bool:
        """Whether iptables-nft found a kernel that cannot hold its tables."""
        words = ("TABLE_ADD failed", "Failed to initialize nft", "Could not fetch rule set")
        return any(word in self.errors for word in words)


class Progress:
    """A text for iptables-legacy-restore, whose lock may be missed before any of its blocks.

    A block must not be written twice: -I would insert its rules again, and -D would find nothing.
    `--verbose` prints comments as they are reached, so a comment behind each COMMIT tells how far
    a program came.
    """

    def __init__(self, text: str) -> None:
        self._marked = text.replace("\nCOMMIT\n", f"\nCOMMIT\n{_COMMITTED}\n")
        self._start = 0

    @property
    def rest(self) -> str:
        """What is not in the kernel yet."""
        return self._marked[self._start :]

    def advance(self, output: str) -> None:
        """Leave out the blocks that a program's output says are in the kernel."""
        mark = f"\n{_COMMITTED}\n"
        for _ in range(output.splitlines().count(_COMMITTED)):
            self._start = self._marked.index(mark, self._start) + len(mark)

    def original_line(self, line: int | None) -> int | None:
        """Which line of the original text a line of the rest is."""
        if line is None:
            return None
        done = self._marked.count("\n", 0, self._start)
        before = self._marked.split("\n")[: done + line - 1]
        return done + line - before.count(_COMMITTED)
