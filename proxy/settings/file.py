"""What does a KubeProxyConfiguration say, and what of it cannot be understood?

Decoded strictly, and then, as kube-proxy does for v1alpha1, leniently: a field that is unknown or
stands there twice is a warning and costs nothing else. In another case it is unknown, as it is to
Kubernetes' decoder (sigs.k8s.io/json). What is of the wrong type, or no KubeProxyConfiguration at
all, is refused; all such refusals are told at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from endpoints.unreadable import short
from proxy.settings.option import Option, type_of
from proxy.settings.refusal import ConfigError, ConfigErrors, plain
from proxy.settings.regular_file import bytes_of
from proxy.settings.settings import FromFile, Given
from proxy.settings.table import API_VERSION, KIND, OPTIONS

Tree = Mapping[str, "Tree | Option"]
"""Fields by name: an option, or a section with fields of its own."""


def read(path: Path) -> FromFile:
    """What a file says. Raises ConfigError, with a line for each thing that is wrong."""
    try:
        data = bytes_of(path)
    except OSError as error:
        raise ConfigError("--config", str(path), error.strerror or str(error)) from error
    return decode(data, str(path))


def decode(data: bytes, name: str) -> FromFile:
    """What the bytes of a file of this name say. Raises ConfigError as `read`."""
    warnings: list[str] = []
    document = _document(data, name, warnings)
    _require(document, name, "apiVersion", API_VERSION)
    _require(document, name, "kind", KIND)
    fields = {key: raw for key, raw in document.items() if key not in ("apiVersion", "kind")}
    walk = _Walk(name)
    given = dict(walk.section(fields, _tree(OPTIONS.values()), ""))
    if walk.errors:
        raise ConfigErrors(walk.errors)
    return FromFile(given, (*warnings, *walk.warnings))


def _document(data: bytes, name: str, warnings: list[str]) -> Mapping[str, object]:
    """The one document of the file. Raises ConfigError."""
    # PyYAML costs 30 ms: only who names a file pays for it.
    from proxy.parsing.malformed import Malformed  # noqa: PLC0415
    from proxy.parsing.yaml_documents import yaml_documents  # noqa: PLC0415

    duplicates: list[Malformed] = []
    found = []
    for part in yaml_documents(data, duplicates):
        if isinstance(part, Malformed):
            raise ConfigError(name, f"line {part.line}", part.reason)
        if part[0] is not None:
            found.append(part)
    if not found:
        raise ConfigError(name, "", f"is empty: must be a {KIND}")
    if len(found) > 1:
        raise ConfigError(name, f"line {found[1][1]}", f"a second document: one {KIND} is expected")
    document = found[0][0]
    if not isinstance(document, dict):
        raise ConfigError(name, short(document), f"must be a {KIND}")
    warnings += [f"{name}: {duplicate}: the last one holds" for duplicate in duplicates]
    return document


def _require(document: Mapping[str, object], name: str, field: str, value: str) -> None:
    if (found := document.get(field)) != value:
        text = "" if found is None else short(found)
        raise ConfigError(f"{name}: {field}", text, f"must be {value}")


def _tree(options: Iterable[Option]) -> Tree:
    root: dict[str, Tree | Option] = {}
    for option in options:
        *sections, leaf = option.field.split(".")
        place = root
        for section in sections:
            place = place.setdefault(section, {})  # type: ignore[assignment]
        if leaf:
            place[leaf] = option
    return root


class _Walk:
    """One way through a document."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.errors: list[ConfigError] = []
        self.warnings: list[str] = []

    def section(
        self, fields: Mapping[str, object], known: Tree, above: str
    ) -> Iterator[tuple[str, Given]]:
        """The options that are said in a section, `above` being its path and a dot."""
        for key, raw in fields.items():
            path = f"{above}{key}"
            node = known.get(key)
            if node is None:
                self._pass_over(key, known, above)
            elif isinstance(node, Option):
                yield from self._option(node, raw)
            elif isinstance(raw, dict):
                yield from self.section(raw, node, f"{path}.")
            elif raw is not None:
                self._refuse(path, raw, f"must be a section of fields, is {type_of(raw)}")

    def _pass_over(self, key: str, known: Tree, above: str) -> None:
        """Say that a field is unknown, and which one may be meant."""
        spelled = f"{above}{plain(short(key))}"
        close = [field for field in known if field.lower() == key.lower()]
        close = close or difflib.get_close_matches(key, known, 1)
        elsewhere = [o.field for o in OPTIONS.values() if o.field.rpartition(".")[2] == key]
        meant = [f"{above}{field}" for field in close] or elsewhere[:1]
        hint = f" (did you mean {meant[0]}?)" if meant else ""
        self.warnings.append(f"{self._name}: {spelled}: unknown field{hint}: ignored")

    def _option(self, option: Option, raw: object) -> Iterator[tuple[str, Given]]:
        try:
            value = option.of_field(raw)
        except ValueError as error:
            self._refuse(option.field, raw, str(error))
            return
        if value is not None:
            yield option.key, Given(value, short(raw), f"{self._name}: {option.field}")

    def _refuse(self, path: str, raw: object, reason: str) -> None:
        self.errors.append(ConfigError(f"{self._name}: {path}", short(raw) or '""', reason))
