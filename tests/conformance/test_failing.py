"""What becomes of what fails: retries, snoozes, dead letters, the breaker, time-outs and crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from streams import (
    Backoff,
    CurrentDelivery,
    DeadLetter,
    Delivery,
    Processor,
    Retry,
    Snooze,
    Unavailable,
)
from tests.conformance.driver import Driver, becomes, dead, now
from tests.conformance.events import Sent


class Log:
    """A handler that does what it is told, by the attempt, and notes how it was called."""

    def __init__(self, *does: Exception | None, **options: object) -> None:
        self.processor = Processor("one")
        self.attempts: list[int] = []
        self.deliveries: list[int] = []
        self.times: list[float] = []
        self.clock: Callable[[], object] | None = None
        self._does = list(does)
        self.processor.on(Sent, **options)(self._handle)  # type: ignore[arg-type]

    async def _handle(self, event: Sent, delivery: Delivery = CurrentDelivery()) -> None:
        self.attempts.append(delivery.attempt)
        self.deliveries.append(delivery.deliveries)
        what = self._does[min(len(self.attempts), len(self._does)) - 1]
        if what is not None:
            raise what


async def test_three_attempts_are_two_retries(driver: Driver) -> None:
    log = Log(RuntimeError("no"))
    await driver.start(log.processor)
    receipt = await driver.streams.publish(Sent(number=1))
    (letter,) = await dead(driver, "one")
    assert log.attempts == [1, 2, 3]
    assert log.deliveries == [1, 2, 3]
    assert (letter.event_id, letter.reason, letter.attempts, letter.deliveries) == (receipt.id, "failed", 3, 3)
    assert letter.error == "RuntimeError: no"
    assert [error["attempt"] for error in letter.carried.errors] == [1, 2, 3]
    assert "raise what" in letter.traceback


async def test_a_success_ends_the_retries(driver: Driver) -> None:
    log = Log(RuntimeError("no"), None)
    await driver.start(log.processor)
    receipt = await driver.streams.publish(Sent(number=1))
    trail = await becomes(driver, receipt.id, "one", "acked")
    assert log.attempts == [1, 2]
    assert (trail.attempts, trail.deliveries) == (2, 2)
    assert [line["outcome"] for line in trail.history] == ["retried", "acked"]


async def test_a_retry_waits_and_says_so(driver: Driver) -> None:
    log = Log(RuntimeError("no"), retry=Backoff(attempts=2, first=60))
    await driver.start(log.processor)
    receipt = await driver.streams.publish(Sent(number=1))
    trail = await becomes(driver, receipt.id, "one", "retrying")
    assert (trail.attempts, trail.error) == (1, "RuntimeError: no")
    assert trail.due_in is not None
    assert 25 < trail.due_in <= 90


async def test_a_retry_reaches_its_own_group_only(driver: Driver) -> None:
    log, two, seen = Log(RuntimeError("no"), None), Processor("two"), list[int]()

    @two.on(Sent)
    async def see(event: Sent) -> None:
        seen.append(event.number)

    await driver.start(log.processor, two)
    receipt = await driver.streams.publish(Sent(number=1))
    await becomes(driver, receipt.id, "one", "acked")
    await becomes(driver, receipt.id, "two", "acked")
    assert (log.attempts, seen) == ([1, 2], [1])


async def test_a_retry_is_never_early(driver: Driver) -> None:
    one, times = Processor("one"), list[float]()

    @one.on(Sent, retry=Backoff(attempts=2, first=0.2, jitter=0))
    async def see(event: Sent) -> None:
        times.append(await now(driver))
        raise RuntimeError("no")

    await driver.start(one)
    await driver.streams.publish(Sent(number=1))
    await driver.until(lambda: len(times) == 2)
    assert times[1] - times[0] >= 0.199


async def test_a_handler_says_when_to_retry_and_it_counts(driver: Driver) -> None:
    log = Log(Retry("later", after=0.05), Retry(after=0), retry=Backoff(attempts=2, first=60))
    await driver.start(log.processor)
    await driver.streams.publish(Sent(number=1))
    (letter,) = await dead(driver, "one")
    assert (log.attempts, letter.attempts, letter.reason) == ([1, 2], 2, "failed")


async def test_a_snooze_costs_no_attempt(driver: Driver) -> None:
    log = Log(Snooze(0.05), Snooze(0.05), Snooze(0.05), Snooze(0.05), None)
    await driver.start(log.processor)
    receipt = await driver.streams.publish(Sent(number=1))
    trail = await becomes(driver, receipt.id, "one", "acked")
    assert (log.attempts, log.deliveries) == ([1] * 5, [1] * 5)
    assert trail.attempts == 1


async def test_a_snooze_between_failures_keeps_their_count(driver: Driver) -> None:
    log = Log(RuntimeError("no"), Snooze(0.02), RuntimeError("no"), None)
    await driver.start(log.processor)
    receipt = await driver.streams.publish(Sent(number=1))
    await becomes(driver, receipt.id, "one", "acked")
    assert log.attempts == [1, 2, 2, 3]


async def test_a_snooze_says_why(driver: Driver) -> None:
    log = Log(Snooze(60, "the shop is closed"))
    await driver.start(log.processor)
    receipt = await driver.streams.publish(Sent(number=1))
    trail = await becomes(driver, receipt.id, "one", "snoozed")
    assert (trail.reason, trail.attempts) == ("the shop is closed", 0)


async def test_a_handler_gives_up(driver: Driver) -> None:
    log = Log(DeadLetter("no such address"))
    await driver.start(log.processor)
    receipt = await driver.streams.publish(Sent(number=1))
    (letter,) = await dead(driver, "one")
    assert (letter.reason, letter.error, letter.attempts) == ("rejected", "DeadLetter: no such address", 1)
    assert (await becomes(driver, receipt.id, "one", "dead")).dead_letter == letter.id


@pytest.mark.parametrize("error", [TypeError("a bug"), KeyError("here")], ids=["hopeless", "named"])
async def test_what_another_try_cannot_heal_is_dead_at_once(driver: Driver, error: Exception) -> None:
    log = Log(error, retry=Backoff(attempts=5, give_up_on=(TypeError, KeyError)))
    await driver.start(log.processor)
    await driver.streams.publish(Sent(number=1))
    (letter,) = await dead(driver, "one")
    assert (log.attempts, letter.attempts) == ([1], 1)


async def test_an_outage_opens_the_breaker_and_kills_nothing(driver: Driver) -> None:
    one, calls, seen, is_away = Processor("one", concurrency=1), 0, list[tuple[int, int]](), True

    @one.on(Sent, retry=Backoff(attempts=1))
    async def send(event: Sent, delivery: Delivery = CurrentDelivery()) -> None:
        nonlocal calls
        calls += 1
        if is_away:
            raise Unavailable("the post office")
        seen.append((event.number, delivery.attempt))

    await driver.start(one)
    await driver.streams.publish_many(Sent(number=number) for number in range(20))
    await driver.until(lambda: calls >= 1)
    await driver.pass_time(0.1)
    assert calls == 1
    is_away = False
    await driver.until(lambda: len(seen) == 20)
    assert sorted(seen) == [(number, 1) for number in range(20)]
    assert await driver.streams.dead_letters("one").count() == 0


async def test_a_handler_that_takes_too_long_has_failed(driver: Driver) -> None:
    one, cancelled = Processor("one", retry=Backoff(attempts=1)), list[bool]()

    @one.on(Sent, timeout=0.1)
    async def send(event: Sent) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    await driver.start(one)
    await driver.streams.publish(Sent(number=1))
    (letter,) = await dead(driver, "one")
    assert (letter.reason, letter.attempts, cancelled) == ("failed", 1, [True])
    assert letter.error == "HandlerTimeout: the handler took longer than 0.1 s"


async def test_what_dies_with_its_process_is_delivered_again(driver: Driver) -> None:
    log = Log(None)
    (receipt,) = await driver.die(log.processor, [Sent(number=1)])
    await driver.start(log.processor)
    await becomes(driver, receipt.id, "one", "acked")
    assert (log.attempts, log.deliveries) == ([1], [2])


async def test_what_kills_its_process_again_and_again_is_dead(driver: Driver) -> None:
    log = Log(None)
    (receipt,) = await driver.die(log.processor, [Sent(number=1)], times=3)
    await driver.start(log.processor)
    (letter,) = await dead(driver, "one")
    assert (letter.event_id, letter.reason, letter.attempts) == (receipt.id, "crashed", 0)
    assert log.attempts == []


async def test_a_crash_is_no_failure(driver: Driver) -> None:
    log = Log(RuntimeError("no"), RuntimeError("no"), None)
    (receipt,) = await driver.die(log.processor, [Sent(number=1)])
    await driver.start(log.processor)
    trail = await becomes(driver, receipt.id, "one", "acked")
    assert (log.attempts, log.deliveries) == ([1, 2, 3], [2, 3, 4])
    assert (trail.attempts, trail.deliveries) == (3, 4)
