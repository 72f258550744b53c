"""What of a run is worth an Event of Kubernetes, and on which object?

What an operator would look for where he looks first: on the Service that is not served, and on the
Node where something fights.
"""

from __future__ import annotations

from endpoints.events import Problem
from endpoints.names import ObjectName
from modes.base import Foreign
from proxy.events.recorder import Recorder, Reference
from proxy.observer import Observer, Repair

_API_VERSION = {"Service": "v1", "Node": "v1", "EndpointSlice": "discovery.k8s.io/v1"}
"""Of the kinds that events can be about."""


class Reporting(Observer):
    """Records events about the objects of a cluster and about this node."""

    def __init__(self, recorder: Recorder, node_name: str) -> None:
        self._recorder = recorder
        # As kube-proxy and kubelet have it: the name stands for the uid, which they do not know.
        self._node = Reference("Node", "", node_name, node_name)

    def started(self, mode: str) -> None:
        """The program begins to serve in this mode."""
        self._recorder.record(self._node, "Normal", "Starting", f"headgate, mode {mode}")

    def degraded(self, reason: str) -> None:
        """This node does not let us do something."""
        self._recorder.record(self._node, "Warning", "Degraded", reason)

    def skipped(self, problem: Problem) -> None:
        """As of an Observer."""
        about = reference(problem.subject)
        if about is not None:
            said = (problem.field, problem.value, problem.reason)
            message = ": ".join(part for part in said if part)
            self._recorder.record(about, "Warning", "Skipped", message)

    def refused(self, service: ObjectName, reason: str) -> None:
        """As of an Observer."""
        self._recorder.record(_service(service), "Warning", "NotProgrammed", reason)

    def repaired(self, repair: Repair) -> None:
        """As of an Observer."""
        message = f"{_who(repair.cause)}: {repair.cause.what}"
        self._recorder.record(self._node, "Warning", "DriftRepaired", message)

    def fought(self, foreign: Foreign, pause_seconds: float) -> None:
        """As of an Observer."""
        pause = f"the next repair waits for {pause_seconds:.0f} s"
        message = f"{_who(foreign)} changes the rules again and again: {pause}"
        self._recorder.record(self._node, "Warning", "RulesContested", message)

    def health_port_failed(self, service: ObjectName, port: int, reason: str) -> None:
        """The healthCheckNodePort of a Service cannot be listened on."""
        message = f"healthCheckNodePort {port}: {reason}"
        self._recorder.record(
            _service(service), "Warning", "FailedToStartServiceHealthcheck", message
        )


def reference(subject: str) -> Reference | None:
    """The object that a Problem is about (`Service shop/pay`); None if it is none of the API's."""
    kind, _, name = subject.partition(" ")
    version = _API_VERSION.get(kind)
    if version is None or not name:
        return None
    namespace, slash, rest = name.partition("/")
    if not slash:
        return Reference(kind, "", name, api_version=version)
    return Reference(kind, namespace, rest, api_version=version)


def _service(name: ObjectName) -> Reference:
    return Reference("Service", name.namespace, name.name)


def _who(foreign: Foreign) -> str:
    return f"{foreign.author} (pid {foreign.pid})" if foreign.author else "another program"
