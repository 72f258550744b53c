"""What can a source of objects tell the core? Pure.

Sources (the API server, manifest files) put these values on one queue; `ClusterState.fold` takes
them. A relist is one event, so that nothing that is programmed is forgotten in between.
"""

from __future__ import annotations

import msgspec

from endpoints.names import ObjectName
from endpoints.objects import Kind, KubernetesObject


class Problem(msgspec.Struct, frozen=True):
    """A refusal: which object, which field, which value, and why. Nothing else is lost by it."""

    subject: str
    """`Service shop/pay`, or a file name with its line: `pay.yaml:12`."""
    field: str
    """Path of the field, `spec.ports[0].port`; empty when the whole object cannot be read."""
    value: str
    reason: str

    def __str__(self) -> str:
        """`Service shop/pay: spec.ports[0].port: 70000: must be 1-65535`."""
        return ": ".join(
            part for part in (self.subject, self.field, self.value, self.reason) if part
        )


class Upsert(msgspec.Struct, frozen=True):
    """An object was added or changed."""

    object: KubernetesObject


class Delete(msgspec.Struct, frozen=True):
    """An object is gone."""

    kind: Kind
    name: ObjectName


class Replace(msgspec.Struct, frozen=True):
    """These are all objects of a kind that exist now (a list, or a relist after 410 Gone).

    `unreadable` names objects that exist but could not be decoded: what was known of them stays.
    """

    kind: Kind
    objects: tuple[KubernetesObject, ...]
    unreadable: frozenset[ObjectName] = frozenset()


Event = Upsert | Delete | Replace


class Folded(msgspec.Struct, frozen=True):
    """What a folded event made necessary."""

    dirty: frozenset[ObjectName]
    """Services whose plans may have changed."""
    problems: tuple[Problem, ...] = ()
    node_changed: bool = False
    """The NodeView differs from before: all Services are dirty and the mode must look again."""
    services: int = 0
    """How many Services are exposed differently, newly, or no more."""
    slices: int = 0
    """How many EndpointSlices of Services that are ours say something else than before."""
    triggered: tuple[float, ...] = ()
    """When that was caused, in seconds since 1970: what the annotations
    `endpoints.kubernetes.io/last-change-trigger-time` of these slices say."""
