"""What do the commands print with -o json? Writes docs/schema/, made from the values they print.

usage: schemas.py FOLDER
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import msgspec

ANSWERS = {
    "diff": "proxy.debug.differing:Differing",
    "diff-watch": "proxy.debug.watching:Turn",
    "dump": "proxy.debug.dumped:Dumped",
    "explain": "proxy.debug.explain:Answer",
    "probe": "proxy.debug.probe:Probed",
    "render-ipvs": "modes.ipvs.listing:Listed",
    "render-iptables": "modes.xtables.listing:ListedTable",
    "render-nftables": "modes.nftables.listing:ListedTable",
    "top": "proxy.debug.rates.busy:Interval",
    "trace": "proxy.debug.tracing.traced:Traced",
}
"""By the name of the file: `headgate COMMAND`, and what of it."""
LISTS = ("dump", "render-iptables", "render-nftables")
LINES = ("diff-watch", "top")
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(name: str) -> dict[str, Any]:
    """The schema of an answer."""
    of = resolve_name(ANSWERS[name])
    answer = tuple[of, ...] if name in LISTS else of  # type: ignore[valid-type]
    command, _, part = name.partition("-")
    title = f"headgate {command} {f'--{part} ' if part == 'watch' else ''}-o json"
    title += f" --mode {part}" if part and part != "watch" else ""
    title += ": each line" if name in LINES else ""
    found = msgspec.json.schema(answer)
    for struct in structs(msgspec.inspect.type_info(answer)):
        described = found["$defs"][struct.__name__]
        if not struct.__struct_config__.omit_defaults:
            # A value that is the default is printed like any other.
            described["required"] = list(described["properties"])
        for field, text in documented(struct):
            if field in described["properties"]:
                described["properties"][field]["description"] = text
    return {"$schema": DIALECT, "title": title, **found}


def structs(of: object) -> Iterator[type[msgspec.Struct]]:
    """All structs that a value of a type may hold, outer ones first; none holds itself."""
    if isinstance(of, msgspec.inspect.StructType):
        yield of.cls
        for field in of.fields:
            yield from structs(field.type)
    elif isinstance(of, msgspec.inspect.Type):
        for name in of.__struct_fields__:
            held = getattr(of, name)
            for inner in held if isinstance(held, tuple) else (held,):
                yield from structs(inner)


def documented(struct: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    """The fields that say what they are, in a text below them."""
    for base in reversed(struct.__mro__):
        if not issubclass(base, msgspec.Struct) or base is msgspec.Struct:
            continue
        of = next(ast.iter_child_nodes(ast.parse(textwrap.dedent(inspect.getsource(base)))))
        for field, below in pairwise(ast.iter_child_nodes(of)):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    yield name, " ".join(text.split())


def main() -> None:
    """Write a file for each answer."""
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for name in ANSWERS:
        text = json.dumps(schema(name), indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(f"{text}\n")


if __name__ == "__main__":
    main()
