"""What happens to a proxy that is measured, and how long does it take the kernel to hear of it?

One proxy at a time, in the network namespace of the caller, follows an API server. Somebody else
writes to that server, and looks at the kernel until its ruleset holds what was written.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from tests.bench.cluster import ZONES, Json, Size
from tests.bench.whole import calls, content
from tests.bench.whole.content import Wanted
from tests.bench.whole.observer import Observer, held_at, open_observer
from tests.bench.whole.results import Calls, Latency, Sustained, Whole
from tests.bench.whole.server import ApiServer
from tests.bench.whole.subject import Subject
from tests.bench.worker import percentile

PATIENCE_SECONDS = 900.0
"""kube-proxy takes minutes to write 5,000 Services through iptables-nft."""
REST_SECONDS, REST_CPU = 0.05, 0.001
"""Who used no more of the processor in so long has done all that it had to: a change finds it asleep."""
_GLANCE_SECONDS = 0.02
ROUNDS = 6
"""Of changes of many Services at once, and of the node's zone."""
LEAST = 4
"""Of each kind of change, however long they take."""
MANY = 100
COUNTED, COUNTED_OF_SLOW = 6, 2
"""Changes whose system calls are counted; to trace those of a proxy that is slow takes minutes."""
SLOW_MILLISECONDS = 500.0
PROBES_SECONDS = 0.25
"""Between two changes that are followed while others go on."""


class Contender(NamedTuple):
    """A proxy that is measured."""

    program: str
    """`headgate` or `kube-proxy`."""
    executable: str | None = None
    """Of `kube-proxy`."""


class Amount(NamedTuple):
    """How much is measured."""

    changes: int
    """Of one endpoint; a fifth as many Services are added."""
    seconds: float
    """Each kind of change is repeated no longer than that, but a few times at least."""


_Step = Callable[[int], tuple[float, list[Wanted]]]
"""Writes the change of a number; when the last write was answered, and what the kernel must hold."""


