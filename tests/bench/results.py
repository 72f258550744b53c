"""What does a run of the bench find? Pure."""

from __future__ import annotations

import msgspec

from tests.bench.beside import Beside
from tests.bench.cluster import Size
from tests.bench.commands import Answered
from tests.bench.floor import Floor
from tests.bench.idle import Idle
from tests.bench.path.results import Path
from tests.bench.program import Launched, Ran
from tests.bench.target import Target
from tests.bench.whole.results import Sustained, Whole
from tests.bench.worker import Loaded, Restarted, Weighed

_OF_ALL = ("machine", "targets")
"""What a report has once, whatever it was joined from."""


class Measured(msgspec.Struct):
    """Everything about one size, in one back end."""

    back_end: str
    services: int
    endpoints: int
    loaded: Loaded
    restarted: Restarted
    weighed: Weighed | None = None
    """Where the back end starts programs."""
    stand_in: StandIn | None = None
    beside: Beside | None = None
    """In IPVS mode."""

    @property
    def size(self) -> Size:
        """The size that was measured."""
        return Size(self.services, self.endpoints)

    @property
    def endpoint_change(self) -> float:
        """Milliseconds that one endpoint takes, whichever of its changes takes longer; median."""
        return max(self.loaded.replaced.p50, self.loaded.resized.p50)


class StandIn(msgspec.Struct):
    """iptables alone, given what kube-proxy would give it (`kube_proxy`)."""

    first: Launched
    lines: int
    bytes_sent: int
    change_p50: float
    """Milliseconds, as the next three; an endpoint goes or comes."""
    change_p90: float
    change_user: float
    change_system: float
    change_peak_megabytes: float
    change_lines: float
    change_bytes: float


class Failed(msgspec.Struct):
    """What could not be measured."""

    what: str
    """The last that was told of it."""
    why: str


class Report(msgspec.Struct):
    """All that a run of the bench found."""

    machine: str
    sizes: list[Measured] = []
    runs: list[Ran] = []
    targets: list[Target] = []
    idle: list[Idle] = []
    answers: list[Answered] = []
    wholes: list[Whole] = []
    sustained: list[Sustained] = []
    paths: list[Path] = []
    floors: list[Floor] = []
    failed: list[Failed] = []

    def join(self, other: Report) -> None:
        """Add what another run found, on another kernel of this machine."""
        for name in self.__struct_fields__:
            if name not in _OF_ALL:
                getattr(self, name).extend(getattr(other, name))
