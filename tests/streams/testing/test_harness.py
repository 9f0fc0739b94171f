"""What is the harness' own: its clock, its seed, its deaths, its refusals. What it has in common with a Redis is in
tests/conformance.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import ANY

import pytest
from redis.exceptions import ResponseError

from streams import (
    Backoff,
    Batch,
    CurrentDelivery,
    CurrentStreams,
    Delivery,
    Depends,
    Event,
    NotFound,
    Processor,
    Settings,
    Shared,
    Streams,
    StreamsError,
    clock,
)
from streams.errors import NotReplicated
from streams.testing import Crash, Harness

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class Rung(Event, stream="bells", version=1):
    """A bell has rung."""

    number: int = 1


class Answered(Event, stream="doors", version=1):
    """Somebody has opened."""


def failing() -> tuple[Processor, list[float]]:
    """A processor that always fails, and when it was called."""
    door, times = Processor("door", retry=Backoff(attempts=4, first=1.0)), list[float]()

    @door.on(Rung)
    async def open_it(event: Rung, streams: Streams = CurrentStreams()) -> None:
        assert isinstance(streams, Harness)
        times.append(streams.now().timestamp())
        raise RuntimeError("nobody is there")

    return door, times


async def story(seed: int) -> tuple[list[float], list[str], list[Any]]:
    """Everything that a test can see of one run."""
    door, times = failing()
    async with Harness(door, seed=seed, start=BEGINNING) as streams:
        ids = [(await streams.publish(Rung(number=number))).id for number in range(3)]
        await streams.advance(minutes=5)
        letters = [letter.as_json() async for letter in streams.dead_letters("door").ls()]
    return times, ids, letters


async def test_the_same_seed_is_the_same_story() -> None:
    assert await story(7) == await story(7)
    assert (await story(7))[0] != (await story(8))[0]


async def test_no_time_passes_but_the_test_s() -> None:
    door, times = failing()
    began = time.monotonic()
    async with Harness(door, start=BEGINNING) as streams:
        assert streams.now() == BEGINNING
        await streams.publish(Rung())
        await streams.run()
        assert streams.now() == BEGINNING
        await streams.advance(timedelta(hours=1), minutes=30)
        assert streams.now() == BEGINNING + timedelta(hours=1, minutes=30)
        with pytest.raises(StreamsError, match="cannot go back by 0:00:01"):
            await streams.advance(seconds=-1)
    assert len(times) == 4
    assert time.monotonic() - began < 5


async def test_a_test_is_fast() -> None:
    door, _ = failing()
    began = time.monotonic()
    for _ in range(20):
        async with Harness(door) as streams:
            await streams.publish(Rung())
            await streams.advance(minutes=5)
    print(f"{(time.monotonic() - began) / 20 * 1000:.1f} ms a harness with four deliveries")
    assert time.monotonic() - began < 5


async def test_many_events_are_handled() -> None:
    door, seen = Processor("door"), list[int]()

    @door.on(Rung)
    async def open_it(event: Rung) -> None:
        seen.append(event.number)

    async with Harness(door) as streams:
        await streams.publish_many(Rung(number=number) for number in range(1000))
        for number in range(1000, 1100):
            await streams.publish(Rung(number=number), delay=number)
        assert await streams.run() == 1000
        assert await streams.advance(hours=2) == 100
    assert sorted(seen) == list(range(1100))


async def test_a_death_from_outside_cuts_a_handler_off() -> None:
    door, began, calls = Processor("door"), asyncio.Event(), list[tuple[int, int]]()

    @door.on(Rung)
    async def open_it(event: Rung, delivery: Delivery = CurrentDelivery()) -> Answered:
        calls.append((delivery.attempt, delivery.deliveries))
        if len(calls) == 1:
            began.set()
            await asyncio.Event().wait()
        return Answered()

    async with Harness(door) as streams:
        await streams.publish(Rung())
        running = asyncio.create_task(streams.run())
        await began.wait()
        await streams.kill("door")
        await running
        assert calls == [(1, 1), (1, 2)]
        assert streams.published(Answered) == [Answered()]
        with pytest.raises(NotFound, match="no group window"):
            await streams.kill("window")


async def test_a_batch_dies_as_a_whole() -> None:
    door, lists = Processor("door"), list[list[int]]()

    @door.on(Rung, batch=Batch(size=2, within=1))
    async def open_all(events: list[Rung]) -> None:
        lists.append([event.number for event in events])

    async with Harness(door) as streams:
        with pytest.raises(StreamsError, match="times=0"):
            streams.crash("door", 0)
        with pytest.raises(NotFound, match="no group window"):
            streams.crash("window")
        streams.crash("door", after=True)
        await streams.publish_many([Rung(number=1), Rung(number=2)])
        await streams.run()
        assert lists == [[1, 2], [1, 2]]


async def test_a_death_takes_the_others_in_hand_along_and_spares_them_in_the_end() -> None:
    """The one that kills is dead in the end; those that were only beside it are not."""
    door, seen = Processor("door", concurrency=3), list[int]()

    @door.on(Rung)
    async def open_it(event: Rung) -> None:
        if event.number == 1:
            raise Crash
        seen.append(event.number)

    async with Harness(door) as streams:
        await streams.publish_many(Rung(number=number) for number in range(3))
        await streams.run()
        (letter,) = [letter async for letter in streams.dead_letters("door").ls()]
        assert letter.reason == "crashed"
        assert set(seen) == {0, 2}
        assert not list((await streams.accounts()).gaps())


async def test_what_is_shared_is_closed_at_the_end_and_at_a_death() -> None:
    door, opened, closed = Processor("door"), list[int](), list[int]()

    class Key:
        async def __aenter__(self) -> int:
            opened.append(1)
            return 1

        async def __aexit__(self, *_: object) -> None:
            closed.append(1)

    @door.on(Rung)
    async def open_it(event: Rung, key: int = Shared(Key)) -> None:
        """Opens."""

    async with Harness(door) as streams:
        await streams.publish(Rung())
        await streams.run()
        await streams.kill("door")
        assert (len(opened), len(closed)) == (1, 1)
        await streams.publish(Rung())
        await streams.run()
    assert (len(opened), len(closed)) == (2, 2)


def real() -> str:
    return "real"


def beneath(value: str = Depends(real)) -> str:
    return f"under {value}"


async def test_overrides_reach_what_factories_depend_on_and_are_taken_back() -> None:
    door, seen = Processor("door"), list[str]()

    @door.on(Rung)
    async def open_it(event: Rung, value: str = Depends(beneath)) -> None:
        seen.append(value)

    for overrides in ({real: lambda: "fake"}, {}):
        async with Harness(door, overrides=overrides) as streams:
            await streams.publish(Rung())
            await streams.run()
    assert seen == ["under fake", "under real"]


async def test_an_incomplete_batch_waits_for_its_time() -> None:
    door, lists = Processor("door"), list[int]()

    @door.on(Rung, batch=Batch(size=10, within=30))
    async def open_all(events: list[Rung]) -> None:
        lists.append(len(events))

    async with Harness(door) as streams:
        await streams.publish_many([Rung(), Rung()])
        await streams.advance(seconds=29)
        assert lists == []
        await streams.advance(seconds=1)
        assert lists == [2]


async def test_a_processor_s_own_keys_go_by_the_test_s_clock() -> None:
    async with Harness() as streams:
        redis: Any = streams.redis
        key = streams.keys.own("door", "bell")
        assert await redis.set(key, "first", ex=60)
        await streams.advance(seconds=59)
        assert await redis.ttl(key) == 1
        await streams.advance(seconds=2)
        assert await redis.get(key) is None
        assert await redis.time() == (int(streams.now().timestamp()), ANY)


async def test_a_script_that_fails_says_what_redis_would() -> None:
    async with Harness() as streams:
        redis: Any = streams.redis
        await redis.set("text", "x")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await redis.eval("return redis.call('LPUSH', KEYS[1], 'y')", 1, "text")
        assert await redis.eval("return redis.pcall('LPUSH', KEYS[1], 'y').err ~= nil", 1, "text") == 1
        with pytest.raises(ResponseError, match="my own"):
            await redis.eval("return {err = 'ERR my own'}", 0)
        assert await redis.eval("return {1, 'a', {2.7, false}}", 0) == [1, b"a", [2, None]]
        assert await redis.eval("if redis.call('GET', 'nothing') == false then return 'false' end", 0) == b"false"


async def test_what_would_wait_for_itself_is_refused() -> None:
    door, problems = Processor("door"), list[Exception]()

    @door.on(Rung)
    async def open_it(event: Rung, streams: Streams = CurrentStreams()) -> None:
        assert isinstance(streams, Harness)
        try:
            await streams.run()
        except StreamsError as problem:
            problems.append(problem)

    async with Harness(door) as streams:
        await streams.publish(Rung())
        await streams.run()
        with pytest.raises(StreamsError, match="door is here already"):
            await streams.join(door)
    assert "call them from the test" in str(problems)


async def test_what_never_ends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.testing.harness._MOST", 50)
    door = Processor("door")
    door.on(Rung)(lambda event: Rung(number=event.number + 1))
    async with Harness(door) as streams:
        await streams.publish(Rung())
        with pytest.raises(StreamsError, match="publish its own event again"):
            await streams.run()


async def test_settings_that_cannot_be_are_refused() -> None:
    assert len(Harness(settings=Settings(partitions=3)).partitions) == 1
    with pytest.raises(StreamsError, match="no time zone"):
        Harness(start=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the mistake


async def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_DEFAULT_ATTEMPTS", "1")
    monkeypatch.setenv("REDIS_URL", "redis://nowhere:1")
    async with Harness() as streams:
        assert streams.settings.attempts == 3
        await streams.publish(Rung())


async def test_the_machine_s_clock_is_back_afterwards() -> None:
    async with Harness(start=BEGINNING) as streams:
        await streams.publish(Rung(), at=BEGINNING + timedelta(seconds=1))
    assert clock.now() > BEGINNING + timedelta(days=1)
    async with Harness() as later:
        with pytest.raises(StreamsError, match="is in the past"):
            await later.publish(Rung(), at=BEGINNING + timedelta(seconds=1))


async def test_one_harness_at_a_time() -> None:
    async with Harness():
        with pytest.raises(StreamsError, match="one Harness at a time"):
            async with Harness():
                """It is not even opened."""
    async with Harness():
        """The first one is closed."""


async def test_what_it_cannot_do_says_so() -> None:
    async with Harness() as streams:
        with pytest.raises(NotReplicated):
            await streams.publish(Rung(), replicated=True)
        with pytest.raises(ResponseError, match="unknown command"):
            await streams.redis.execute_command("NONSENSE")
    with pytest.raises(StreamsError, match="is used as a context manager"):
        await Harness().run()


async def test_an_override_that_cannot_be_opened_is_told_at_once() -> None:
    door = Processor("door")

    @door.on(Rung)
    async def open_it(event: Rung, key: str = Shared(real)) -> None:
        """Opens."""

    def broken() -> str:
        raise RuntimeError("no key")

    with pytest.raises(RuntimeError, match="no key"):
        async with Harness(door, overrides={real: broken}):
            """It is not even opened."""
    async with Harness(door) as streams:
        await streams.publish(Rung())
        assert await streams.run() == 1


async def test_a_slot_of_a_paused_schedule_is_not_waited_for() -> None:
    door = Processor("door")

    @door.every(60)
    def bell() -> Rung:
        return Rung()

    async with Harness(door, start=BEGINNING) as streams:
        await streams.advance(minutes=2)
        await streams.schedules.pause("door.bell")
        await streams.advance(minutes=10)
        assert len(streams.published(Rung)) == 2
        await streams.schedules.resume("door.bell")
        await streams.advance(minutes=2)
        assert len(streams.published(Rung)) == 4
