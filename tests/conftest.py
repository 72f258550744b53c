"""In which namespaces do the tests run? In none of this machine's.

pytest starts itself once more inside a sandbox (tests/lab/sandbox.py). There each of its processes,
the only one or every worker of pytest-xdist, takes a network and a /run of its own: a test may do
to its network whatever it likes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.lab import sandbox
from tests.lab.lab import Lab

# A busy machine is no fault of the code: nothing that is tested has a time limit.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Enter the sandbox before anything is collected and before a worker is started."""
    if not sandbox.is_inside():
        capture = config.pluginmanager.getplugin("capturemanager")
        if capture is not None:  # gives the terminal back to file descriptors 0 to 2
            capture.suspend_global_capture(in_=True)
        sandbox.reexecute()
    sandbox.enter_private()
    # Who is started in the background ignores Ctrl-C, and so would all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # What commands print is as wide as it likes, unless a test says otherwise.
    os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A virtual cluster for the tests of one module, without any headgate yet."""
    with Lab() as built:
        yield built
