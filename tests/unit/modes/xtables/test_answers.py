"""Are iptables' words understood, in the spellings of its variants and versions?"""

from __future__ import annotations

import pytest

from modes.xtables.answers import Answer, Progress

HELP = "Try `iptables-restore -h' or 'iptables-restore --help' for more information.\n"
SAID = [
    (
        f"iptables-restore v1.8.9 (legacy): Couldn't load match `x':No such file or directory\n\nError occurred at line: 3\n{HELP}",
        3,
        "Couldn't load match `x':No such file or directory",
    ),
    ("iptables-restore: line 7 failed\n", 7, "the kernel does not take it"),
    (
        "iptables-nft-restore: line 3 failed: No chain/target/match by that name.\n",
        3,
        "No chain/target/match by that name.",
    ),
    (
        "iptables-nft-restore v1.8.9 (nf_tables): \nline 5: RULE_APPEND failed (Too many links): rule in chain A\nline 6: RULE_APPEND failed (Too many links): rule in chain B\n",
        5,
        "RULE_APPEND failed (Too many links): rule in chain A; RULE_APPEND failed (Too many links): rule in chain B",
    ),
    (
        f"ip6tables-restore v1.8.9 (legacy): host/network `line 9' not found\nError occurred at line: 2\n{HELP}",
        2,
        "host/network `line 9' not found",
    ),
    ("iptables-restore: COMMIT expected at line 3\n", 3, "COMMIT expected at line 3"),
    ("# Warning: iptables-legacy tables present\n", None, "it ended with status 1 and no word"),
]


@pytest.mark.parametrize(("errors", "line", "reason"), SAID)
def test_refusals(errors: str, line: int | None, reason: str) -> None:
    answer = Answer(1, "", errors)
    assert (answer.line, answer.reason) == (line, reason)
    assert not answer.missed_the_lock
    assert not answer.lacks_privilege
    assert (answer.lacks_table, answer.lacks_nf_tables) == ("", False)


def test_faults_of_the_machine() -> None:
    lock = "Another app is currently holding the xtables lock. Stopped waiting after 5s.\n"
    assert Answer(4, "", lock).missed_the_lock
    assert not Answer(0, "", lock).missed_the_lock
    root = "Could not fetch rule set generation id: Permission denied (you must be root)\n"
    assert Answer(4, "", root).lacks_privilege
    for words in (
        "iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat'\n",
        "iptables v1.8.9 (legacy): can't initialize iptables table `nat': Table does not exist\n",
    ):
        assert Answer(2, "", words).lacks_table == "nat"
    assert Answer(4, "", "line 1: TABLE_ADD failed (Operation not supported)\n").lacks_nf_tables


BLOCK = "*nat\n-A X -j Y\nCOMMIT\n"


@pytest.mark.parametrize("committed", [0, 1, 2])
def test_progress(committed: int) -> None:
    """Every line of the rest has the number that it had, however often the lock was missed."""
    text = BLOCK + BLOCK.replace("nat", "filter") + BLOCK.replace("nat", "raw") + "# end\n"
    progress = Progress(text)
    for _ in range(committed):
        progress.advance("# committed\n")
    rest = progress.rest.split("\n")
    assert rest[0] == ("*nat", "*filter", "*raw")[committed]
    lines = text.split("\n")
    for number, line in enumerate(rest, 1):
        original = progress.original_line(number)
        if line != "# committed":
            assert original is not None
            assert lines[original - 1] == line
    assert progress.original_line(None) is None
    both = Progress(text)
    both.advance("# committed\n" * committed)
    assert both.rest == progress.rest
