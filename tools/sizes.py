"""Which files and functions grew beyond what one reader holds in mind?

Exit status 1 when there are any.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50


def function_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the length of a function in lines, signature included, docstring excluded."""
    first = function.body[0]
    docstring = first if ast.get_docstring(function, clean=False) is not None else None
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    return lines - (
        (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1 if docstring else 0
    )


def oversized(path: Path) -> Iterator[str]:
    """Yield one line of text for the file itself and for each function in it that is too long."""
    text = path.read_text(encoding="utf-8")
    if (lines := len(text.splitlines())) > MAX_FILE_LINES:
        yield f"{path}: {lines} lines, at most {MAX_FILE_LINES}"
    for node in ast.walk(ast.parse(text, filename=str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = function_lines(node)
            if lines > MAX_FUNCTION_LINES:
                where = f"{path}:{node.lineno}: {node.name}"
                yield f"{where}: {lines} lines, at most {MAX_FUNCTION_LINES}"


def main(roots: list[str]) -> int:
    """Print what is oversized below the given folders and return the exit status."""
    complaints = [
        line
        for root in roots
        for path in sorted(Path(root).rglob("*.py"))
        for line in oversized(path)
    ]
    for line in complaints:
        print(line)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
