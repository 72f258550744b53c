"""Can threads that start at once have the kubernetes client? Asked in processes of their own."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import proxy

AT_ONCE = """
import sys, threading
from proxy.sources.client import library

class Watched:
    '''Sees who imports what of the client.'''
    importers = set()
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("kubernetes", "urllib3"):
            self.importers.add(threading.get_ident())
        return None

sys.setswitchinterval(1e-5)
sys.meta_path.insert(0, Watched())
begin = threading.Barrier(5)
found = []

def ask():
    begin.wait()
    made, configuration, _ = library()
    made(configuration()).close()
    found.append(made)

threads = [threading.Thread(target=ask) for _ in range(5)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(found) == 5 and len(set(found)) == 1, found
assert len(Watched.importers) == 1, "several threads imported it"
"""


def test_one_thread_imports_it_for_all() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_nobody_else_imports_it() -> None:
    folder = Path(proxy.__file__).parent
    importing = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in node.names]
        )
        if name.partition(".")[0] == "kubernetes"
    }
    assert importing == {"sources/client.py"}
