"""Does a look leave a kernel alone that nobody uses IPVS of?"""

from __future__ import annotations

from pathlib import Path

import pytest

from modes.base import Missing
from modes.ipvs import links
from modes.ipvs.looking import look


def test_a_look_loads_no_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """To ask IPVS anything would load it."""
    monkeypatch.setattr(links, "_SERVERS", tmp_path / "ip_vs")
    with pytest.raises(Missing, match="the module ip_vs is not loaded"):
        look()
