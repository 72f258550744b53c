"""How is a shell told what may follow `headgate`? Pure.

The scripts hold everything: a key that is pressed starts no program.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import msgspec


class Word(msgspec.Struct, frozen=True):
    """A flag, or an argument without one."""

    names: tuple[str, ...]
    """`-o`, `--output`; empty for an argument."""
    does: str
    metavar: str
    """Empty: it takes no value."""
    values: tuple[str, ...] = ()
    is_file: bool = False
    """Its value is the name of a file or a folder."""
    is_optional: bool = False
    """Its value may be left out; if it is there, it is in the same word: `--once=false`."""


class Line(msgspec.Struct, frozen=True):
    """A command."""

    name: str
    does: str
    words: tuple[Word, ...]


_BASH = """\
# For bash: source <(headgate completion bash)
_headgate() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    local command=${COMP_WORDS[1]} equals= words=
    # --flag=value is three words here.
    if [[ $current == = ]]; then
        current= equals==
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD-2]} equals==
    fi
    if [[ $command == -* ]]; then
        command=run
    elif ((COMP_CWORD == 1)); then
        command= before=
    fi
    case "$command $before$equals" in"""
_BASH_END = """\
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _headgate headgate"""
_BASH_FILES = (
    'compopt -o filenames 2> /dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current"); return'
)


def bash(lines: Sequence[Line]) -> Iterator[str]:
    """A script for bash, from 4.4 on."""
    yield _BASH
    yield f"        ' ') words='{' '.join(line.name for line in lines)}' ;;"
    for line in lines:
        for word in line.words:
            if word.names and word.metavar:
                yield f"        {_patterns(line, word)}) {_bash_values(word)} ;;"
        arguments = [value for word in line.words if not word.names for value in word.values]
        flags = [name for word in line.words for name in word.names if name.startswith("--")]
        yield f"        '{line.name} '*) words='{' '.join((*arguments, *flags))}' ;;"
    yield _BASH_END


def _patterns(line: Line, word: Word) -> str:
    ends = ("=",) if word.is_optional else ("", "=")
    return "|".join(f"'{line.name} {name}{end}'" for name in word.names for end in ends)


def _bash_values(word: Word) -> str:
    if word.is_file:
        return _BASH_FILES
    return f"words='{' '.join(word.values)}'" if word.values else "return"


_ZSH = """\
#compdef headgate
# For zsh: source <(headgate completion zsh), or save it as _headgate in a folder of $fpath
_headgate() {
    local command=$words[2]
    if [[ $command == -* ]]; then
        command=run
    elif (( CURRENT == 2 )); then
        local -a commands=("""
_ZSH_COMMANDS = """\
        )
        _describe command commands
        return
    else
        shift words
        (( CURRENT-- ))
    fi
    case $command in"""
_ZSH_END = """\
    esac
}
if [[ $funcstack[1] == _headgate ]]; then
    _headgate "$@"
else
    compdef _headgate headgate
fi"""


def zsh(lines: Sequence[Line]) -> Iterator[str]:
    """A script for zsh, from 5.1 on."""
    yield _ZSH
    for line in lines:
        yield f"            {shlex.quote(f'{line.name}:{line.does}')}"
    yield _ZSH_COMMANDS
    for line in lines:
        specs = [shlex.quote(spec) for word in line.words for spec in _specs(word)]
        yield " \\\n            ".join([f"        {line.name}) _arguments", *specs]) + " ;;"
    yield _ZSH_END


_ZSH_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\[]:"})


def _specs(word: Word) -> Iterator[str]:
    """A word as _arguments takes it, once for each name; every flag may come again."""
    metavar = word.metavar.translate(_ZSH_MARKS)
    action = "_files" if word.is_file else f"({' '.join(word.values)})" if word.values else " "
    if not word.names:
        yield f":{metavar}:{action}"
    for name in word.names:
        equals = "=" if name.startswith("--") and word.metavar else ""
        value = f":{metavar}:{action}" if word.metavar else ""
        joined = "-:" if word.is_optional else ""
        yield f"*{name}{equals}{joined[:1]}[{word.does.translate(_ZSH_MARKS)}]{joined[1:]}{value}"


def fish(lines: Sequence[Line]) -> Iterator[str]:
    """A script for fish, from 3.0 on."""
    yield "# For fish: headgate completion fish | source"
    yield "complete -c headgate -f"
    # Flags without a command are those of run.
    others = " ".join(line.name for line in lines if line.name != "run")
    yield f"function __headgate_runs; not __fish_seen_subcommand_from {others}; end"
    for line in lines:
        does = _fish_quoted(line.does)
        yield f"complete -c headgate -n __fish_use_subcommand -a {line.name} -d {does}"
        seen = f"'__fish_seen_subcommand_from {line.name}'"
        when = "__headgate_runs" if line.name == "run" else seen
        for word in line.words:
            for option in _fish_options(word):
                yield f"complete -c headgate -n {when} {option}"


def _fish_options(word: Word) -> Iterator[str]:
    """What `complete` has to know of a word, once for each name."""
    value = " -r -F" if word.is_file else " -x" if word.metavar and not word.is_optional else ""
    if word.values and not word.is_optional:
        value += f" -a '{' '.join(word.values)}'"
    if not word.names and word.values:
        yield f"-a '{' '.join(word.values)}'"
    for name in word.names:
        kind = "-l" if name.startswith("--") else "-s"
        yield f"{kind} {name.lstrip('-')}{value} -d {_fish_quoted(word.does)}"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
