"""Through which modes do laws hold? Every test here that takes the mode runs in each."""

from __future__ import annotations

import pytest

from tests.lab.modes import offered

MODES = offered()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that takes a `mode` in every mode."""
    if "mode" in metafunc.fixturenames:
        metafunc.parametrize("mode", MODES, scope="module")
