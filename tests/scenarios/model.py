"""What does a story file say? Pure, but for the reading of the files.

A story is parsed (fields that do not exist are refused, with file and field) and expanded: every
symbol becomes an address, every list of senders or destinations becomes rows, each step becomes
the whole set of objects that exist in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from endpoints.names import Family, Protocol
from endpoints.node import DetectLocalMode, Loopback, NodeSettings
from tests.scenarios.places import (
    MAX_STORIES,
    NODES,
    PLACES,
    POD_NETWORKS,
    SERVED_PORT,
    Place,
    owner_of,
    symbols,
)

FOLDER = Path(__file__).parent
_SYMBOL = re.compile(r"\{([a-z0-9/-]+)\}")
_DESTINATION = re.compile(r"([a-z0-9/-]+):([a-z0-9]+)/(tcp|udp|sctp)")

Document = dict[str, object]
"""An object of the Kubernetes API, being written."""
Key = tuple[str, str, str]
"""Kind, namespace, name."""


class StoryError(ValueError):
    """A story that cannot be told: `cluster-ip.yaml: steps[0].packets[2].to: 'vip1': why`."""


class Settings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """The flags of headgate that a story needs to differ, by their names on the command line."""

    cluster_cidr: tuple[str, ...] = tuple(POD_NETWORKS.values())
    detect_local_mode: DetectLocalMode = DetectLocalMode.CLUSTER_CIDR
    pod_bridge_interface: str = ""
    pod_interface_name_prefix: str = ""
    nodeport_addresses: tuple[str, ...] = ("primary",)
    masquerade_all: bool = False

    def of(self, node: str, *, holds_addresses: bool = False) -> NodeSettings:
        """The settings as the core takes them; a node that holds addresses is in IPVS mode."""
        return NodeSettings(
            name=node,
            detect_local_mode=self.detect_local_mode,
            cluster_cidrs=self.cluster_cidr,
            pod_bridge_interface=self.pod_bridge_interface,
            pod_interface_name_prefix=self.pod_interface_name_prefix,
            node_port_addresses=self.nodeport_addresses,
            loopback=Loopback.NEVER if holds_addresses else Loopback.BY_NAME,
            masquerade_all=self.masquerade_all,
            holds_addresses=holds_addresses,
        )

    def arguments(self) -> list[str]:
        """The settings as a command line."""
        given = {
            "--detect-local-mode": self.detect_local_mode.value,
            "--pod-bridge-interface": self.pod_bridge_interface,
            "--pod-interface-name-prefix": self.pod_interface_name_prefix,
            "--nodeport-addresses": ",".join(self.nodeport_addresses),
        }
        flags = [f"--cluster-cidr={','.join(self.cluster_cidr)}"]
        flags += [f"{flag}={value}" for flag, value in given.items() if value]
        # Of itself the iptables mode serves localhost with any range that holds it.
        by_name = str("localhost" in self.nodeport_addresses).lower()
        flags.append(f"--iptables-localhost-nodeports={by_name}")
        return [*flags, "--masquerade-all"] if self.masquerade_all else flags

    def __str__(self) -> str:
        """What differs from the default, for the name of a test."""
        default = Settings()
        differing = {
            name: value
            for name, value in msgspec.structs.asdict(self).items()
            if value != getattr(default, name)
        }
        return " ".join(f"{k}={_listed(v) or 'none'}" for k, v in differing.items()) or "default"


def _listed(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


class _Forward(msgspec.Struct, forbid_unknown_fields=True):
    forward: list[str]
    saw: str | dict[str, str]


class _Packets(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    to: str | list[str]
    expect: Literal["reject", "drop", "pass"] | _Forward
    sender: str | list[str] = msgspec.field(name="from")
    via: str | None = None
    source: str | None = None
    affinity: int | None = None
    explain_only: str | None = None


class _Step(msgspec.Struct, forbid_unknown_fields=True):
    packets: list[_Packets]
    what: str = ""
    apply: list[Document] = []
    delete: list[str] = []


class _Told(msgspec.Struct, forbid_unknown_fields=True):
    title: str
    steps: list[_Step]
    why: str = ""
    settings: Settings = Settings()
    families: tuple[Family, ...] = tuple(Family)
    objects: list[Document] = []


class Target(msgspec.Struct, frozen=True, order=True):
    """An endpoint that may answer, and as whom it must have seen the sender."""

    name: str
    address: str
    port: int
    masqueraded: bool


class Row(msgspec.Struct, frozen=True):
    """One packet and what becomes of it."""

    where: str
    """File, family and field, for a failure."""
    sender: Place
    source: str
    """The sender's address, unless the row gives it another one."""
    via: str
    """The node that the packet passes first."""
    destination: str
    port: int
    protocol: Protocol
    expect: Literal["forward", "reject", "drop", "pass"]
    targets: tuple[Target, ...] = ()
    affinity_seconds: int | None = None
    explain_only: str | None = None
    """Why no real packet can be sent."""

    def __str__(self) -> str:
        """`cluster-ip.yaml IPv4: steps[0].packets[1]: pod-a1 -> 10.96.0.1:80/TCP`."""
        to = f"[{self.destination}]" if ":" in self.destination else self.destination
        return f"{self.where}: {self.sender.name} -> {to}:{self.port}/{self.protocol}"


