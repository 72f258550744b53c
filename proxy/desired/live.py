"""What does the headgate that runs in this network namespace say?"""

from __future__ import annotations

import re
import socket
import time
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
_SECONDS = 4 * PATIENCE_SECONDS
"""An answer is here after so long, whole."""
_LARGEST = 512 << 20
"""Bytes of an answer: ten times what the largest clusters need."""
_PIECE = 1 << 20
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
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
    deadline = time.monotonic() + _SECONDS
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as running:
        running.settimeout(_SECONDS)
        who = "the headgate that runs here"
        try:
            running.connect(NAME)
            answerer = peer(running)
            who = f"{who} (pid {answerer.process})"
            _require_trust(answerer, who)
            running.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            answer = _received(running, deadline)
        except ConnectionRefusedError:
            return None
        except TimeoutError as fault:
            raise EnvironmentFault(f"{who} has not answered within {_SECONDS:g} s") from fault
        except OSError as fault:
            raise EnvironmentFault(f"{who} does not answer: {fault.strerror or fault}") from fault
    if len(answer) > _LARGEST:
        raise EnvironmentFault(f"{who} answers with more than {_LARGEST >> 20} MiB")
    return _read(answer, kind, who)


def _received(running: socket.socket, deadline: float) -> bytearray:
    """Everything, or what is too much. Raises TimeoutError at the deadline, and OSError."""
    answer = bytearray()
    while len(answer) <= _LARGEST:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        running.settimeout(left)
        piece = running.recv(_PIECE)
        if not piece:
            break
        answer += piece
    return answer


def _require_trust(answerer: Peer, who: str) -> None:
    """Refuse to ask whom nobody may believe, and who would not tell us anything."""
    if not answerer.is_trusted:
        stranger = f"process {answerer.process} of user {answerer.user}"
        raise EnvironmentFault(f"{stranger} answers as if it were headgate, and is not believed")
    if not answerer.trusts_us:
        raise EnvironmentFault(f"{who} answers to root and to its own user only")


def _read(answer: bytearray, kind: type[_T], who: str) -> _T:
    if not answer:
        raise EnvironmentFault(f"{who} ended the connection without an answer")
    said = _STATUS.match(answer)
    if said is None:
        raise EnvironmentFault(f"{who} is of another version: it does not answer by HTTP/1.1")
    status = int(said[1])
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        busy = f"its main loop has not turned for {PATIENCE_SECONDS:.0f} s"
        raise EnvironmentFault(f"{who} does not answer: {busy}")
    if status != HTTPStatus.OK:
        raise EnvironmentFault(f"{who} is of another version: status {status}")
    head = answer.find(b"\r\n\r\n")
    try:
        return msgspec.json.decode(memoryview(answer)[head + 4 :] if head > 0 else b"", type=kind)
    except msgspec.ValidationError as error:
        raise EnvironmentFault(f"{who} is of another version: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EnvironmentFault(f"{who} ended the connection amid its answer") from error
    except RecursionError as error:
        raise EnvironmentFault(f"{who} is of another version: {error}") from error
