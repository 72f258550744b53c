"""What does a Dockerfile say? Pure, for the few instructions that ours has."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple


class Instruction(NamedTuple):
    """One line, continuations joined and comments left out."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """As the builder splits them: of a list in JSON, else as a shell would."""
        return json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)


class Stage(NamedTuple):
    """From one FROM to the next."""

    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def of(self, name: str) -> Iterator[Instruction]:
        """The instructions of that name, in their order."""
        return (each for each in self.instructions if each.name == name)

    @property
    def packages(self) -> dict[str, str]:
        """What `apt-get install` is asked for, and in which version; empty where none is named."""
        commands = [shlex.split(part) for run in self.of("RUN") for part in run.text.split("&&")]
        asked = [words[2:] for words in commands if words[:2] == ["apt-get", "install"]]
        pairs = (word.partition("=") for words in asked for word in words if word[0] != "-")
        return {name: version for name, _, version in pairs}


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: list[Stage] = []
    for line in filter(None, joined.splitlines()):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            base, _, alias = rest.partition(" AS ")
            found.append(Stage(base, alias, ()))
        else:
            last = found[-1]
            instructions = (*last.instructions, Instruction(name, rest.strip()))
            found[-1] = last._replace(instructions=instructions)
    return found
