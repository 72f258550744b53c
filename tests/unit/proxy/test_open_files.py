"""Is there always something left for what serves?"""

from __future__ import annotations

import pytest

from proxy import open_files
from proxy.open_files import for_clients, for_health_ports


@pytest.mark.parametrize(
    ("limit", "health_ports", "clients"),
    [(40, 0, 4), (128, 28, 12), (256, 128, 25), (1024, 512, 100), (1 << 20, 1 << 19, 100)],
)
def test_the_shares(
    monkeypatch: pytest.MonkeyPatch, limit: int, health_ports: int, clients: int
) -> None:
    monkeypatch.setattr(open_files, "limit", lambda: limit)
    assert (for_health_ports(), for_clients()) == (health_ports, clients)


@pytest.mark.parametrize("limit", [1, 20, 64, 100, 200, 500, 1000, 5000])
def test_files_are_left_and_each_thread_has_a_client(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(open_files, "limit", lambda: limit)
    assert for_clients() >= 1
    if limit >= 40:
        assert limit - for_health_ports() - 3 * for_clients() >= 28
