"""What do the kernel's own tools print of rules that we do not read ourselves?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from endpoints.names import Family
from modes.tracing.counted import Counts, counts

_SECONDS = 10.0
_HANDLE = re.compile(r"^\s*(.*) # handle (\d+)$", re.MULTILINE)
_COUNTER = re.compile(r"\bcounter packets \d+ bytes \d+ ?")
_NET, _LOG = Path("/proc/thread-self/net"), Path("/proc/sys/net/netfilter/nf_log")
_LEGACY = {Family.IPV4: "ip_tables_names", Family.IPV6: "ip6_tables_names"}
_LOGGER = {Family.IPV4: "2", Family.IPV6: "10"}  # NFPROTO_IPV4, NFPROTO_IPV6
_SAVE = {Family.IPV4: "iptables-legacy-save", Family.IPV6: "ip6tables-legacy-save"}


def nft_rules(family: str, table: str, chain: str) -> dict[int, str]:
    """The rules of a chain by handle, as nft prints them; none without that program."""
    printed = _printed(["nft", "-a", "list", "chain", family, table, chain])
    return {
        int(handle): " ".join(_COUNTER.sub("", text).split())
        for text, handle in _HANDLE.findall(printed)
    }


def legacy_counts(of: Family) -> Counts:
    """What the rules of iptables-legacy counted that drop; none without rules or the program."""
    return counts(_printed([_SAVE[of], "-c"])) if has_legacy_tables(of) else {}


def has_legacy_tables(of: Family) -> bool:
    """Whether this network namespace has tables of iptables-legacy."""
    return bool(_read(_NET / _LEGACY[of]))


def would_fill_the_log(of: Family) -> bool:
    """Whether iptables-legacy writes to the kernel's log each rule that a traced packet passes."""
    return has_legacy_tables(of) and _read(_LOG / _LOGGER[of]) not in ("", "NONE")


def _read(path: Path) -> str:
    """The text of a file; empty where the kernel has no such."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _printed(command: Sequence[str]) -> str:
    """What a program prints; empty if it is not there, or has nothing to say in time."""
    if not shutil.which(command[0]):
        return ""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout
