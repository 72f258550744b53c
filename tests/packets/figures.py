"""What does a node's headgate tell whoever asks for its metrics?"""

from __future__ import annotations

import re
import urllib.request

from tests.lab import namespaces
from tests.lab.lab import Lab


def metric(lab: Lab, node: str, name: str) -> float:
    """The value of a metric without labels, or with these: `name{ip_family="IPv4"}`."""
    with (
        namespaces.inside(lab.network[node]),
        urllib.request.urlopen("http://127.0.0.1:10249/metrics", timeout=5) as response,
    ):
        text = response.read().decode()
    (value,) = re.findall(rf"^{re.escape(name)} (.+)$", text, re.MULTILINE)
    return float(value)
