"""Through which modes are packets sent? Every test here takes the mode as a parameter."""

from __future__ import annotations

import pytest

from tests.lab.modes import offered

MODES = offered()
# test_ipvs_only.py is always there, and says where all of them run.
collect_ignore_glob = [] if "ipvs" in MODES else ["test_ipvs_[!o]*.py"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that takes a `mode` in every mode."""
    if "mode" in metafunc.fixturenames:
        metafunc.parametrize("mode", MODES, scope="module")