class Step(msgspec.Struct, frozen=True):
    """The objects that exist, and rows that hold as long as they do."""

    objects: Mapping[Key, Document]
    rows: tuple[Row, ...]


class Story(msgspec.Struct, frozen=True):
    """A story in one family."""

    name: str
    family: Family
    title: str
    settings: Settings
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        """`cluster-ip IPv4`, the name of a test."""
        return f"{self.name}-{self.family}"


def load(folder: Path = FOLDER) -> list[Story]:
    """All stories of a folder, each once per family. Raises StoryError."""
    files = sorted(folder.glob("*.yaml"))
    if len(files) > MAX_STORIES:
        raise StoryError(f"{folder}: {len(files)} stories: there are addresses for {MAX_STORIES}")
    return [story for number, file in enumerate(files) for story in read(file, number)]


def read(file: Path, number: int) -> list[Story]:
    """One file; `number` chooses the addresses that are the story's own. Raises StoryError."""
    try:
        told = msgspec.convert(yaml.safe_load(file.read_text()), _Told)
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        raise StoryError(f"{file.name}: {error}") from error
    return [_Teller(file, told, family, number).story() for family in told.families]


class _Teller:
    """Expands one story in one family."""

    def __init__(self, file: Path, told: _Told, family: Family, number: int) -> None:
        self._file = file
        self._told = told
        self._family = family
        self._symbols = symbols(family, number)

    def story(self) -> Story:
        steps: list[Step] = []
        objects: dict[Key, Document] = {}
        self._put(objects, self._told.objects, "objects")
        for index, step in enumerate(self._told.steps):
            field = f"steps[{index}]"
            objects = dict(objects)
            for position, text in enumerate(step.delete):
                key = self._deleted(text, f"{field}.delete[{position}]")
                if objects.pop(key, None) is None:
                    self._refuse(f"{field}.delete[{position}]", text, "there is no such object")
            self._put(objects, step.apply, f"{field}.apply")
            rows = tuple(
                row
                for position, packets in enumerate(step.packets)
                for row in self._rows(packets, f"{field}.packets[{position}]")
            )
            steps.append(Step(objects, rows))
        told = self._told
        return Story(self._file.stem, self._family, told.title, told.settings, tuple(steps))

    def _refuse(self, field: str, value: object, why: str) -> None:
        raise StoryError(f"{self._file.name}: {field}: {value!r}: {why}")

    def _symbol(self, name: str, field: str) -> str | int:
        if name not in self._symbols:
            self._refuse(field, name, "no such symbol; tests/scenarios/places.py has them")
        return self._symbols[name]

    # Objects.

    def _put(self, objects: dict[Key, Document], documents: list[Document], field: str) -> None:
        for index, document in enumerate(documents):
            key, expanded = self._document(document, f"{field}[{index}]")
            objects[key] = expanded

    def _namespace(self, given: object = None) -> str:
        """A namespace that no other story and no other family has."""
        own = f"{self._file.stem}-{self._family.lower()}"
        return f"{own}-{given}" if given else own

    def _document(self, document: Document, field: str) -> tuple[Key, Document]:
        expanded = self._expanded(document, field)
        if not isinstance(expanded, dict) or not isinstance(expanded.get("metadata"), dict):
            raise StoryError(f"{self._file.name}: {field}.metadata: missing")
        kind, metadata = expanded.get("kind"), expanded["metadata"]
        metadata["namespace"] = self._namespace(metadata.get("namespace"))
        name = str(metadata.get("name"))
        if kind == "EndpointSlice":
            self._complete_slice(expanded, name, field)
        elif kind != "Service":
            self._refuse(f"{field}.kind", kind, "must be Service or EndpointSlice")
        return (str(kind), metadata["namespace"], name), expanded

    def _expanded(self, value: object, field: str) -> object:
        """A copy with every symbol replaced; `"{nodeport1}"` alone becomes a number."""
        if isinstance(value, dict):
            return {key: self._expanded(v, f"{field}.{key}") for key, v in value.items()}
        if isinstance(value, list):
            return [self._expanded(v, f"{field}[{n}]") for n, v in enumerate(value)]
        if not isinstance(value, str):
            return value
        whole = _SYMBOL.fullmatch(value)
        if whole:
            return self._symbol(whole[1], field)
        return _SYMBOL.sub(lambda found: str(self._symbol(found[1], field)), value)

    def _complete_slice(self, document: Document, name: str, field: str) -> None:
        """What the control plane would write: `web-1` is a slice of the Service `web`."""
        document.setdefault("apiVersion", "discovery.k8s.io/v1")
        metadata = document["metadata"]
        if isinstance(metadata, dict) and "labels" not in metadata:
            metadata["labels"] = {"kubernetes.io/service-name": name.rpartition("-")[0]}
        family = document.setdefault("addressType", self._family.value)
        endpoints = document.get("endpoints")
        if isinstance(endpoints, list):
            document["endpoints"] = [
                self._endpoint(endpoint, family, f"{field}.endpoints[{index}]")
                for index, endpoint in enumerate(endpoints)
            ]

    def _endpoint(self, given: object, family: object, field: str) -> object:
        """`pod-a1`, or `{pod: pod-a1, conditions: ...}`, as the control plane would write it."""
        endpoint = {"pod": given} if isinstance(given, str) else given
        if not isinstance(endpoint, dict) or "pod" not in endpoint:
            return endpoint
        rest = {key: value for key, value in endpoint.items() if key != "pod"}
        place = self._place(endpoint["pod"], f"{field}.pod")
        address = place.addresses[Family(str(family))]
        return {"addresses": [address], "nodeName": place.node, "zone": place.zone} | rest

    def _place(self, name: object, field: str) -> Place:
        if not isinstance(name, str) or name not in PLACES:
            self._refuse(field, name, f"must be one of {', '.join(PLACES)}")
        return PLACES[str(name)]

    def _deleted(self, text: str, field: str) -> Key:
        """`Service web` or `Service namespace/web`."""
        kind, _, name = text.partition(" ")
        if not name:
            self._refuse(field, text, "must be a kind and a name")
        namespace, _, name = name.rpartition("/")
        return kind, self._namespace(namespace), name

    # Packets.

    def _rows(self, packets: _Packets, field: str) -> Iterator[Row]:
        for sender in _as_list(packets.sender):
            for to in _as_list(packets.to):
                yield self._row(packets, self._place(sender, f"{field}.from"), to, field)

    def _row(self, packets: _Packets, sender: Place, to: str, field: str) -> Row:
        found = _DESTINATION.fullmatch(to)
        if not found:
            raise StoryError(f"{self._file.name}: {field}.to: {to!r}: must be symbol:port/protocol")
        destination = str(self._symbol(found[1], f"{field}.to"))
        port = found[2] if found[2].isdigit() else self._symbol(found[2], f"{field}.to")
        family = Family.IPV6 if ":" in destination else Family.IPV4
        expect = packets.expect
        source = packets.source and str(self._symbol(packets.source, f"{field}.source"))
        return Row(
            where=f"{self._file.name} {self._family}: {field}",
            sender=sender,
            source=source or sender.addresses[family],
            via=self._first_node(packets, sender, destination, field),
            destination=destination,
            port=int(port),
            protocol=Protocol(found[3].upper()),
            expect="forward" if isinstance(expect, _Forward) else expect,
            targets=self._targets(expect, family, field) if isinstance(expect, _Forward) else (),
            affinity_seconds=packets.affinity,
            explain_only=packets.explain_only,
        )

    def _first_node(self, packets: _Packets, sender: Place, destination: str, field: str) -> str:
        """A pod's node, the node itself; for the client the owner of the address, or `via`."""
        owner = owner_of(destination)
        node = sender.node or owner or packets.via or "node-a"
        if packets.via not in (None, node) or node not in NODES:
            self._refuse(f"{field}.via", packets.via, f"the packet passes {node} first")
        return node

    def _targets(self, expect: _Forward, family: Family, field: str) -> tuple[Target, ...]:
        targets = []
        for text in expect.forward:
            name, _, port = text.partition(":")
            place = self._place(name, f"{field}.expect.forward")
            saw = expect.saw if isinstance(expect.saw, str) else expect.saw.get(text)
            if saw not in ("sender", "node"):
                self._refuse(f"{field}.expect.saw", saw, f"{text} must have seen sender or node")
            target = Target(name, place.addresses[family], int(port or SERVED_PORT), saw == "node")
            targets.append(target)
        return tuple(sorted(targets))


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
