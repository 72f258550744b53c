"""Is it said in one line when the machine does not let us?"""

from __future__ import annotations

import subprocess
import sys

import pytest

UNPRIVILEGED = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
ASK = """
from modes.base import EnvironmentFault
from modes.nftables.looking import look
from modes.nftables.mode import NftablesMode
from tests.unit.endpoints.build import NODE_A
mode = NftablesMode()
try:
    {call}
except EnvironmentFault as fault:
    print(fault)
"""


@pytest.mark.parametrize("call", ["mode.start(NODE_A)", "mode.cleanup()", "look()"])
@pytest.mark.parametrize("privileged", [False, True])
def test_without_the_capability(call: str, *, privileged: bool) -> None:
    prefix = () if privileged else UNPRIVILEGED
    command = [*prefix, sys.executable, "-c", ASK.format(call=call)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = "nf_tables does not answer us: CAP_NET_ADMIN is missing (run as root)\n"
    assert (done.stdout, done.stderr) == ("" if privileged else expected, "")
