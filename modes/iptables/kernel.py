"""How do rules reach the kernel through the host's own iptables, and what does it answer?

The only file of this mode that starts programs or looks into /proc, /run and the like. All of it
concerns the network namespace of the calling thread.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from endpoints.names import Family
from modes.base import EnvironmentFault, KernelFault, Tell
from modes.iptables.variant import Variant

LOCK_ROUND_SECONDS = 5
"""How long one program waits for the xtables lock before we say so and start it again. A program
that outlives a killed headgate writes nothing after that."""

_LOCK_FILE = "/run/xtables.lock"
_COMMAND = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}
_LEGACY_TABLES = {
    Family.IPV4: Path("/proc/thread-self/net/ip_tables_names"),
    Family.IPV6: Path("/proc/thread-self/net/ip6_tables_names"),
}
_ROUTE_LOCALNET = Path("/proc/sys/net/ipv4/conf/all/route_localnet")
_BE_LIBERAL = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")
_CAP_NET_ADMIN = 12
_MARK = "# committed"
_MAX_REASONS = 3


class Refused(KernelFault):
    """iptables-restore did not take a text.

    Blocks before the one at fault, up to their COMMIT, are in the kernel; what follows is not.
    """

    def __init__(self, line: int | None, reason: str) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.line = line
        """From 1; often the COMMIT of the block, where the kernel refused it as a whole."""
        self.reason = reason


class Programs(NamedTuple):
    """What is installed of one variant for one family."""

    command: str
    restore: str
    save: str


class _Done(NamedTuple):
    status: int
    output: str
    errors: str


class Kernel:
    """iptables in one of its variants.

    Everything raises EnvironmentFault where it is not installed, the process lacks CAP_NET_ADMIN
    or the kernel lacks the variant.
    """

    def __init__(self, variant: Variant, tell: Tell) -> None:
        self.variant = variant
        self._tell = tell
        self._programs: dict[Family, Programs] = {}

    def restore(self, family: Family, text: str) -> float:
        """Give a text to `iptables-restore --noflush`; what it does not mention stays.

        Each block from `*table` to `COMMIT` is one transaction. Returns the seconds for which
        another program kept the xtables lock from us (legacy alone has it): 0 if it was free,
        else all that passed until the rules were in. Waits for ever, and tells so every
        LOCK_ROUND_SECONDS. Raises Refused.
        """
        programs = self._installed(family)
        if self.variant is Variant.NFT:
            self._require(_run([programs.restore, "--noflush"], text), text)
            return 0.0
        began = time.monotonic()
        held = _is_held(_lock_file())
        command = [programs.restore, "--noflush", "--verbose", f"--wait={LOCK_ROUND_SECONDS}"]
        marked = _marked(text)
        while _missed_the_lock(done := _run(command, marked)):
            held = True
            marked = _rest(marked, done.output.splitlines().count(_MARK))
            waited = round(time.monotonic() - began, 1)
            holder = _holder(_lock_file())
            self._tell("Waiting for the xtables lock", holder=holder, seconds=waited)
        self._require(done, text, marked)
        return time.monotonic() - began if held else 0.0

    def save(self, family: Family, tables: Sequence[str] = ("filter", "nat")) -> str:
        """What these tables hold, as `iptables-save` writes it; makes no table.

        Raises KernelFault for a table of nf_tables whose rules iptables cannot say.
        """
        programs = self._installed(family)
        if self.variant is Variant.LEGACY:
            there = _legacy_tables(family)
            tables = [table for table in tables if table in there]
        return "".join(self._save(programs, table) for table in tables)

    def _save(self, programs: Programs, table: str) -> str:
        done = _run([programs.save, "-t", table])
        self._require(done)
        if f"# Table `{table}' is incompatible" in done.output:
            raise KernelFault(f"table {table} holds rules of nft that {programs.save} cannot read")
        return done.output

    def holds(self, family: Family, table: str, chain: str) -> bool:
        """Whether a chain exists. Makes no table; with nft reads none but this chain."""
        if self.variant is Variant.LEGACY:
            return f"\n:{chain} " in self.save(family, [table])
        done = _run([self._installed(family).command, "-t", table, "-S", chain, "1"])
        if done.status != 1:  # 1: there is no such chain
            self._require(done)
        return done.status == 0

    def _installed(self, family: Family) -> Programs:
        programs = self._programs.get(family)
        if programs is None:
            programs = installed(family, self.variant)
            if programs is None:
                command = _COMMAND[family]
                names = f"{command}-{self.variant}-restore or {command}-restore"
                raise EnvironmentFault(f"there is no {command} ({self.variant}): install {names}")
            self._programs[family] = programs
        return programs

    def _require(self, done: _Done, text: str = "", marked: str | None = None) -> None:
        """Raise what a program's answer means, unless all is well."""
        if done.status == 0:
            return
        reason = _reason(done)
        _raise_environment(self.variant, reason)
        line = _line(done.errors)
        if line is not None and marked is not None:
            line = _unmarked_line(line, text, marked)
        raise Refused(line, reason)


def installed(family: Family, variant: Variant) -> Programs | None:
    """The programs of a variant; a bare `iptables-restore` counts as what it says it is."""
    command = _COMMAND[family]
    for name in (f"{command}-{variant}", command):
        names = Programs(name, f"{name}-restore", f"{name}-save")
        if all(shutil.which(program) for program in names) and _kind(names.restore) is variant:
            return names
    return None


