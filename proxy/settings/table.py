"""Which settings are there, and what does headgate do with each? Pure.

The only list of them: flags, fields of a file, `--write-config-to` and docs/configuration.md are
made from it. What kube-proxy has is of its 1.37 (REFERENCE B), with its defaults where no row says
otherwise; the ignored rows are in `ignored`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from proxy.settings.ignored import LOGGING, NOT_NEEDED, OLD, OLD_LOGGING, WINDOWS
from proxy.settings.option import Option
from proxy.settings.program import CLUSTER, OBSERVED, OWN, WHAT_TO_DO
from proxy.settings.traffic import CONNTRACK, IPVS, SYNC, TRAFFIC

API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
KIND = "KubeProxyConfiguration"


class Section(NamedTuple):
    """Options that belong together."""

    title: str
    options: tuple[Option, ...]


SECTIONS = (
    Section("What to do", WHAT_TO_DO),
    Section("The cluster", CLUSTER),
    Section("Traffic", TRAFFIC),
    Section("Syncs", SYNC),
    Section("IPVS", IPVS),
    Section("Connection tracking", CONNTRACK),
    Section("Health, metrics, log", OBSERVED),
    Section("headgate's own", OWN),
    Section("Ignored: not needed here", NOT_NEEDED),
    Section("Ignored: how the log is written", LOGGING),
    Section("Ignored: Windows", WINDOWS),
    Section("Ignored: old flags", OLD),
    Section("Ignored: old flags of the log", OLD_LOGGING),
)
OPTIONS: Mapping[str, Option] = {
    option.key: option for section in SECTIONS for option in section.options
}
"""All, by key."""
OF_FLAG: Mapping[str, Option] = {
    flag: next(option for option in OPTIONS.values() if option.flag == flag)
    for flag in dict.fromkeys(option.flag for option in OPTIONS.values())
    if flag
}
"""The first option that each flag speaks of."""
