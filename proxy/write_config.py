"""What is in force, as a file that says the same?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import yaml

from proxy.config import config
from proxy.every import aside
from proxy.settings.refusal import ConfigError


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate run --write-config-to FILE`. Raises ConfigError."""
    path = Path(flags.write_config_to)
    found = config(flags)
    for line in (*found.warnings, *found.notes):
        aside(line)
    text = as_yaml(found.document)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError("--write-config-to", str(path), reason) from error
    return 0


def as_yaml(document: Mapping[str, object]) -> str:
    """The text of a file."""
    text: str = yaml.safe_dump(document, allow_unicode=True)
    return text
