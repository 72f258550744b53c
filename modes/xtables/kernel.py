"""How do rules reach the kernel through the host's own iptables, and what does it answer?

The only file of this room that starts programs or looks into /proc, /run and the like. All of it
concerns the network namespace of the calling thread.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from endpoints.names import Family
from modes.base import EnvironmentFault, KernelFault, NotPermitted, Tell
from modes.xtables import counters, opaque, trials
from modes.xtables.answers import Answer, Progress
from modes.xtables.lock import holder, is_held
from modes.xtables.names import Table
from modes.xtables.parts import Parts
from modes.xtables.rules import ChainName
from modes.xtables.script import sections
from modes.xtables.variant import Variant
from modes.xtables.witness import Witness, chains_of, legacy_tables, rules_of

T = TypeVar("T")

LOCK_ROUND_SECONDS = 5
"""How long one program waits for the xtables lock before we say so and start it again. A program
that outlives a killed headgate writes nothing after that."""

LOCK_PATIENCE_SECONDS = 25

_LOCK_FILE = "/run/xtables.lock"
_COMMAND = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}
_ROUTE_LOCALNET = Path("/proc/sys/net/ipv4/conf/all/route_localnet")
_BE_LIBERAL = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")
_CAP_NET_ADMIN = 12
_CLONE_NEWNET = 0x40000000
_NETLINK_NETFILTER = 12
_DATAGRAM = 1 << 16
_UNPRIVILEGED = "{} does not obey us: CAP_NET_ADMIN is missing (run as root)"


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


def _silently(message: str, /, **fields: object) -> None:
    """Say nothing: nobody listens."""


class Kernel:
    """iptables in one of its variants.

    Everything raises EnvironmentFault where it is not installed, the process lacks CAP_NET_ADMIN
    or the kernel lacks the variant.
    """

    def __init__(
        self,
        variant: Variant,
        tell: Tell = _silently,
        lock: Path | None = None,
        witness: Witness | None = None,
        patience_seconds: int | None = None,
    ) -> None:
        """Nothing is asked yet; `lock` stands in for the xtables lock of this machine.

        `witness`, if there is any, shall know what we change; `patience_seconds`: how long to wait
        for the lock, if not LOCK_PATIENCE_SECONDS.
        """
        self.variant = variant
        self._patience_seconds = patience_seconds
        self.tell = tell
        self._witness = witness or Witness()
        self._lock = lock or Path(os.environ.get("XTABLES_LOCKFILE", _LOCK_FILE))
        self._programs: dict[Family, Programs] = {}
        self._parts = Parts(tell)

    def restore(self, family: Family, text: str) -> float:
        """Give a text to `iptables-restore --noflush`; what it does not mention stays.

        Each block from `*table` to `COMMIT` is one transaction. Returns the seconds for which
        another program kept the xtables lock from us (legacy alone has it): 0 if it was free,
        else all that passed until the rules were in. Tells that it waits every
        LOCK_ROUND_SECONDS. Raises Refused, and KernelFault when its patience ends: who called
        must look after other things, an order to stop for one.
        """
        programs = self._installed(family)
        if self.variant is Variant.NFT:
            answer = _run([programs.restore, "--noflush"], text, knows=self._witness.knows)
            self._require(answer, answer.line)
            return 0.0
        with self._witness.legacy_change():
            return self._restore_legacy(programs, text)

    def _restore_legacy(self, programs: Programs, text: str) -> float:
        began = time.monotonic()
        waited = is_held(self._lock)
        patience = self._patience_seconds or LOCK_PATIENCE_SECONDS
        wait = f"--wait={min(LOCK_ROUND_SECONDS, self._patience_seconds or LOCK_ROUND_SECONDS)}"
        command = [programs.restore, "--noflush", "--verbose", wait]
        progress = Progress(text)
        while (answer := _run(command, progress.rest, self._lock)).missed_the_lock:
            waited = True
            progress.advance(answer.output)
            by, seconds = holder(self._lock), round(time.monotonic() - began, 1)
            if seconds >= patience:
                raise KernelFault(f"{by} holds the xtables lock for more than {seconds} s")
            self.tell("Waiting for the xtables lock", holder=by, seconds=seconds)
        self._require(answer, progress.original_line(answer.line))
        return time.monotonic() - began if waited else 0.0

    def save(self, family: Family, tables: Sequence[str] = tuple(Table)) -> str:
        """What these tables hold, as `iptables-save` writes it; makes no table.

        Rules of nf_tables that iptables cannot say are told of, and stand there as `opaque` does.
        """
        programs = self._installed(family)
        if self.variant is Variant.LEGACY:
            there = legacy_tables(family)
            tables = [table for table in tables if table in there]
        return "".join(self._save(family, programs, table) for table in tables)

    def save_counted(self, family: Family) -> str:
        """The same with counters, as `iptables-save -c` writes it: one program for all tables.

        Where rules of nf_tables are in a table that iptables cannot say, it has no counters.
        """
        programs = self._installed(family)
        if self.variant is Variant.LEGACY and not legacy_tables(family):
            return ""
        answer = _run([programs.save, "-c"])
        self._require(answer)
        if self.variant is Variant.LEGACY:
            return answer.output
        tables = sections(answer.output)
        for table in Table:
            is_said = not opaque.is_incompatible(table, answer.output)
            if not is_said or opaque.seeming_ends(tables.get(table, "")):
                tables[table] = self._save(family, programs, table)
        return "".join(tables[table] for table in Table if table in tables)

    def save_chains(self, family: Family, wanted: Iterable[ChainName]) -> str:
        """These chains with counters, with nft: a few of many are read much faster than all.

        Raises Refused where one of them is gone, or where iptables cannot say what is in it.
        """
        restore = self._installed(family).restore
        out = ""
        for table in Table:
            if asked := sorted(of.name for of in wanted if of.table is table):
                answer = _run([restore, "--noflush"], opaque.question(table, asked, counted=True))
                self._require(answer)
                out += opaque.counted(table, answer.output)
        return out

    def _save(self, family: Family, programs: Programs, table: str) -> str:
        answer = _run([programs.save, "-t", table])
        self._require(answer)
        if opaque.is_incompatible(table, answer.output):
            restore = partial(_run, [programs.restore, "--noflush"])
            rules = chains_of(family, table)
            return self._parts.saved(family, table, rules, restore, self._require)
        self._parts.forget(family, table)
        if self.variant is Variant.NFT and (doubtful := opaque.seeming_ends(answer.output)):
            rules = {chain: rules_of(family, table, chain) for chain in doubtful}
            return opaque.corrected(answer.output, rules)
        return answer.output

    def holds(self, family: Family, table: str, chain: str) -> bool:
        """Whether a chain exists. Makes no table; with nft reads none but this chain."""
        if self.variant is Variant.LEGACY:
            return f"\n:{chain} " in self.save(family, [table])
        answer = _run([self._installed(family).command, "-t", table, "-S", chain, "1"])
        if answer.status != 1:  # 1: there is no such chain
            self._require(answer)
        return answer.status == 0

    def try_out(self, family: Family, tried: Sequence[trials.Trial]) -> str:
        """Why iptables refuses these rules; empty if it takes them. Leaves nothing of them.

        Makes the tables that it needs.
        """
        try:
            self.restore(family, trials.text(tried, family))
        except Refused as refusal:
            return str(refusal)
        return ""

    def ensure_counters(self) -> bool:
        """Make the counters for xt_nfacct; False if the kernel has none. Raises NotPermitted."""
        for name in counters.COUNTERS:
            fault = _nfacct(counters.message(counters.NEW, counters.CREATE, name))[0]
            if fault == errno.EPERM:
                raise NotPermitted(_UNPRIVILEGED.format("nfnetlink"))
            if fault not in (0, errno.EBUSY):  # EBUSY: it exists
                return False
        return True

    def counters(self) -> dict[str, int]:
        """The packets of our counters; empty if there are none."""
        found = dict(_nfacct(counters.message(counters.GET, counters.DUMP))[1])
        return {name: found[name] for name in counters.COUNTERS if name in found}

    def remove_counters(self) -> None:
        """Remove our counters, except those that a rule still counts into."""
        for name in counters.COUNTERS:
            _nfacct(counters.message(counters.DELETE, name=name))

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

    def _require(self, answer: Answer, line: int | None = None) -> None:
        """Raise what a program's answer means, unless all is well."""
        if answer.status == 0:
            return
        table = answer.lacks_table
        if answer.lacks_privilege or (table and not may_administrate()):
            raise NotPermitted(_UNPRIVILEGED.format(f"iptables ({self.variant})"))
        if table:
            raise EnvironmentFault(f"this kernel has no table {table} of iptables (legacy)")
        if answer.lacks_nf_tables:
            raise EnvironmentFault(f"this kernel has no place for iptables (nft): {answer.reason}")
        raise Refused(line, answer.reason)


