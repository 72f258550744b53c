"""How does the program tell what it does? One line an event, in klog's format or as JSON.

`I1120 23:41:07.112 sync.py:88] "Synced" mode=nftables services=1204 changed=1`: severity, date and
time, the file and line that speaks, the event in quotes, then names and values. `-v` is klog's: a
line of verbosity v is written when v is not above it. Warnings and errors are always written.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TextIO

_LOGGER = logging.getLogger("headgate")
_CALLER_OF_LOG = 3
_SEVERITY = {logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}
_BARE = re.compile(r"[\w.:/@%+\[\],-]+", re.ASCII)


class JsonFormatter(logging.Formatter):
    """Formats as Kubernetes' components do with `--logging-format json`.

    `ts` is in milliseconds since 1970; `v` is the verbosity of what is only told. Warnings and
    errors say so in `severity`, for which the format has no word; an exception is in `err`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line: dict[str, object] = {
            "ts": round(record.created * 1000, 3),
            "caller": f"{record.filename}:{record.lineno}",
            "msg": record.getMessage(),
        }
        if record.levelno <= logging.INFO:
            line["v"] = logging.INFO - record.levelno
        else:
            line["severity"] = "warning" if record.levelno < logging.ERROR else "error"
        fields: dict[str, object] = getattr(record, "fields", {})
        line |= {name: _plain(value) for name, value in fields.items()}
        if record.exc_info:
            line["err"] = str(record.exc_info[1])
            line["stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class KlogFormatter(logging.Formatter):
    """Formats records of this module and of libraries alike."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record; a traceback, if there is one, follows it."""
        moment = datetime.fromtimestamp(record.created).astimezone()
        stamp = f"{moment:%m%d %H:%M:%S}.{moment.microsecond // 1000:03d}"
        severity = _SEVERITY.get(record.levelno, "I")
        fields: dict[str, object] = getattr(record, "fields", {})
        words = [json.dumps(record.getMessage(), ensure_ascii=False)]
        words += [f"{name}={_spelled(value)}" for name, value in fields.items()]
        line = f"{severity}{stamp} {record.filename}:{record.lineno}] {' '.join(words)}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


FORMATS = {"text": KlogFormatter, "json": JsonFormatter}


class ByFile:
    """klog's --vmodule: `sync=4,kernel*=6`, verbosities by the name of a file without its ending.

    The first pattern that fits a file counts; other files have the verbosity of all. Raises
    ValueError for a part that is no `pattern=N`.
    """

    def __init__(self, text: str, verbosity: int) -> None:
        self._verbosity = verbosity
        self._patterns = [_pattern(part) for part in text.split(",") if part]

    @property
    def highest(self) -> int:
        """The highest verbosity that any file has."""
        return max([self._verbosity, *(verbosity for _, verbosity in self._patterns)])

    def __call__(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be written; called by `logging`."""
        name = record.filename.removesuffix(".py")
        fitting = (v for pattern, v in self._patterns if fnmatchcase(name, pattern))
        return record.levelno >= _level(next(fitting, self._verbosity))


def setup(
    verbosity: int, stream: TextIO | None = None, style: str = "text", vmodule: str = ""
) -> None:
    """Write lines up to this verbosity to the stream (standard error), libraries' warnings too.

    `style` is one of FORMATS. Raises ValueError as `ByFile`.
    """
    by_file = ByFile(vmodule, verbosity)
    output = logging.StreamHandler(stream or sys.stderr)
    output.setFormatter(FORMATS[style]())
    output.addFilter(by_file)
    root = logging.getLogger()
    root.handlers = [output]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(_level(by_file.highest))


def info(message: str, *, v: int = 0, **fields: object) -> None:
    """Tell what happened, at verbosity v."""
    _write(_level(v), message, fields)


def warning(message: str, /, **fields: object) -> None:
    """Tell what an operator should look at; the program goes on, maybe with less."""
    _write(logging.WARNING, message, fields)


def told(message: str, /, *, routine: bool = False, **fields: object) -> None:
    """Tell what a mode says while it works; a `modes.base.Tell`."""
    _write(_level(0) if routine else logging.WARNING, message, fields)


def error(message: str, *, exc_info: BaseException | None = None, **fields: object) -> None:
    """Tell what failed; with an exception its traceback follows."""
    _write(logging.ERROR, message, fields, exc_info)


def _write(
    level: int, message: str, fields: dict[str, object], exc_info: BaseException | None = None
) -> None:
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(
            level,
            "%s",
            message,
            exc_info=exc_info,
            extra={"fields": fields},
            stacklevel=_CALLER_OF_LOG,
        )


def _level(verbosity: int) -> int:
    """The verbosities of klog are levels below INFO: the higher the number, the less important."""
    return max(logging.INFO - verbosity, logging.NOTSET + 1)


def _spelled(value: object) -> str:
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _plain(value: object) -> object:
    """Numbers and truth stay what they are; anything else is text."""
    return value if isinstance(value, bool | int | float | None) else str(value)


def _pattern(part: str) -> tuple[str, int]:
    pattern, equals, verbosity = part.strip().partition("=")
    if not (pattern and equals and verbosity.isascii() and verbosity.isdigit()):
        raise ValueError(f"{part!r} is no pattern=N")
    return pattern, int(verbosity)
