"""Is a choice uniform? Pearson's chi-square, against the value that chance exceeds once in a million. Pure."""

from __future__ import annotations

from collections.abc import Collection

CRITICAL = {2: 27.631, 6: 38.258, 19: 63.677}
"""By degrees of freedom (outcomes minus one), at p = 1e-6."""


def chi_square(counts: Collection[int]) -> float:
    """How far counts are from equal ones; an outcome that never came counts as 0."""
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


def is_uniform(counts: Collection[int]) -> bool:
    """Whether chance explains the counts. Raises KeyError for a number of outcomes not in CRITICAL."""
    return chi_square(counts) < CRITICAL[len(counts) - 1]
