"""Do shells complete what headgate takes?"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from select import select

import pytest

from modes.registry import MODES
from proxy.cli import main
from proxy.flags import COMMANDS

HEADGATE = Path(sys.executable).with_name("headgate")
PATIENCE_SECONDS = 30.0
FILES = ("kube-proxy.conf", "shop.yaml")

Complete = Callable[[str], set[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where somebody types: there are two files."""
    for name in FILES:
        (tmp_path / name).touch()
    return tmp_path


def script(shell: str) -> str:
    """What is to be read by a shell."""
    command = [sys.executable, "-m", "proxy", "completion", shell]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def by_bash(line: str, folder: Path) -> set[str]:
    """What bash offers for the end of a line; readline's words are those of its own splitting."""
    words = line.replace("=", " = ").split(" ")
    code = (
        "source /dev/stdin\n"
        'COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))\n'
        '_headgate\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["/bin/bash", "--norc", "-u", "-c", code, "bash", *words],
        input=script("bash"),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def by_fish(line: str, folder: Path) -> set[str]:
    """What fish offers; each line of `complete -C` is a word, a tab and a description."""
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / ".config")}
    done = subprocess.run(
        ["fish", "--no-config", "-c", "source -; complete -C $argv[1]", "--", line],
        input=script("fish"),
        cwd=folder,
        env=os.environ | home,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    offered = (offer.partition("\t")[0] for offer in done.stdout.splitlines())
    return {offer.rpartition("=")[2] if "=" in line else offer for offer in offered}


@pytest.fixture(params=["bash", "fish"])
def offered(request: pytest.FixtureRequest, folder: Path) -> Complete:
    """What a shell offers for the end of a line."""
    shell: str = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    by = {"bash": by_bash, "fish": by_fish}[shell]
    return lambda line: by(line, folder)


def test_commands(offered: Complete) -> None:
    assert offered("headgate ") == set(COMMANDS)
    assert offered("headgate ex") == {"explain"}


def test_flags_of_a_command(offered: Complete) -> None:
    assert {"--manifests", "--from", "--output"} <= offered("headgate explain --")
    assert offered("headgate explain --fr") == {"--from"}
    assert offered("headgate dump --fr") == set()
    assert offered("headgate render --mode ipvs --ipvs-sched") >= {"--ipvs-scheduler"}


def test_flags_without_a_command_are_those_of_run(offered: Complete) -> None:
    assert offered("headgate --hostname") == {"--hostname-override"}
    assert offered("headgate run --hostname") == {"--hostname-override"}
    assert offered("headgate --once --hostname") == {"--hostname-override"}


def test_what_is_ignored_is_not_offered(offered: Complete) -> None:
    assert offered("headgate run --log-d") == set()


def test_values(offered: Complete) -> None:
    assert offered("headgate explain --mode ") == {"auto", *MODES}
    assert offered("headgate explain --mode nft") == {"nftables"}
    assert offered("headgate explain --mode=nft") == {"nftables"}
    assert offered("headgate --mode ip") == {"iptables", "ipvs"}
    assert offered("headgate dump --proxy-mode=i") == {"iptables", "ipvs"}
    assert offered("headgate dump -o j") == {"json"}
    assert offered("headgate dump -o ") == {"table", "json", "native"}
    assert offered("headgate top --sort b") == {"bytes"}
    assert offered("headgate completion f") == {"fish"}
    assert offered("headgate render --ipvs-scheduler m") == {"mh"}


def test_files(offered: Complete) -> None:
    assert offered("headgate render --manifests sh") == {"shop.yaml"}
    assert offered("headgate diff --snapshot sh") == {"shop.yaml"}
    assert offered("headgate snapshot -o ku") == {"kube-proxy.conf"}
    assert offered("headgate --config ku") == {"kube-proxy.conf"}
    assert offered("headgate explain --manifests shop.yaml --config ku") == {"kube-proxy.conf"}
    assert not offered("headgate explain --from ") & set(FILES)


def test_bash_offers_what_a_boolean_may_be(folder: Path) -> None:
    assert by_bash("headgate run --once=", folder) == {"true", "false"}
    assert by_bash("headgate run --once --hostname", folder) == {"--hostname-override"}


class Typing:
    """An interactive zsh, which completes only on a terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._shown = ""

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def shows(self, wanted: str) -> bool:
        """Whether it shows a text, now or in a moment."""
        while wanted not in self._shown:
            ready, _, _ = select([self._terminal], [], [], PATIENCE_SECONDS)
            if not ready:
                return False
            self._shown += os.read(self._terminal, 65536).decode(errors="replace")
        self._shown = self._shown.partition(wanted)[2]
        return True


@pytest.fixture
def zsh(folder: Path) -> Iterator[Typing]:
    """A zsh that has read our script."""
    if shutil.which("zsh") is None:
        pytest.skip("there is no zsh")
    (folder / "headgate.zsh").write_text(script("zsh"))
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        ["zsh", "-f", "-i"],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(folder)},
        start_new_session=True,
    )
    os.close(theirs)
    typing = Typing(ours)
    # The answer differs from what is typed, which the terminal echoes.
    typing.type("PS1=; autoload -Uz compinit; compinit -u -D; . ./headgate.zsh; echo re''ady\n")
    assert typing.shows("ready")
    yield typing
    running.kill()
    running.wait()
    os.close(ours)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("headgate expl", "explain"),
        ("headgate explain --fr", "--from"),
        ("headgate --hostname", "--hostname-override"),
        ("headgate dump --mode nft", "nftables"),
        ("headgate dump --mode=nft", "--mode=nftables"),
        ("headgate explain --manifests sh", "shop.yaml"),
        ("headgate run --once=f", "--once=false"),
        ("headgate completion f", "fish"),
    ],
)
def test_zsh(zsh: Typing, typed: str, completed: str) -> None:
    zsh.type(f"{typed}\t")
    # What is typed is a beginning of what is completed; a dumb terminal shows the rest after it.
    assert zsh.shows(typed)
    rest = completed.removeprefix(typed.rpartition(" ")[2])
    assert zsh.shows(rest)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_one_to_its_shell(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    path = tmp_path / shell
    path.write_text(script(shell))
    done = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_names_every_command(shell: str) -> None:
    text = script(shell)
    assert all(command in text for command in COMMANDS)
    assert "hostname-override" in text


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    refusal = "headgate: SHELL: tcsh: must be one of bash, zsh, fish\n"
    assert capsys.readouterr() == ("", refusal)
