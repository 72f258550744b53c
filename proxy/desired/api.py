"""What does the API server say, once?"""

from __future__ import annotations

import random
from collections.abc import Iterator

from endpoints.events import Problem, Replace
from endpoints.objects import Kind
from modes.base import EnvironmentFault
from proxy.every import aside
from proxy.sources.api import PAGE_LIMIT, PATHS, selectors
from proxy.sources.connection import Connection, Failed, Patience
from proxy.sources.kubeconfig import ApiConfig, checked, loaded
from proxy.sources.watch import Broken, ListFrom, Watch


def listed(config: ApiConfig) -> Iterator[Replace | Problem]:
    """All objects of every kind, and what of them cannot be read.

    Raises EnvironmentFault if the server cannot be asked, or does not answer.
    """
    identity = checked(config)
    if not config.kubeconfig:
        loaded(config, identity)  # raises when this is no pod either
    connection = Connection(config, identity, Patience())
    try:
        aside(f"asking {connection.server}")
        for kind in Kind:
            yield from _listed(connection, kind, config.node_name)
    except (Failed, Broken) as error:
        raise EnvironmentFault(f"{connection.server}: {error.failure}") from error
    finally:
        connection.close()


def _listed(connection: Connection, kind: Kind, node_name: str) -> Iterator[Replace | Problem]:
    """One kind, page by page."""
    watch = Watch(kind, random.random)
    query = selectors(kind, node_name) | {"limit": str(PAGE_LIMIT)}
    while True:
        yield from watch.page(connection.get(PATHS[kind], query))
        if not isinstance(watch.request, ListFrom):
            return
        query["continue"] = watch.request.continue_token