def route_localnet() -> bool:
    """Whether packets from 127.0.0.1 may leave this host, as NodePorts there need."""
    return _ROUTE_LOCALNET.read_text().strip() == "1"


def set_route_localnet(*, on: bool) -> str:
    """Allow or forbid it (REFERENCE A.2). Returns why that could not be done; empty: done."""
    wanted = "1" if on else "0"
    try:
        if _ROUTE_LOCALNET.read_text().strip() != wanted:
            _ROUTE_LOCALNET.write_text(wanted)
    except OSError as fault:
        return f"NodePorts on localhost need {_ROUTE_LOCALNET} = {wanted}: {fault.strerror}"
    return ""


def drops_invalid() -> bool:
    """Whether packets outside of a connection's window are INVALID to conntrack.

    Not if nf_conntrack_tcp_be_liberal is on; without conntrack that switch does not exist.
    """
    try:
        return _BE_LIBERAL.read_text().strip() == "0"
    except FileNotFoundError:
        return True


def _kind(program: str) -> Variant:
    """Up to 1.6 there was one iptables, and it did not say which."""
    said = _run([program, "--version"]).output
    return Variant.NFT if "(nf_tables)" in said else Variant.LEGACY


def _run(command: Sequence[str], text: str = "") -> _Done:
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as fault:
        raise EnvironmentFault(f"{command[0]} cannot be started: {fault.strerror}") from fault
    return _Done(done.returncode, done.stdout, done.stderr)


def _reason(done: _Done) -> str:
    """The words of a program without its name, its usage and the line number."""
    reasons = []
    for line in done.errors.splitlines():
        words = re.sub(r"^\S+ v[\d.]+ \(\w+\): |^ip6?tables\S*: ", "", line).strip()
        if words and not words.startswith(("Error occurred at line", "Try `", "# Warning")):
            reasons.append(re.sub(r"^line \d+( failed)?: ", "", words))
    if len(reasons) > _MAX_REASONS:
        reasons[_MAX_REASONS:] = [f"and {len(reasons) - _MAX_REASONS} more"]
    said = "; ".join(reasons)
    if re.fullmatch(r"line \d+ failed", said):
        return "the kernel does not take it"  # legacy says no more
    return said or f"it ended with status {done.status} and no word"


def _line(errors: str) -> int | None:
    """The first line at fault; the last sentence names it where there are several."""
    found = re.search(r"Error occurred at line: (\d+)", errors)
    found = found or re.search(r"(?:^|: |\bat )line (\d+)", errors, re.MULTILINE)
    return int(found[1]) if found else None


def _raise_environment(variant: Variant, reason: str) -> None:
    table = re.search(r"(?:initialize \S+ table|unable to initialize table) ['`](\w+)'", reason)
    if (
        "you must be root" in reason
        or "Permission denied" in reason
        or (table is not None and not _may_administrate())
    ):
        raise EnvironmentFault(
            f"iptables ({variant}) does not obey us: CAP_NET_ADMIN is missing (run as root)"
        )
    if table is not None:
        raise EnvironmentFault(f"this kernel has no table {table[1]} of iptables (legacy)")
    if "TABLE_ADD failed" in reason or "Failed to initialize nft" in reason:
        raise EnvironmentFault(f"this kernel cannot hold rules of iptables (nft): {reason}")


def _may_administrate() -> bool:
    status = Path("/proc/thread-self/status").read_text()
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> _CAP_NET_ADMIN & 1)


def _legacy_tables(family: Family) -> tuple[str, ...]:
    """Reading a table of legacy iptables makes it, with hooks that every packet then takes."""
    try:
        return tuple(_LEGACY_TABLES[family].read_text().split())
    except OSError:
        return ()  # no module ip_tables, or not ours to read: then nothing of it can be read


def _lock_file() -> Path:
    return Path(os.environ.get("XTABLES_LOCKFILE", _LOCK_FILE))


def _is_held(lock: Path) -> bool:
    """Whether somebody holds the lock; a lock file that we may not open the program will report."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _missed_the_lock(done: _Done) -> bool:
    return bool(done.status) and "xtables lock" in done.errors


def _holder(lock: Path) -> str:
    """Who holds the lock: `iptables (pid 123)`. The kernel hides other PID namespaces' locks."""
    try:
        file = lock.stat()
    except OSError:
        return "unknown"
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and device in fields:
            pid = fields[4]
            try:
                name = Path("/proc", pid, "comm").read_text().strip()
            except OSError:
                return f"pid {pid}"
            return f"{name} (pid {pid})"
    return "unknown"


def _marked(text: str) -> str:
    """With a comment behind each COMMIT: `--verbose` prints comments as they are reached.

    The lock is taken for each block anew, and a block must not be written twice.
    """
    return text.replace("\nCOMMIT\n", f"\nCOMMIT\n{_MARK}\n")


def _rest(marked: str, committed: int) -> str:
    """What follows the blocks that are in the kernel already."""
    return marked.split(f"\n{_MARK}\n", committed)[committed]


def _unmarked_line(line: int, text: str, marked: str) -> int:
    """The line of a text that a line of its marked rest is."""
    marks = marked.split("\n")[: line - 1].count(_MARK)
    missing = _marked(text).count("\n") - marked.count("\n")
    skipped = _marked(text).split("\n")[:missing]
    return line - marks + missing - skipped.count(_MARK)
