"""What does an operator read of an answer that is no answer?"""

from __future__ import annotations

import io

import pytest
import urllib3

from proxy.sources.connection import _refusal


@pytest.mark.parametrize(
    ("status", "reason", "body", "said"),
    [
        (403, "Forbidden", b'{"message": "services is forbidden"}', "403 services is forbidden"),
        (503, "Service Unavailable", b"<html>", "503 Service Unavailable"),
        (503, None, b"", "503 Service Unavailable"),
        (599, None, b"", "599 no reason given"),
        (500, "", b'{"message": ' + b"[" * 60_000, "500 Internal Server Error"),
    ],
)
def test_a_refusal_in_words(status: int, reason: str | None, body: bytes, said: str) -> None:
    response = urllib3.HTTPResponse(
        body=io.BytesIO(body), status=status, reason=reason, preload_content=False
    )
    assert str(_refusal(response)) == said
