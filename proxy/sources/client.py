"""When does the kubernetes client come into memory? When it is first needed, by one thread.

It takes 0.2 s and 40 MB that `--manifests` does not need. Its modules import one another, some of
them only when they are asked for something (kubernetes 37): two threads that do so at once make
each other's imports fail, with ImportError or with half a module. Several kinds are followed, and
Events sent, by threads of their own, so that all of them come here first.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, NamedTuple

_ONE_AT_A_TIME = threading.Lock()


class Library(NamedTuple):
    """What is used of the client. It has no types."""

    api_client: Any
    """`kubernetes.client.ApiClient`."""
    configuration: Any
    """`kubernetes.client.Configuration`."""
    loaders: Any
    """`kubernetes.config`."""


def library() -> Library:
    """The client, imported whole; for any thread, and at no price from the second time on."""
    with _ONE_AT_A_TIME:
        return _imported()


@cache
def _imported() -> Library:
    from kubernetes import config  # noqa: PLC0415 (see above)
    from kubernetes.client import ApiClient, Configuration  # noqa: PLC0415

    # What one of them imports when it is made must not wait until several threads make one.
    ApiClient(Configuration()).close()
    return Library(ApiClient, Configuration, config)
