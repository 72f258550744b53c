"""What does the headgate that runs in this network namespace say?"""

from __future__ import annotations

import socket
from http import HTTPStatus
from typing import TypeVar

import msgspec

from modes.base import EnvironmentFault
from proxy.desired.desired import Desired
from proxy.desired.recorded import Recorded
from proxy.peer import Peer, peer

NAME = "\0headgate-debug"
"""An abstract name (unix(7)): it belongs to the network namespace and goes with the process."""
PATIENCE_SECONDS = 5.0
"""Who asks is told after so long that the main loop does not turn."""
_PIECE = 1 << 20
_T = TypeVar("_T")


def live(service: str = "") -> Desired | None:
    """What it wants the kernel to hold; None: none runs here.

    `service`: only the plans of this one, `namespace/name`. Raises EnvironmentFault if it does not
    answer, or nobody may be believed.
    """
    return _ask(f"/plans/{service}" if service else "/plans", Desired)


def objects() -> Recorded | None:
    """What its plans are made of; None: none runs here. Raises as `live`."""
    return _ask("/objects", Recorded)


def _ask(path: str, kind: type[_T]) -> _T | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as running:
        running.settimeout(3 * PATIENCE_SECONDS)
        who = "the headgate that runs here"
        try:
            running.connect(NAME)
            answerer = peer(running)
            who = f"{who} (pid {answerer.process})"
            _require_trust(answerer, who)
            running.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            answer = b"".join(iter(lambda: running.recv(_PIECE), b""))
        except ConnectionRefusedError:
            return None
        except OSError as fault:
            raise EnvironmentFault(f"{who} does not answer: {fault.strerror or fault}") from fault
    return _read(answer, kind, who)


def _require_trust(answerer: Peer, who: str) -> None:
    """Refuse to ask whom nobody may believe, and who would not tell us anything."""
    if not answerer.is_trusted:
        stranger = f"process {answerer.process} of user {answerer.user}"
        raise EnvironmentFault(f"{stranger} answers as if it were headgate, and is not believed")
    if not answerer.trusts_us:
        raise EnvironmentFault(f"{who} answers to root and to its own user only")


def _read(answer: bytes, kind: type[_T], who: str) -> _T:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        busy = f"its main loop has not turned for {PATIENCE_SECONDS:.0f} s"
        raise EnvironmentFault(f"{who} does not answer: {busy}")
    if status not in (0, HTTPStatus.OK):
        raise EnvironmentFault(f"{who} is of another version: status {status}")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise EnvironmentFault(f"{who} is of another version: {error}") from error
    except msgspec.DecodeError as error:
        raise EnvironmentFault(f"{who} ended the connection amid its answer") from error
