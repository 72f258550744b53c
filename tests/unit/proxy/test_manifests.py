"""Is a saved file told at once, and half of one never? Real folders, real inotify."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from endpoints.events import Delete, Problem, Replace, Upsert
from endpoints.objects import Kind, Service, name_of
from proxy.sources.base import Died, Message, Together
from proxy.sources.files import Contents, contents
from proxy.sources.inotify import Inotify
from proxy.sources.manifests import ManifestSource, load
from tests.unit.proxy.build import drained, endpoints, node, service, together

PATIENCE_SECONDS = 10


class Watched:
    """A running source, and what it says, in words."""

    def __init__(self, *paths: Path) -> None:
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.source = ManifestSource(paths)
        self.source.start(self.messages)
        self.is_running = True

    def stop(self) -> None:
        if self.is_running:
            self.source.stop()
        self.is_running = False

    def next(self) -> list[str]:
        return spelled(self.messages.get(timeout=PATIENCE_SECONDS))

    def rest(self) -> list[str]:
        """What is said until the source has ended."""
        self.stop()
        return [word for message in drained(self.messages) for word in spelled(message)]


def spelled(message: Message) -> list[str]:
    match message:
        case Together(events):
            return [word for event in events for word in spelled(event)]
        case Replace(kind, objects):
            return [f"{kind}s {' '.join(sorted(str(name_of(obj)) for obj in objects))}".strip()]
        case Upsert(Service() as obj):
            return [f"+{name_of(obj)} {[port.port for port in obj.spec.ports or ()]}"]
        case Upsert(obj):
            return [f"+{name_of(obj)}"]
        case Delete(_, name):
            return [f"-{name}"]
        case Problem():
            return [str(message)]
        case _:
            pytest.fail(f"unexpected: {message}")


Watch = Callable[..., Watched]


@pytest.fixture
def watch() -> Iterator[Watch]:
    running: list[Watched] = []

    def start(*paths: Path) -> Watched:
        running.append(Watched(*paths))
        return running[-1]

    yield start
    for watched in running:
        watched.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "manifests"
    made.mkdir()
    return made


NOTHING = ["Services", "EndpointSlices", "Nodes"]


def test_every_kind_is_listed_first_in_one_piece(watch: Watch, folder: Path) -> None:
    (folder / "a.yaml").write_text(together(service(), endpoints("10.244.1.2"), node()))
    assert watch(folder).next() == [
        "Services shop/pay",
        "EndpointSlices shop/pay-1",
        "Nodes node-a",
    ]


def test_an_empty_folder_is_an_empty_cluster(watch: Watch, folder: Path) -> None:
    assert watch(folder).next() == NOTHING


def test_a_file_that_is_written_changed_and_deleted(watch: Watch, folder: Path) -> None:
    seen = watch(folder)
    seen.next()
    (folder / "a.yaml").write_text(service())
    assert seen.next() == ["+shop/pay [80]"]
    (folder / "a.yaml").write_text(service(port=81))
    assert seen.next() == ["+shop/pay [81]"]
    (folder / "a.yaml").unlink()
    assert seen.next() == ["-shop/pay"]


def test_an_editor_that_renames_into_place(watch: Watch, folder: Path) -> None:
    (folder / "a.yaml").write_text(service())
    seen = watch(folder)
    seen.next()
    (folder / "a.yaml~").write_text("half of a [file")
    (folder / ".a.yaml.swp").write_text("half of a [file")
    (folder / "a.yaml~").write_text(service(port=81))
    (folder / "a.yaml~").rename(folder / "a.yaml")
    assert seen.next() == ["+shop/pay [81]"]


def test_a_file_is_not_read_while_it_is_written(watch: Watch, folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text(together(service("cart", "10.96.7.8"), service("pay")))
    seen = watch(folder)
    seen.next()
    with path.open("w") as half:
        half.write(service("cart", "10.96.7.8"))
        half.flush()
        # Whatever makes the folders be listed again must not read the half of it.
        (folder / "deeper").mkdir()
        (folder / "deeper" / "b.yaml").write_text(service("other", "10.96.7.9"))
        assert seen.next() == ["+shop/other [80]"]
        half.write("---\n" + service("pay", port=81))
    assert seen.next() == ["+shop/pay [81]"]


def test_a_file_moves_away_and_back(watch: Watch, folder: Path, tmp_path: Path) -> None:
    (folder / "a.yaml").write_text(service())
    seen = watch(folder)
    seen.next()
    (folder / "a.yaml").rename(tmp_path / "a.yaml")
    assert seen.next() == ["-shop/pay"]
    (tmp_path / "a.yaml").rename(folder / "a.yaml")
    assert seen.next() == ["+shop/pay [80]"]


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_links_are_complete_when_they_are_made(
    watch: Watch, folder: Path, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "target").write_text(service())
    seen = watch(folder)
    seen.next()
    link(tmp_path / "target", folder / "a.yaml")
    assert seen.next() == ["+shop/pay [80]"]


def test_folders_below_come_and_go(watch: Watch, folder: Path, tmp_path: Path) -> None:
    seen = watch(folder)
    seen.next()
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "a.yml").write_text(service())
    outside.rename(folder / "inside")
    assert seen.next() == ["+shop/pay [80]"]
    (folder / "inside" / "deep" / "a.yml").write_text(service(port=81))
    assert seen.next() == ["+shop/pay [81]"]
    (folder / "inside").rename(outside)
    assert seen.next() == ["-shop/pay"]


def test_a_folder_that_appears_later(watch: Watch, tmp_path: Path) -> None:
    late = tmp_path / "not" / "yet" / "there"
    seen = watch(late)
    # Nothing is listed: what a kernel holds from before must stay while the folder is missing.
    assert seen.next() == [f"{late}: does not exist yet; it is waited for"]
    late.mkdir(parents=True)
    assert seen.next() == NOTHING
    (late / "a.yaml").write_text(service())
    assert seen.next() == ["+shop/pay [80]"]


def test_what_a_lost_folder_said_stays_until_it_is_back(
    watch: Watch, folder: Path, tmp_path: Path
) -> None:
    (folder / "a.yaml").write_text(service())
    seen = watch(folder)
    seen.next()
    folder.rename(tmp_path / "aside")
    assert seen.next() == [f"{folder}: is gone: what it said stays until it is back"]
    (tmp_path / "aside" / "a.yaml").write_text(service(port=81))  # the same inode as before
    (tmp_path / "aside").rename(folder)
    assert seen.next() == ["+shop/pay [81]"]


def test_what_is_missing_in_a_folder_that_is_back_is_gone(
    watch: Watch, folder: Path, tmp_path: Path
) -> None:
    (folder / "a.yaml").write_text(service())
    (folder / "b.yaml").write_text(service("cart"))
    seen = watch(folder)
    seen.next()
    folder.rename(tmp_path / "aside")
    assert seen.next() == [f"{folder}: is gone: what it said stays until it is back"]
    (tmp_path / "aside" / "b.yaml").unlink()
    (tmp_path / "aside").rename(folder)
    assert seen.next() == ["-shop/cart"]


def test_a_file_that_an_editor_moves_aside_loses_nothing(watch: Watch, folder: Path) -> None:
    only = folder / "only.yaml"
    only.write_text(service())
    seen = watch(only)
    seen.next()
    for port in (81, 82):
        only.rename(folder / "only.yaml~")
        assert seen.next() == [f"{only}: is gone: what it said stays until it is back"]
        only.write_text(service(port=port))
        assert seen.next() == [f"+shop/pay [{port}]"]


def test_a_single_file_among_others(watch: Watch, folder: Path) -> None:
    seen = watch(folder / "only.txt")
    assert seen.next() == [f"{folder / 'only.txt'}: does not exist yet; it is waited for"]
    (folder / "other.yaml").write_text(service("cart"))
    (folder / "only.txt").write_text(service("pay"))
    assert seen.next() == ["Services shop/pay", "EndpointSlices", "Nodes"]
    (folder / "tmp").write_text(service("pay", port=81))
    (folder / "tmp").rename(folder / "only.txt")
    assert seen.next() == ["+shop/pay [81]"]


def test_a_mounted_config_map_is_switched(watch: Watch, folder: Path) -> None:
    def version(name: str, port: int) -> None:
        (folder / name).mkdir()
        (folder / name / "pay.yaml").write_text(service(port=port))
        (folder / "..data_tmp").symlink_to(name)
        (folder / "..data_tmp").rename(folder / "..data")

    version("..2026_1", 80)
    (folder / "pay.yaml").symlink_to("..data/pay.yaml")
    seen = watch(folder)
    assert seen.next() == ["Services shop/pay", "EndpointSlices", "Nodes"]
    version("..2026_2", 81)
    assert seen.next() == ["+shop/pay [81]"]


def test_a_link_to_a_folder_is_switched(watch: Watch, folder: Path) -> None:
    for name, port in (("one", 81), ("two", 82)):
        (folder / name).mkdir()
        (folder / name / "a.yaml").write_text(service(port=port))
    (folder / "current").symlink_to("one")
    seen = watch(folder / "current")
    seen.next()
    (folder / "next").symlink_to("two")
    (folder / "next").rename(folder / "current")
    assert seen.next() == ["+shop/pay [82]"]
    (folder / "two" / "a.yaml").write_text(service(port=83))
    assert seen.next() == ["+shop/pay [83]"]


def test_a_link_to_a_folder_that_holds_it_is_followed_once(watch: Watch, folder: Path) -> None:
    (folder / "a.yaml").write_text(service())
    (folder / "loop").symlink_to(folder)
    assert watch(folder).next() == ["Services shop/pay", "EndpointSlices", "Nodes"]


def test_a_malformed_file_names_its_line_and_keeps_what_was_known(
    watch: Watch, folder: Path
) -> None:
    path = folder / "a.yaml"
    path.write_text(service())
    seen = watch(folder)
    seen.next()
    path.write_text("kind: Service\nkind: Service\n")
    assert seen.next() == [f"{path}:2: duplicate key kind"]
    path.write_text(service(port=81))
    assert seen.next() == ["+shop/pay [81]"]
    assert seen.rest() == []


def test_a_change_that_says_nothing_new_is_not_told(watch: Watch, folder: Path) -> None:
    (folder / "a.yaml").write_text(service())
    seen = watch(folder)
    seen.next()
    (folder / "a.yaml").write_text("# a remark\n" + service())
    (folder / "b.yaml").write_text(service("cart"))
    assert seen.next() == ["+shop/cart [80]"]


def test_after_lost_events_everything_is_read_again(
    watch: Watch, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's queue (fs.inotify.max_queued_events) overflows while the reader is held up."""
    (folder / "a.yaml").write_text(service())
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    held_up = threading.Event()
    read = Inotify.read

    def late(self: Inotify) -> object:
        assert held_up.wait(timeout=60)
        return read(self)

    monkeypatch.setattr(Inotify, "read", late)
    seen = watch(folder)
    seen.next()
    for _ in range(limit // 2 + 1):
        # Events that equal the last one are merged, so two names take turns.
        (folder / "0.txt").write_text("")
        (folder / "1.txt").write_text("")
    (folder / "a.yaml").write_text(service(port=81))
    held_up.set()
    assert seen.next() == ["+shop/pay [81]"]


def test_a_thread_that_fails_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = RuntimeError("on purpose")

    def fail(_: Inotify) -> object:
        raise failure

    monkeypatch.setattr(Inotify, "read", fail)
    seen = Watched(folder)
    seen.next()
    assert seen.messages.get(timeout=PATIENCE_SECONDS) == Died("manifests", failure)
    seen.stop()


def test_a_file_that_cannot_be_read_is_reported(watch: Watch, folder: Path) -> None:
    (folder / "a.yaml").write_text(service())
    (folder / "b.yaml").mkdir()
    (folder / "c.yaml").symlink_to("c.yaml")
    seen = watch(folder)
    assert seen.next() == [f"{folder / 'c.yaml'}: Too many levels of symbolic links"]
    assert seen.next() == ["Services shop/pay", "EndpointSlices", "Nodes"]


def test_a_pipe_is_not_waited_for(watch: Watch, folder: Path) -> None:
    os.mkfifo(folder / "a.yaml")
    (folder / "b.yaml").write_text(service())
    seen = watch(folder)
    assert seen.next() == [f"{folder / 'a.yaml'}: is no regular file"]
    assert seen.next() == ["Services shop/pay", "EndpointSlices", "Nodes"]


def test_a_file_that_breaks_the_reader_breaks_nothing_else(
    watch: Watch, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(data: bytes, path: str) -> Contents:
        if b"cart" in data:
            raise LookupError("nobody thought of this")
        return contents(data, path)

    monkeypatch.setattr("proxy.sources.manifests.contents", fails)
    (folder / "a.yaml").write_text(service())
    seen = watch(folder)
    seen.next()
    (folder / "b.yaml").write_text(service("cart"))
    reason = "cannot be understood: LookupError: nobody thought of this"
    assert seen.next() == [f"{folder / 'b.yaml'}: {reason}"]
    (folder / "a.yaml").write_text(service(port=81))
    assert seen.next() == ["+shop/pay [81]"]


def test_while_no_file_can_be_understood_nothing_is_listed(watch: Watch, folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text("kind: [")
    seen = watch(folder)
    assert seen.next() == [f"{path}:1: no value where one must be, or a bracket left open"]
    path.write_text(service())
    assert seen.next() == ["Services shop/pay", "EndpointSlices", "Nodes"]


def test_who_has_no_patience_gets_what_can_be_understood(folder: Path) -> None:
    (folder / "a.yaml").write_text("kind: [")
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    source = ManifestSource([folder], patient=False)
    source.start(messages)
    messages.get(timeout=PATIENCE_SECONDS)
    assert spelled(messages.get(timeout=PATIENCE_SECONDS)) == NOTHING
    source.stop()


def test_load_reads_everything_once(folder: Path) -> None:
    (folder / "b.yaml").write_text(together(service(port=82), node()))
    (folder / "a.yaml").write_text(service(port=81))
    objects, problems = load([folder])
    assert {type(obj).__name__ for obj in objects} == {"Service", "Node"}
    assert [str(problem) for problem in problems] == [
        f"{folder / 'b.yaml'}: Service shop/pay: is in {folder / 'a.yaml'} too, which is used"
    ]
    with pytest.raises(FileNotFoundError, match="missing"):
        load([folder, folder / "missing"])


def test_the_source_provides_every_kind() -> None:
    assert ManifestSource.kinds == set(Kind)
