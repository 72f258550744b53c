"""What can this machine do of what the iptables mode needs, and what did its rules count?"""

from __future__ import annotations

from modes.base import Feature
from modes.xtables import probe, trials
from modes.xtables.counters import METRICS
from modes.xtables.kernel import Kernel
from modes.xtables.variant import AUTO, Variant


def features(wanted: str = AUTO) -> tuple[Feature, ...]:
    """For `headgate probe`; as `modes.xtables.probe.features`."""
    return probe.features("iptables mode", wanted, trials.OPTIONAL)


def counted() -> dict[str, int]:
    """The packets of kube-proxy's two counters, by the names of its metrics; any thread may ask.

    Empty where the kernel has no nfacct, or before a mode that has started made the counters.
    """
    packets = Kernel(Variant.NFT).counters()  # the same for both variants
    return {METRICS[name]: number for name, number in packets.items()}
