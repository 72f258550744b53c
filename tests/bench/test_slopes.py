"""Is growth told from its absence? Of figures that are made up, so that the answer is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from tests.bench.results import Measured
from tests.bench.slopes import fit, rows, slopes, tables
from tests.bench.worker import Changes, Load, Loaded, Restarted, Work

SIZES = (100, 1_000, 10_000)


def load(seconds: float, kernel: float) -> Load:
    """A load whose steps take so long each, and the kernel as a part of the last."""
    fields: dict[str, object] = {
        **dict.fromkeys(Load.__struct_fields__, 0),
        "work": Work(seconds, seconds, seconds, kernel),
        "cpu": 3 * seconds + kernel,
        "kept": False,
    }
    return msgspec.convert(fields, Load, strict=False)


def changes(ours: float, kernel: float) -> Changes:
    """Changes that take so many milliseconds."""
    fields = dict.fromkeys(Changes.__struct_fields__, 0)
    timed = {"ours_cpu_p50": ours, "kernel_cpu_p50": kernel}
    return msgspec.convert({**fields, **timed}, Changes)


def measured(services: int, kernel_of: Callable[[int], float], endpoints: int = 10) -> Measured:
    """A size where everything of ours is proportional in a load and constant in a change."""
    kernel = kernel_of(services)
    kind = changes(0.2, kernel)
    loaded = Loaded(load(services / 1e4, kernel), kind, kind, kind, kind, 50.0)
    return Measured("nftables", services, endpoints, loaded, Restarted(load(services / 1e4, 0.1)))


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_a_power_is_found_exactly(power: float) -> None:
    exponent, off = fit(SIZES, [3 * size**power for size in SIZES])
    assert exponent == pytest.approx(power, abs=1e-9)
    assert off == pytest.approx(1)


def test_what_is_no_power_is_off_the_line() -> None:
    exponent, off = fit(SIZES, [1.0, 1.0, 100.0])
    assert exponent == pytest.approx(1)
    # The line leads from 1/sqrt(10^(4/3)) to its inverse; the middle is farthest from it.
    assert off == pytest.approx(10 ** (2 / 3))


def test_each_step_has_its_slope() -> None:
    found = {
        of.step: of.exponent for of in slopes([measured(n, lambda n: n**2 / 1e8) for n in SIZES])
    }
    proportional = ("load: decode", "load: fold, plan", "load: encode")
    assert [found[step] for step in proportional] == pytest.approx([1, 1, 1])
    assert found["load: the kernel"] == pytest.approx(2)
    assert found["endpoint removed, added: ours"] == pytest.approx(0)
    assert found["endpoint removed, added: the kernel"] == pytest.approx(2)
    assert 1 < found["load: all"] < 2


@pytest.mark.parametrize("sizes", [(), (100,), (100, 1_000), (100, 100, 1_000)])
def test_no_slope_of_fewer_than_three_sizes(sizes: Sequence[int]) -> None:
    assert slopes([measured(n, float) for n in sizes]) == []


def test_sizes_with_other_endpoints_are_others() -> None:
    kin = [measured(n, float) for n in SIZES]
    apart = [measured(n, float, endpoints) for n, endpoints in zip(SIZES, (1, 2, 3), strict=True)]
    assert slopes([*apart, *kin]) == slopes(kin)
    assert slopes(apart) == []


def test_a_step_that_took_no_time_has_no_slope() -> None:
    found = {of.step for of in slopes([measured(n, lambda _: 0.0) for n in SIZES])}
    assert "load: the kernel" not in found
    assert "load: decode" in found


def test_a_table_has_a_column_for_each_size() -> None:
    found = slopes([measured(n, float) for n in reversed(SIZES)])
    (table,) = tables(found)
    assert table == rows(found)
    assert table[0] == [
        "nftables: the processor's ms",
        "100 x 10",
        "1,000 x 10",
        "10,000 x 10",
        "slope",
        "off",
    ]
    assert table[1] == ["load: decode", "10.00", "100", "1,000", "1.00", "x 1.0"]
    assert {len(row) for row in table} == {6}
