"""Does what is measured start as an installation does?"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.bench import installed


def test_only_what_tests_need_is_absent() -> None:
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    installed.make_so(environment)
    script = """
import importlib.util, proxy.sources.client as client
assert importlib.util.cache_from_source(client.__file__) == client.__cached__
assert __import__("os").path.exists(client.__cached__)
client.library()
import kubernetes_validate
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr.splitlines()[-1:] == ["ImportError: kubernetes_validate"]
    assert "PYTHONDONTWRITEBYTECODE" not in environment
