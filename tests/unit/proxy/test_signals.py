"""Is every signal that ends the program heard, whatever the main thread does?"""

from __future__ import annotations

import os
import queue
import signal
from collections.abc import Iterator

import pytest

from proxy.signals import ENDING, Signals, end_at_once
from proxy.sources.base import Message, Stop


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_becomes_a_message(number: signal.Signals) -> None:
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    listening = Signals()
    listening.start(messages)
    os.kill(os.getpid(), number)
    assert messages.get(timeout=30) == Stop(number.name)
    listening.stop()


def test_the_message_needs_no_step_of_the_main_thread() -> None:
    """The C handler writes the number; no Python handler has to run for it to be heard."""
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    listening = Signals()
    listening.start(messages)
    listening._told.send(bytes((signal.SIGTERM,)))
    assert messages.get(timeout=30) == Stop("SIGTERM")
    listening.stop()


def test_afterwards_they_end_the_program_at_once() -> None:
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    listening = Signals()
    listening.start(messages)
    listening.stop()
    assert not listening._thread.is_alive()
    with pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM


def test_before_the_queue_is_read_they_end_it_too() -> None:
    end_at_once()
    with pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), signal.SIGINT)
    assert ended.value.code == 128 + signal.SIGINT
