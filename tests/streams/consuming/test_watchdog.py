"""What a process tells its watcher: for how many seconds it may be silent. Processes are ended in tests/user_code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import monotonic

import pytest

from streams.consuming.watchdog import Watchdog
from streams.consuming.watcher import SIGN

LEASE = 40.0  # a sign every five seconds: none comes by itself while a test runs


class Watched:
    """A watchdog, a consumer with the deadlines of its handlers, and the end of the pipe that the watcher reads."""

    longest = 100.0

    def __init__(self) -> None:
        self.deadlines: list[float] = []
        self.dog = Watchdog("test", lease=LEASE)
        self.dog._consumers, self.dog.longest = [self], self.longest
        self.reads, self.dog._signs = os.pipe()
        os.set_blocking(self.reads, False)
        os.set_blocking(self.dog._signs, False)

    def running(self) -> list[float]:
        """What a consumer says of its handlers."""
        return self.deadlines

    def said(self) -> list[int]:
        """The seconds of the signs since the last look, rounded."""
        try:
            written = os.read(self.reads, 4096)
        except BlockingIOError:
            return []
        return [round(seconds) for (seconds,) in SIGN.iter_unpack(written)]


@pytest.fixture
def watched() -> Iterator[Watched]:
    """One without a watcher."""
    made = Watched()
    yield made
    made.dog._close()
    os.close(made.reads)


def test_silence_may_last_a_lease_beyond_the_first_deadline(watched: Watched) -> None:
    """Where no handler runs, or is known to, beyond the longest timeout there is; never less than a lease."""
    watched.dog._sign()
    watched.deadlines = [monotonic() + 30, monotonic() + 10]
    watched.dog._sign()
    watched.deadlines = [monotonic() - 500]
    watched.dog._sign()
    assert watched.said() == [140, 50, 40]


def test_a_handler_that_begins_shortens_it(watched: Watched) -> None:
    """At once: it may hold the interpreter before the next sign. One that may take longer than is allowed does not."""
    watched.dog._sign()
    watched.dog.expect(5.0)
    watched.dog.expect(90.0)
    watched.dog.expect(2.0)
    assert watched.said() == [140, 45, 42]


def test_the_last_sign_is_the_last(watched: Watched) -> None:
    """The process ends so many seconds later, whatever blocks it, and no sign of life changes that."""
    watched.dog.last(3.0)
    watched.dog._live()  # returns at once
    assert watched.said() == [3]


def test_a_child_gives_no_signs_for_its_parent(watched: Watched) -> None:
    """Else a parent that hangs would be kept by its children."""
    watched.dog.forked()
    watched.dog._live()  # returns at once
    watched.dog._sign()
    assert os.read(watched.reads, 100) == b"", "its end of the pipe is closed"


def test_a_watcher_that_does_not_read_holds_nothing_up(watched: Watched) -> None:
    """The pipe is full: it will find the signs that it has."""
    for _ in range(10_000):
        watched.dog._sign()
    assert not watched.dog._stopped.is_set()


def test_a_watcher_that_is_gone_is_missed_once(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    """The log says what that means."""
    os.close(watched.reads)
    watched.dog._sign()
    watched.dog._sign()
    watched.reads = os.open(os.devnull, os.O_RDONLY)
    out, err = capsys.readouterr()
    assert (out + err).count("watchdog.ended") == 1
    assert watched.dog._stopped.is_set()
