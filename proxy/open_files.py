"""How many files may this process have open, and who may have how many of them?

Sockets are files. Health ports and clients are as many as others please; what is left after them
must do for the kernel, the API server and the manifests, without which no Service is served.
"""

from __future__ import annotations

import resource

from proxy import log

_MOST_CLIENTS = 100
_FEWEST_OTHERS = 100
"""22 are open in a run with few Services (nftables), before anybody connects."""


def permit_most() -> None:
    """Raise this process's limit to the highest that it may set itself.

    The soft limit is 1,024 by default for the sake of programs that use select(2)
    (systemd.exec(5), LimitNOFILE); this one does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as fault:
        log.info("The limit of open files stays as it is", v=2, limit=soft, reason=fault)
        return
    log.info("Raised the limit of open files", v=2, before=soft, now=hard)


def limit() -> int:
    """How many may be open at once, ulimit's `-n`."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def for_health_ports() -> int:
    """How many of them may be sockets that listen for health checks of Services."""
    return max(0, min(limit() // 2, limit() - _FEWEST_OTHERS))


def for_clients() -> int:
    """How many of them may be clients of one thread that serves; there are three."""
    return max(1, min(_MOST_CLIENTS, limit() // 10))