class Story:
    """A proxy, the API server that it follows, and the observer of the kernel."""

    def __init__(
        self, contender: Contender, back_end: str, of: Size, server: ApiServer, folder: Path
    ) -> None:
        self._contender = contender
        self._back_end = back_end
        self._of = of
        self._server = server
        self._choice = random.Random(of.services)
        self._zone = content.NOWHERE
        self._lacking: dict[int, str] = {}
        """Pods that are away, by the number of their Service."""
        self.subject = Subject(*contender, back_end, server, folder)
        self.observer: Observer = open_observer(back_end, contender.program)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.subject.stop()
        self.observer.close()

    def start(self) -> tuple[float, float]:
        """Start it; seconds until the kernel holds everything, and of the processors for that."""
        began = self.subject.start()
        numbers = range(self._of.services)
        pending = [self._wanted(number) for number in numbers]
        seconds = max(self._held(pending)) - began
        cpu = self.subject.cpu()
        self.rest()
        return seconds, cpu

    def rest(self) -> None:
        """Return when it sleeps."""
        pause = threading.Event()  # nobody sets it
        used, since = self.subject.cpu(), time.monotonic()
        while (now := time.monotonic()) - since < REST_SECONDS:
            pause.wait(_GLANCE_SECONDS)
            if (more := self.subject.cpu()) > used + REST_CPU:
                used, since = more, now

    def latency(self, step: _Step, count: int, seconds: float) -> Latency:
        """Take such steps, one after the other, and follow each into the kernel.

        So many, or as many as fit into so long, but a few at least.
        """
        found: list[float] = []
        cpu, until = self.subject.cpu(), time.monotonic() + seconds
        for number in range(max(count, LEAST)):
            if number >= LEAST and time.monotonic() > until:
                break
            answered, pending = step(number)
            found.append(max(self._held(pending)) - answered)
            self.rest()
        cpu = (self.subject.cpu() - cpu) / len(found)
        self._mend()
        return Latency(
            count=len(found),
            p50=percentile(found, 50) * 1000,
            p90=percentile(found, 90) * 1000,
            p99=percentile(found, 99) * 1000,
            cpu=cpu * 1000,
        )

    def endpoint(self, number: int) -> tuple[float, list[Wanted]]:
        """One endpoint of a Service goes and, at the next number, comes back."""
        service = next(iter(self._lacking)) if number % 2 else self._any()
        return self._toggle(service), [self._wanted(service)]

    def arrival(self, number: int) -> tuple[float, list[Wanted]]:
        """A Service comes."""
        service = self._of.services + number
        documents = [content.service(self._of, service), *content.slices(self._of, service)]
        answered = max(self._server.write("POST", document) for document in documents)
        return answered, [self._wanted(service)]

    def depart(self, count: int) -> None:
        """Take away the Services that came; returns when the kernel does not have them."""
        numbers = range(self._of.services, self._of.services + count)
        for number in numbers:
            for document in [*content.slices(self._of, number), content.service(self._of, number)]:
                self._server.write("DELETE", document)
        self._held([Wanted(number, None) for number in numbers])
        self.rest()

    def many(self, _: int) -> tuple[float, list[Wanted]]:
        """One endpoint of each of many Services goes or comes back."""
        numbers = [*self._lacking] or self._choice.sample(
            range(self._of.services), min(MANY, self._of.services)
        )
        answered = max(self._toggle(number) for number in numbers)
        return answered, [self._wanted(number) for number in numbers]

    def relocation(self, number: int) -> tuple[float, list[Wanted]]:
        """The node turns up in another zone."""
        return self._move(ZONES[number % len(ZONES)])

    def relocations(self, seconds: float) -> Latency:
        """Let the node change its zone again and again; in the end it has none, as before."""
        found = self.latency(self.relocation, ROUNDS, seconds)
        _, pending = self._move(content.NOWHERE)
        self._held(pending)
        self.rest()
        return found

    def _move(self, zone: str) -> tuple[float, list[Wanted]]:
        self._zone = zone
        answered = self._server.write("PUT", content.node(self._zone))
        hinted = [n for n in range(self._of.services) if content.is_hinted(self._of, n)]
        return answered, [self._wanted(number) for number in hinted]

    def restart(self) -> tuple[float, float, int | None]:
        """End it, change one endpoint, start it: seconds, of the processors, changes of rules."""
        self.subject.stop()
        service = self._any()
        self._toggle(service)
        commits = self.observer.commits()
        began = self.subject.start()
        seconds = max(self._held([self._wanted(service)])) - began
        cpu = self.subject.cpu()
        self.rest()
        after = self.observer.commits()
        self._held([self._wanted(number) for number in range(self._of.services)])
        counted = None if commits is None or after is None else after - commits
        return seconds, cpu, counted

    def count_calls(self, count: int) -> Calls | None:
        """What the system calls of so many changes of one endpoint are."""
        numbers = itertools.count()

        def change() -> None:
            _, pending = self.endpoint(next(numbers))
            self._held(pending)
            self.rest()

        return calls.counted(self.subject.pid, change, count)

    def sustained(self, rate: float, seconds: float) -> Sustained:
        """Let the API server change slices at this rate for so long, and follow some of them.

        Raises RuntimeError if the server does not reach nine tenths of the rate.
        """
        cpu, began = self.subject.cpu(), time.monotonic()
        self._server.flow(self._of, rate, seconds)
        lags, megabytes = [], []
        for lag in self._probes(seconds):
            lags.append(lag)
            megabytes.append(self.subject.resident())
        sent = self._server.flowed()
        lasted, cpu = time.monotonic() - began, self.subject.cpu() - cpu
        if sent < 0.9 * rate * seconds:
            raise RuntimeError(f"the API server sent {sent} changes instead of {rate * seconds}")
        self._mend()
        return Sustained(
            program=self._contender.program,
            back_end=self._back_end,
            services=self._of.services,
            endpoints=self._of.endpoints,
            rate=sent / lasted,
            seconds=lasted,
            lags=lags,
            megabytes=megabytes,
            cpu_percent=100 * cpu / lasted,
        )

    def _probes(self, seconds: float) -> Iterator[float]:
        """Milliseconds that changes of Service 0 take, one after the other for so long."""
        pause = threading.Event()  # nobody sets it
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            answered = self._toggle(0)
            yield (max(self._held([self._wanted(0)])) - answered) * 1000
            pause.wait(PROBES_SECONDS)

    def _mend(self) -> None:
        """Bring back all pods that are away."""
        numbers = [*self._lacking]
        for number in numbers:
            self._toggle(number)
        self._held([self._wanted(number) for number in numbers])
        self.rest()

    def _held(self, pending: Sequence[Wanted]) -> list[float]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            return held_at(self.observer, pending, deadline, self.subject.check)
        except TimeoutError as error:
            raise TimeoutError(self.subject.complaint(f"does not follow: {error}")) from error

    def _any(self) -> int:
        return self._choice.randrange(self._of.services)

    def _toggle(self, number: int) -> float:
        """Take one pod of a Service away, or bring it back; when that was answered."""
        before = self._slices(number)
        if number in self._lacking:
            del self._lacking[number]
        else:
            held = self._wanted(number).endpoints
            assert held, f"Service {number} has no endpoints"
            self._lacking[number] = self._choice.choice(sorted(held))
        changed = zip(before, self._slices(number), strict=True)
        return max(self._server.write("PUT", new) for old, new in changed if old != new)

    def _slices(self, number: int) -> list[Json]:
        return content.slices(self._of, number, self._away(number))

    def _wanted(self, number: int) -> Wanted:
        return content.wanted(self._of, number, self._zone, self._away(number))

    def _away(self, number: int) -> tuple[str, ...]:
        return (self._lacking[number],) if number in self._lacking else ()


def whole(
    contender: Contender,
    back_end: str,
    of: Size,
    server: ApiServer,
    folder: Path,
    amount: Amount,
    *,
    tell: Callable[[str], None],
) -> Whole:
    """Measure one proxy. Raises RuntimeError if it ends, TimeoutError if it does not follow."""
    with Story(contender, back_end, of, server, folder) as story:
        tell("start")
        start, start_cpu = story.start()
        tell(f"one endpoint changes, again and again ({start:.1f} s to start)")
        changed = story.latency(story.endpoint, amount.changes, amount.seconds)
        tell(f"Services come (one endpoint: {changed.p50:,.1f} ms)")
        added = story.latency(story.arrival, amount.changes // 5, amount.seconds)
        story.depart(added.count)
        tell("many Services change at once")
        hundred = story.latency(story.many, ROUNDS, amount.seconds)
        zone = None
        if content.is_hinted(of, 0):
            tell("the node's zone changes")
            zone = story.relocations(amount.seconds)
        memory = story.subject.memory()
        tell("system calls are counted")
        is_slow = changed.p50 > SLOW_MILLISECONDS
        counted = story.count_calls(COUNTED_OF_SLOW if is_slow else COUNTED)
        tell("restart")
        restart, restart_cpu, commits = story.restart()
        return Whole(
            program=contender.program,
            version=story.subject.version,
            server=server.name,
            back_end=back_end,
            services=of.services,
            endpoints=of.endpoints,
            start=start,
            start_cpu=start_cpu,
            changed=changed,
            added=added,
            hundred=hundred,
            zone=zone,
            restart=restart,
            restart_cpu=restart_cpu,
            restart_commits=commits,
            memory=memory,
            calls=counted,
        )
