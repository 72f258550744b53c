"""How many random clusters does a law meet?

Few by default, so that all laws together take less than a minute; `LAWS=20` makes it twenty times
as many, for a night. The same clusters come each time (derandomize), except in such a long run.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

_FACTOR = int(os.environ.get("LAWS", "1"))


def effort(examples: int) -> settings:
    """Settings for a law that touches the kernel: its examples take as long as they take.

    A failure is shown as it was found: what sends packets would shrink for minutes, and it says
    which packet it was anyway.
    """
    return settings(
        max_examples=examples * _FACTOR,
        deadline=None,
        derandomize=_FACTOR == 1,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
