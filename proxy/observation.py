"""Who looks at a running headgate, and what is served to them?

Load balancers and kubelets ask for its health, scrapers for its figures, people read its Events.
Services matter more than all of these: an address that is taken does not end the program, unless
the operator wants just that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from modes import registry
from modes.base import EnvironmentFault
from proxy import log
from proxy.config import Config
from proxy.events.recorder import Nobody, Recorder
from proxy.events.reporting import Reporting
from proxy.observer import Observer, Observers
from proxy.serving.debugging import Debugging
from proxy.serving.health import Health
from proxy.serving.health_ports import HealthPorts
from proxy.serving.server import health_pages, metrics_pages, serve, uncounted
from proxy.sources.kubeconfig import ApiConfig

if TYPE_CHECKING:
    from proxy.metrics.metrics import Metrics


class Observation:
    """Everything that is told of syncs, and served or posted from it until the stack closes."""

    def __init__(
        self,
        config: Config,
        mode: str,
        api: ApiConfig | None,
        queue_depth: Callable[[], float],
        stack: ExitStack,
    ) -> None:
        """Begin to serve and to post. `api`: where Events go; None: there is no API server.

        Raises EnvironmentFault as `serve`, and for a kubeconfig that leads nowhere.
        """
        self._document: Mapping[str, object] = config.document
        self.health = Health(
            time.monotonic, time.time, config.sync_seconds, needs_node=api is not None
        )
        self.reporting = Reporting(_recorder(api, stack), config.node.name)
        ports = HealthPorts(self.health.is_healthy, self.reporting.health_port_failed)
        stack.callback(ports.stop)
        self.metrics = self._metrics(config, mode, queue_depth)
        everybody: list[Observer] = [self.health, ports, self.reporting]
        self.debugging = Debugging(mode, config.of_modes, configuration=lambda: self._document)
        everybody.append(self.debugging)
        self.observer = Observers([*everybody, *([self.metrics] if self.metrics else [])])
        self._serve(config, mode, stack)

    def configured(self, result: str, config: Config) -> None:
        """The configuration file changed, with this result; this is in force now."""
        self._document = config.document
        self.health.set_sync_seconds(config.sync_seconds)
        if self.metrics:
            self.metrics.reloaded(result)

    def _metrics(
        self, config: Config, mode: str, queue_depth: Callable[[], float]
    ) -> Metrics | None:
        if config.metrics is None:
            return None
        # Only who is asked for figures pays for what counts them.
        from proxy.metrics.metrics import Metrics, Sources  # noqa: PLC0415

        sources = Sources(partial(_packets, mode), queue_depth, self.health.busy_seconds)
        return Metrics(mode, sources)

    def _serve(self, config: Config, mode: str, stack: ExitStack) -> None:
        hard = config.bind_hard_fail
        if config.health is not None:
            probed = self.metrics.probed if self.metrics else uncounted
            served = serve(config.health, health_pages(self.health, probed), hard_fail=hard)
            stack.callback(served.stop)
        if config.metrics is not None and self.metrics is not None:
            pages = metrics_pages(self.metrics, mode, lambda: self._document)
            stack.callback(serve(config.metrics, pages, hard_fail=hard).stop)


def _packets(mode: str) -> Mapping[str, int]:
    """What the kernel counted; nothing where it cannot be asked, for all other figures stand."""
    try:
        return registry.counted(mode)
    except EnvironmentFault as fault:
        log.info("The kernel's counters cannot be read", v=2, reason=fault)
        return {}


def _recorder(api: ApiConfig | None, stack: ExitStack) -> Recorder:
    if api is None:
        return Nobody()
    from proxy.events.posting import Events  # noqa: PLC0415 (only who has an API server pays for it)

    events = Events(api)
    events.start()
    stack.callback(events.stop)
    return events