def apart(variant: Variant, work: Callable[[Kernel], T]) -> T:
    """Do something in a network namespace of its own, which ends with it.

    Raises what it raises, and NotPermitted without CAP_SYS_ADMIN.
    """
    results: list[T] = []
    faults: list[BaseException] = []

    def in_namespace() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            reason = os.strerror(ctypes.get_errno())
            faults.append(NotPermitted(f"no network namespace can be made: {reason} (run as root)"))
            return
        try:
            with tempfile.TemporaryDirectory() as folder:
                results.append(work(Kernel(variant, lock=Path(folder, "xtables.lock"))))
        except BaseException as fault:  # noqa: BLE001 (raised again below)
            faults.append(fault)

    thread = threading.Thread(target=in_namespace, name="apart")
    thread.start()
    thread.join()
    if faults:
        raise faults[0]
    return results[0]


def installed(family: Family, variant: Variant) -> Programs | None:
    """The programs of a variant; a bare `iptables-restore` counts as what it says it is."""
    command = _COMMAND[family]
    for name in (f"{command}-{variant}", command):
        names = Programs(name, f"{name}-restore", f"{name}-save")
        where = shutil.which(names.restore)
        if where is None or not all(shutil.which(program) for program in names):
            continue
        at = Path(where).stat()
        file = (at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns)
        if _kind(names.restore, file) is variant:
            return names
    return None


