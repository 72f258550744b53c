"""Are lines klog's, one an event, with the file and line that speaks?"""

from __future__ import annotations

import inspect
import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from proxy import log


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger("headgate")
    before = root.handlers, root.level, ours.level
    yield io.StringIO()
    root.handlers = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def test_the_header_is_klogs_and_names_this_file(stream: io.StringIO) -> None:
    log.setup(2, stream)
    here = inspect.currentframe()
    assert here is not None
    line_before = here.f_lineno
    log.info("Synced", v=2, mode="nftables", services=1204, elements="+1-1", took="1.8ms")
    line = stream.getvalue()
    assert re.fullmatch(
        rf'I\d{{4}} \d\d:\d\d:\d\d\.\d{{3}} test_log\.py:{line_before + 1}\] "Synced"'
        r" mode=nftables services=1204 elements=\+1-1 took=1\.8ms\n",
        line,
    ), line


def test_severities(stream: io.StringIO) -> None:
    log.setup(0, stream)
    log.info("a")
    log.warning("b")
    log.error("c")
    assert [line[0] for line in stream.getvalue().splitlines()] == ["I", "W", "E"]


@pytest.mark.parametrize(("verbosity", "written"), [(0, [0]), (2, [0, 1, 2]), (50, [0, 1, 2, 9])])
def test_verbosity(stream: io.StringIO, verbosity: int, written: list[int]) -> None:
    log.setup(verbosity, stream)
    for v in (0, 1, 2, 9):
        log.info(f"at {v}", v=v)
    assert [int(v) for v in re.findall(r'"at (\d)"', stream.getvalue())] == written


def test_values_are_quoted_where_they_must_be(stream: io.StringIO) -> None:
    log.setup(0, stream)
    log.warning('it "broke"', object="Service shop/pay", at="[fd00::1]:80", text="a\nb", none="")
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.endswith(
        '"it \\"broke\\"" object="Service shop/pay" at=[fd00::1]:80 text="a\\nb" none=""\n'
    )


def test_a_traceback_follows_its_line(stream: io.StringIO) -> None:
    log.setup(0, stream)
    log.error("A thread died", thread="api", exc_info=RuntimeError("on purpose"))
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith('"A thread died" thread=api')
    assert lines[-1] == "RuntimeError: on purpose"


def test_libraries_speak_the_same_way_but_only_of_trouble(stream: io.StringIO) -> None:
    log.setup(9, stream)
    logging.getLogger("urllib3").info("never mind")
    logging.getLogger("urllib3").warning("Retrying (%s)", 3)
    [line] = stream.getvalue().splitlines()
    assert re.fullmatch(r'W.* test_log\.py:\d+\] "Retrying \(3\)"', line), line


def test_json_is_that_of_kubernetes_components(stream: io.StringIO) -> None:
    log.setup(2, stream, "json")
    log.info("Synced", v=2, services=1204, elements="+1-1")
    log.warning("Skipped", object="Service shop/pay")
    log.error("A thread died", exc_info=ValueError("on purpose"))
    synced, skipped, died = map(json.loads, stream.getvalue().splitlines())
    assert 1.7e12 < synced.pop("ts") < 1e13
    assert re.fullmatch(r"test_log\.py:\d+", synced.pop("caller"))
    assert synced == {"msg": "Synced", "v": 2, "services": 1204, "elements": "+1-1"}
    assert (skipped["severity"], skipped["object"]) == ("warning", "Service shop/pay")
    assert (died["severity"], died["err"]) == ("error", "on purpose")
    assert "ValueError" in died["stacktrace"]
    assert "v" not in died


def test_files_may_have_verbosities_of_their_own(stream: io.StringIO) -> None:
    log.setup(1, stream, vmodule="other=9,test_l*=4,test_log=9")
    log.info("said", v=4)
    log.info("too much", v=5)
    assert '"said"' in stream.getvalue()
    assert "too much" not in stream.getvalue()
    stream.truncate(0)
    log.setup(1, stream, vmodule="other=9")
    log.info("said", v=1)
    log.info("too much", v=2)
    log.warning("always")
    assert re.findall(r'"(said|too much|always)"', stream.getvalue()) == ["said", "always"]


def test_what_modes_say_is_a_warning_unless_it_is_routine(stream: io.StringIO) -> None:
    log.setup(0, stream)
    log.told("Degraded", reason="no nfacct")
    log.told("Removed what a proxy left", routine=True, variant="nft")
    first, second = stream.getvalue().splitlines()
    assert first.startswith("W")
    assert first.endswith('"Degraded" reason="no nfacct"')
    assert second.startswith("I")
    assert second.endswith('"Removed what a proxy left" variant=nft')


@pytest.mark.parametrize("text", ["sync", "=4", "sync=", "sync=x", "a=1,b=-1"])
def test_a_vmodule_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no pattern=N"):
        log.ByFile(text, 0)
