"""Breaker: its three states, how long it is open, and which outcome closes it. Its clock is the test's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random

import pytest

from streams import clock
from streams.executing.circuit_breaker import Breaker
from streams.executing.priority_queue import PriorityQueue
from streams.messages.outcome import (
    ACKED,
    SKIPPED,
    Acked,
    Cancelled,
    DeadLettered,
    Expired,
    Outcome,
    Released,
    Retried,
    Snoozed,
)
from streams.testing.clock import VirtualClock


async def _pass(seconds: float) -> None:
    raise AssertionError(f"nobody waits here, and not for {seconds:g} s")


@pytest.fixture
def time() -> Iterator[VirtualClock]:
    """A clock that stands still."""
    stopped = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC), _pass)
    with clock.replaced(stopped):
        yield stopped


class Counting(PriorityQueue):
    """Counts how often it was woken."""

    woken = 0

    def wake(self) -> None:
        self.woken += 1


class Chance(Random):
    """Always the same, and none at first."""

    value = 0.0

    def random(self) -> float:
        return self.value


class Watched(Breaker):
    """A breaker without chance, which counts how often it has said that hand-outs may go on."""

    def __init__(self) -> None:
        self.queue, self.chance = Counting(), Chance()
        super().__init__("probe", self.queue, self.chance)

    @property
    def woken(self) -> int:
        """How often it has."""
        return self.queue.woken


@pytest.fixture
def breaker(time: VirtualClock) -> Watched:
    return Watched()


def forward(time: VirtualClock, seconds: float) -> None:
    time.ms += round(seconds * 1000)
    time.fire()


def open_half(breaker: Watched, time: VirtualClock) -> None:
    breaker.opened("smtp")
    forward(time, breaker.opens_in())


def test_closed_it_admits_everything(breaker: Watched) -> None:
    assert breaker.closed
    assert not breaker.is_open
    assert all(breaker.admits() for _ in range(100))
    assert (breaker.opens_in(), breaker.dependency) == (0, "")
    breaker.concluded(DeadLettered("failed", "x"))
    assert (breaker.closed, breaker.woken) == (True, 0)


def test_open_it_admits_nothing_until_its_time(breaker: Watched, time: VirtualClock) -> None:
    """Then one message, and no other before that one has ended."""
    assert breaker.opened("smtp") == 0.5
    assert (breaker.closed, breaker.is_open, breaker.dependency) == (False, True, "smtp")
    forward(time, 0.499)
    assert breaker.opens_in() == pytest.approx(0.001, abs=1e-5)
    assert not breaker.admits()
    assert breaker.woken == 0
    forward(time, 0.001)
    assert (breaker.closed, breaker.is_open, breaker.woken, breaker.opens_in()) == (False, False, 1, 0)
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    assert breaker.is_open


def test_what_fails_meanwhile_does_not_lengthen_the_wait(breaker: Watched, time: VirtualClock) -> None:
    """A hundred deliveries in flight meet the same outage."""
    assert {breaker.opened("smtp") for _ in range(100)} == {0.5}
    assert breaker.opens_in() == 0.5


def test_each_failed_probe_doubles_the_wait_up_to_a_quarter_of_a_minute(breaker: Watched, time: VirtualClock) -> None:
    waits = []
    for _ in range(8):
        waits.append(breaker.opened("smtp"))
        assert breaker.opens_in() == waits[-1]
        forward(time, waits[-1])
        assert breaker.admits()
    assert waits == [0.5, 1, 2, 4, 8, 15, 15, 15]


def test_the_message_comes_back_a_little_after_the_breaker(breaker: Watched) -> None:
    """Spread over half as long again, so that they do not come all at once."""
    breaker.chance.value = 1.0
    assert breaker.opened("smtp") == 0.75


@pytest.mark.parametrize(
    "outcome",
    [ACKED, Acked(shared=True), Retried(1, "x"), DeadLettered("failed", "x"), DeadLettered("rejected", "x")],
)
def test_a_handler_that_came_to_an_outcome_closes_it(breaker: Watched, time: VirtualClock, outcome: Outcome) -> None:
    """It proves that what it depends on answers; the next outage begins with the short wait."""
    for _ in range(3):
        open_half(breaker, time)
        assert breaker.admits()
    woken = breaker.woken
    breaker.concluded(outcome)
    assert (breaker.closed, breaker.dependency, breaker.woken) == (True, "", woken + 1)
    assert breaker.opened("smtp") == 0.5


@pytest.mark.parametrize(
    "outcome",
    [
        SKIPPED, DeadLettered("invalid", "x"), DeadLettered("unknown_type", "x"), DeadLettered("too_large", "x"),
        DeadLettered("crashed", "x"), Expired("x"), Snoozed(1, "x"), Released(), Cancelled(), None,
    ],
)  # fmt: skip
def test_what_ran_no_handler_proves_nothing(breaker: Watched, time: VirtualClock, outcome: Outcome | None) -> None:
    """A skipped type, invalid data, a lost lease: another one is tried."""
    open_half(breaker, time)
    assert breaker.admits()
    woken = breaker.woken
    breaker.concluded(outcome)
    assert (breaker.closed, breaker.woken) == (False, woken + 1)
    assert [breaker.admits() for _ in range(3)] == [True, False, False]


def test_an_outcome_while_it_is_open_says_nothing(breaker: Watched, time: VirtualClock) -> None:
    """It is of a delivery that began before the outage."""
    breaker.opened("smtp")
    breaker.concluded(ACKED)
    assert (breaker.closed, breaker.is_open, breaker.woken) == (False, True, 0)
    forward(time, 0.5)
    assert breaker.admits()


def test_stopped_it_wakes_nobody(breaker: Watched, time: VirtualClock) -> None:
    breaker.stop()
    breaker.opened("smtp")
    breaker.stop()
    forward(time, 60)
    assert breaker.woken == 0