def variants() -> dict[Variant, tuple[Family, ...]]:
    """The families for which each variant is installed."""
    return {v: tuple(f for f in Family if installed(f, v)) for v in Variant}


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


def may_administrate() -> bool:
    """Whether this thread has CAP_NET_ADMIN."""
    status = Path("/proc/thread-self/status").read_text()
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> _CAP_NET_ADMIN & 1)


@functools.lru_cache(maxsize=32)
def _kind(program: str, _file: tuple[int, ...]) -> Variant:
    """Up to 1.6 there was one iptables, and it did not say which; one file says the same again."""
    said = _run([program, "--version"]).output
    return Variant.NFT if "(nf_tables)" in said else Variant.LEGACY


def _run(
    command: Sequence[str],
    text: str = "",
    lock: Path | None = None,
    knows: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Answer:
    """Run a program to its end; `knows` is entered with its process ID before it has any input."""
    environment = {**os.environ, "LC_ALL": "C"}
    if lock is not None:
        environment["XTABLES_LOCKFILE"] = str(lock)
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            encoding="utf-8",
            errors="replace",
            env=environment,
        )
    except OSError as fault:
        raise EnvironmentFault(f"{command[0]} cannot be started: {fault.strerror}") from fault
    with child, knows(child.pid):
        try:
            output, complaints = child.communicate(text)
        except BaseException:
            child.kill()
            raise
    return Answer(child.returncode, output, complaints)


def _nfacct(request: bytes) -> tuple[int, list[tuple[str, int]]]:
    """The errno with which the kernel answers, and the counters that it lists."""
    found: list[tuple[str, int]] = []
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    except OSError as fault:  # a kernel without nfnetlink has no counters; iptables may work
        return fault.errno or errno.EPROTONOSUPPORT, found
    with opened as netlink:
        netlink.sendall(request)
        while True:
            for kind, payload in counters.answers(netlink.recv(_DATAGRAM)):
                if kind in (counters.NLMSG_ERROR, counters.NLMSG_DONE):
                    return counters.error(payload), found
                found.append(counters.packets(payload))
