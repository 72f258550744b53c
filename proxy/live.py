"""What becomes of a running headgate when its configuration file says something else?

What packets meet is for the next sync, without a restart. What needs new sockets or another kernel
program ends the process, with the reason; who started it starts it again, and the rules stay.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from conntrack.settings import ConntrackSettings
from conntrack.sysctls import Settled, settle
from proxy import log
from proxy.changes import changed
from proxy.config import Config, on_mode
from proxy.schedule import Schedule
from proxy.sources.base import ConfigChanged
from proxy.sync import Sync


class Live:
    """Applies configurations to a run in this mode. The thread that syncs."""

    def __init__(
        self,
        config: Config,
        mode: str,
        sync: Sync,
        schedule: Schedule,
        told: Callable[[str, Config], None],
    ) -> None:
        """`told` hears what became of each: `applied`, `refused` or `restart`, and what holds."""
        self.config = config
        self._mode = mode
        self._sync = sync
        self._schedule = schedule
        self._told = told

    def take(self, news: ConfigChanged) -> bool:
        """The file has changed; whether the process must end for it."""
        if news.config is None:
            log.error("The configuration stays as it was", reason=news.error)
            self._told("refused", self.config)
            return False
        before, differing = self.config, changed(self.config, news.config)
        if differing.restart:
            names = ",".join(differing.restart)
            log.warning("Ending: a changed configuration needs a new process", fields=names)
            self._told("restart", before)
            return True
        self.config = news.config
        if differing.live:
            self._apply(before, news.config)
            log.info("Configuration applied", fields=",".join(differing.live))
        else:
            log.info("The configuration is again what it was")
        self._told("applied", news.config)
        return False

    def _apply(self, old: Config, new: Config) -> None:
        log.setup(new.verbosity, style=new.log_format, vmodule=new.vmodule)
        say(new, old)
        self._schedule.pace(new.min_sync_seconds)
        if new.conntrack != old.conntrack:
            set_sysctls(new.conntrack)
        settings = on_mode(new.node, new.node_ports, self._mode)
        if settings != on_mode(old.node, old.node_ports, self._mode):
            self._sync.reconfigure(settings)


def say(config: Config, old: Config | None = None) -> None:
    """Say what of a configuration is passed over, as far as it was not said of the old one."""
    for warning in config.warnings:
        if old is None or warning not in old.warnings:
            log.warning("Check the configuration", reason=warning)
    for note in config.notes:
        if old is None or note not in old.notes:
            log.info("Configuration", note=note)


def set_sysctls(settings: ConntrackSettings) -> Settled:
    """Set the sysctls of conntrack, and say what that changed and what it could not."""
    settled = settle(settings, os.cpu_count() or 1)
    for event, values in (("Sysctls set", settled.written), ("Sysctls kept", settled.kept)):
        if values:
            told = ",".join(f"{name}={value}" for name, value in values.items())
            log.info(event, sysctls=told)
    for warning in settled.warnings:
        log.warning("Degraded", reason=warning)
    return settled
