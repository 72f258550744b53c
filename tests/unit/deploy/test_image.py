"""Does the image hold what the program needs, and nothing else? As far as that shows without an engine."""

from __future__ import annotations

import ast
import fnmatch
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from endpoints.names import Family
from modes.xtables import kernel
from modes.xtables.variant import Variant
from tests.unit.deploy import DEPLOY, ROOT
from tests.unit.deploy.dockerfile import stages

BUILD, FINAL = stages((DEPLOY / "Dockerfile").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("conntrack", "endpoints", "modes", "proxy")

COPIED = [word for copy in BUILD.of("COPY") for word in copy.words[:-1]]
"""What the builder takes from the repository."""

ASKING = {"modes/tracing/programs.py", "proxy/facts/foreign_kernel.py", "proxy/facts/machine.py"}
"""Files of debug commands that ask programs where they are there: nft and those of iptables, and for
their versions ip and conntrack, which the image does without."""
STARTS = re.compile(r"subprocess|_posixsubprocess|multiprocessing.*|pty")
"""Modules by which other programs are started."""


def files(path: str) -> set[str]:
    """The files that a COPY of this path takes, by their paths in the repository."""
    taken = (ROOT / path).rglob("*") if (ROOT / path).is_dir() else [ROOT / path]
    found = {file.relative_to(ROOT) for file in taken if file.is_file()}
    return {str(file) for file in found if "__pycache__" not in file.parts}


def test_what_is_copied_is_the_program_and_nothing_else() -> None:
    assert set(PACKAGES) == {
        pattern
        for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
        if "*" not in pattern
    }
    assert set(COPIED) - set(PACKAGES) == {
        *("requirements.lock", "deploy/build.lock"),
        *("pyproject.toml", "README.md", "LICENSE"),  # the wheel's own description names them
    }
    assert set(PACKAGES) <= set(COPIED)
    assert all(files(source) for source in COPIED)


def test_the_builder_is_sent_what_is_copied() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    assert rules[-1] == "**/__pycache__"
    assert {rule.removeprefix("!") for rule in rules[1:-1]} == set(COPIED)


def test_all_that_comes_from_elsewhere_is_of_a_known_version() -> None:
    assert BUILD.base == FINAL.base
    assert re.fullmatch(r"debian:12\.\d+-slim", FINAL.base)
    unpinned = {name for of in (BUILD, FINAL) for name, pin in of.packages.items() if not pin}
    assert unpinned == {"ca-certificates"}  # certificates are of no use when they are old
    installs = [
        command
        for run in BUILD.of("RUN")
        for command in run.text.split("&&")
        if "pip" in command and " install " in command
    ]
    for command in installs:
        assert "--no-index" in command or {"--require-hashes", "--only-binary"} <= set(
            command.split()
        )


def test_every_line_of_the_locks_has_a_hash() -> None:
    for source in COPIED:
        if source.endswith(".lock"):
            text = re.sub(r"\\\n", "", (ROOT / source).read_text())
            lines = [line for line in text.splitlines() if re.match(r"[a-zA-Z]", line)]
            assert lines
            assert all("==" in line and "--hash=sha256:" in line for line in lines), source
    build = (DEPLOY / "build.lock").read_text()
    assert re.findall(r"^([a-z]+)==", build, re.MULTILINE) == ["setuptools"]


@pytest.mark.skipif(
    platform.freedesktop_os_release().get("VERSION_ID") != "12",
    reason="not Debian 12, whose packages the image has",
)
def test_the_tests_run_with_the_programs_of_the_image() -> None:
    for name, pin in FINAL.packages.items():
        command = ["dpkg-query", "--show", "--showformat=${Version}", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert fnmatch.fnmatch(done.stdout, pin), (name, done.stdout)


def imported(path: Path) -> set[str]:
    """The modules that a file names in its imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_what_starts_programs_is_known_and_the_image_has_them() -> None:
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    starting = {path for path in modules if any(map(STARTS.fullmatch, imported(path)))}
    assert {str(path.relative_to(ROOT)) for path in starting} == {
        "modes/xtables/kernel.py",
        *ASKING,
    }
    needed = {
        name
        for family in Family
        for variant in Variant
        for name in kernel.installed(family, variant) or ()
    }
    assert len(needed) == 12  # three of each variant in each family
    command = ["dpkg", "--listfiles", "iptables", "nftables", "ipset", "kmod"]
    assert {"iptables", "nftables", "ipset", "kmod"} < set(FINAL.packages)
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    there = {Path(line).name for line in listed.splitlines() if "/sbin/" in line}
    assert needed | {"nft", "ipset", "modprobe"} <= there


def test_it_says_what_it_is() -> None:
    labels = dict(word.split("=", 1) for label in FINAL.of("LABEL") for word in label.words)
    said = {name.rpartition(".")[2]: text for name, text in labels.items()}
    project = PROJECT["project"]
    assert said == {
        "title": project["name"],
        "description": project["description"],
        "version": project["version"],
        "licenses": project["license"],
    }
    (entry,) = FINAL.of("ENTRYPOINT")
    (command,) = entry.words
    assert command in project["scripts"]
    (environment,) = FINAL.of("ENV")
    path = dict(word.split("=", 1) for word in environment.words)["PATH"]
    (taken,) = FINAL.of("COPY")
    assert path.split(":")[0] == f"{taken.words[-1]}/bin"


def test_the_command_of_kubeadms_daemonset_is_there() -> None:
    links = [run.words[-2:] for run in FINAL.of("RUN") if run.words[0] == "ln"]
    (entry,) = FINAL.of("ENTRYPOINT")
    (taken,) = FINAL.of("COPY")
    assert links == [[f"{taken.words[-1]}/bin/{entry.words[0]}", "/usr/local/bin/kube-proxy"]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made in a copy of what the builder copies."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in COPIED:
        for file in files(name):
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, source / file)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(made)]
    subprocess.run([*pip, *options, str(source)], check=True)
    (found,) = made.iterdir()
    return found


def test_the_wheel_holds_every_module_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
    assert held == {
        name
        for package in PACKAGES
        for name in files(package)
        if name.endswith((".py", "py.typed"))
    }


def test_it_runs_from_where_nothing_can_be_written(wheel: Path, tmp_path: Path) -> None:
    venv, python = tmp_path / "headgate", tmp_path / "headgate" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True)
    # What it depends on is lent by the environment of the tests.
    lent = sysconfig.get_path("purelib")
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(f"{lent}\n")
    (venv / "lib" / "written").touch()
    (tmp_path / "kube-proxy").symlink_to(venv / "bin" / "headgate")
    asked = f"--config={ROOT}/docs/examples/kube-proxy.conf --hostname-override=worker-2"
    read_only = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd / && '
    for command, status in (
        (f"touch {venv}/lib/written", 1),
        (f"PYTHONDONTWRITEBYTECODE=1 exec {venv}/bin/headgate version", 0),
        (f"PYTHONDONTWRITEBYTECODE=1 exec {venv}/bin/headgate --help", 0),
        (f"exec {tmp_path}/kube-proxy {asked} --write-config-to=/dev/stdout", 0),
    ):
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f"{read_only}{command}", str(venv)],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        )
        assert done.returncode == status, done.stderr
        if command.endswith("version"):
            assert PROJECT["project"]["version"] in done.stdout
