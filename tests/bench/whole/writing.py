"""How is something written to an API server?"""

from __future__ import annotations

import http.client
import ssl
import time
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec

from endpoints.names import ObjectName
from tests.apiserver.requests import named_in, path_of
from tests.bench.cluster import Json

_ANSWER_SECONDS = 60.0
_IDLE_SECONDS = 30.0
"""kube-apiserver hangs up after 90, which a slow proxy takes for a change of the node."""
_VERSION = frozenset({"resourceVersion"})


class Refused(RuntimeError):
    """The server did not do what it was asked to."""


class Connection:
    """A connection to an API server that is kept open."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        context: ssl.SSLContext | None = None,
        withheld: frozenset[str] = _VERSION,
    ) -> None:
        """Connect when something is asked first. A context: the server is asked over TLS.

        What is withheld of an object's metadata is not sent: its version at least, so that a
        replacement is one of whatever is there.

        http.client switches Nagle's algorithm off by itself.
        """
        self.url = url
        self._withheld = withheld
        place = urlsplit(url).netloc
        self._connection = (
            http.client.HTTPConnection(place, timeout=_ANSWER_SECONDS)
            if context is None
            else http.client.HTTPSConnection(place, timeout=_ANSWER_SECONDS, context=context)
        )
        self._used = time.monotonic()
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def write(self, method: str, document: Json) -> float:
        """Create (POST), replace (PUT) or delete (DELETE) an object, whatever version it names.

        Returns time.monotonic() when the answer was read. Raises Refused.
        """
        name = named_in(document)
        place = ObjectName(name.namespace, "") if method == "POST" else name
        path = path_of(str(document["kind"]), place)
        body = b"" if method == "DELETE" else self._encoded(document)
        if time.monotonic() - self._used > _IDLE_SECONDS:
            self._connection.close()  # opened again by the next request
        self._connection.request(method, path, body=body, headers=self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        answered = self._used = time.monotonic()
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise Refused(f"{method} {path}: {response.status} {answer[:500].decode()}")
        return answered

    def _encoded(self, document: Json) -> bytes:
        metadata = document["metadata"]
        assert isinstance(metadata, dict)
        sent = {key: value for key, value in metadata.items() if key not in self._withheld}
        return msgspec.json.encode(document | {"metadata": sent})

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
