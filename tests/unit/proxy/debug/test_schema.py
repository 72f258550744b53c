"""Is docs/schema what the commands print? tests/test_help.py holds real answers to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from proxy.flags import COMMANDS, Flags

ROOT = Path(__file__).parents[4]
FILES = sorted((ROOT / "docs" / "schema").iterdir())


def test_the_files_are_made_from_the_code(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "schemas.py", tmp_path], check=True)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in FILES}, "make docs"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_a_schema(path: Path) -> None:
    schema = json.loads(path.read_text())
    Draft202012Validator.check_schema(schema)
    named = schema["title"].partition(" -o json")[0]
    assert named.startswith(f"headgate {path.stem.partition('-')[0]}")


def test_every_command_that_prints_json_has_one() -> None:
    printing = set()
    for name, command in COMMANDS.items():
        flags = Flags(name, "")
        command.add_flags(flags)
        outputs = [of for of in flags.actions if "--output" in of.option_strings]
        printing |= {name for of in outputs if "json" in str(of.metavar).split("|")}
    assert printing == {path.stem.partition("-")[0] for path in FILES}


def test_the_page_names_every_file() -> None:
    page = (ROOT / "docs" / "json.md").read_text()
    assert all(f"(schema/{path.name})" in page for path in FILES)
