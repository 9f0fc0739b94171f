"""Schedulers on a real Redis: each slot once, missed slots, pause, resume and run, functions that fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest
import redis.asyncio
from structlog.testing import capture_logs

from streams import Depends, NotFound, Processor, Shared, Slot, Streams
from streams.messages.message import Message
from streams.messages.middleware import Middleware, Publish
from streams.redis.keys import Keys
from streams.scheduling import scripts
from streams.scheduling.admin import ScheduleState
from streams.scheduling.schedule import event_id
from tests.conftest import RedisFactory
from tests.streams.conftest import MakeSettings, StartConsumer
from tests.support.events import Followed, Noted, Other
from tests.support.waiting import wait_until

HOUR = 3_600_000


async def now_ms(client: Any) -> int:
    """Redis' clock."""
    seconds, microseconds = await client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def published(streams: Streams, stream: str = "notes") -> list[Message]:
    """What is in a stream, all lanes."""
    return [
        Message.decode(entry_id, [part for pair in fields.items() for part in pair])
        for lane in streams.keys.by_priority(stream)
        for entry_id, fields in await streams.redis.xrange(lane)
    ]


async def state(streams: Streams, name: str) -> ScheduleState:
    """One schedule."""
    return next(state for state in await streams.schedules.ls() if state.name == name)


async def registered(streams: Streams, name: str) -> None:
    """Waits until a scheduler has entered it."""
    await wait_until(lambda: streams.redis.hexists(streams.keys.slots(), name))


def ticking(name: str = "clock", **options: Any) -> Processor:
    """A processor that publishes five times a second."""
    processor = Processor(name)

    @processor.every(0.2, **options)
    def tick(slot: Slot) -> Noted:
        return Noted(n=round(slot.at.timestamp() * 1000))

    return processor


async def test_each_slot_is_published_once_by_three_schedulers(streams: Streams, start: StartConsumer) -> None:
    """None twice, none left out, in order, none early; with an id that says which slot it is."""
    for _ in range(3):
        await start(ticking())
    await wait_until(lambda: streams.redis.xlen(streams.keys.stream("notes")), 20)
    entries = await wait_until(lambda: _at_least(streams, 10), 20)
    slots = [int(fields[b"data"][5:18]) for _, fields in entries]
    assert slots == list(range(slots[0], slots[-1] + 1, 200))
    for (entry_id, fields), slot in zip(entries, slots, strict=True):
        assert slot <= int(entry_id.split(b"-")[0]) < slot + 2000
        assert fields[b"id"].decode() == event_id(streams.keys.app, "clock.tick", "slot", slot, 0)


async def _at_least(streams: Streams, count: int) -> Any:
    try:
        entries = await streams.redis.xrange(streams.keys.stream("notes"))
    except redis.exceptions.ConnectionError:  # a test has just killed it
        return None
    return entries if len(entries) >= count else None


async def test_what_a_schedule_may_return(streams: Streams, start: StartConsumer) -> None:
    """One event, several (of any stream), or none; sync or async; with its lane, its key and dependencies."""
    processor = Processor("p")
    opened: list[int] = []

    @asynccontextmanager
    async def pool() -> AsyncIterator[str]:
        opened.append(1)
        yield "pool"

    @processor.cron("0 0 1 1 *", name="several", priority="high", key="k", tz="Europe/Berlin")
    async def several(slot: Slot, given: str = Depends(lambda: "x"), shared: str = Shared(pool)) -> list[Any]:
        assert slot.at.tzinfo is not None
        return [Noted(n=1, text=given + shared), Other(n=2)]

    @processor.cron("0 0 1 1 *", name="threaded")
    def threaded() -> Followed:
        assert threading.current_thread() is not threading.main_thread()
        return Followed(n=3)

    @processor.cron("0 0 1 1 *", name="none")
    async def none() -> None: ...

    await start(processor)
    await registered(streams, "p.several")
    several_ran = await streams.schedules.run("p.several")
    assert several_ran.ids is not None
    notes, others = await published(streams), await published(streams, "others")
    assert [message.data for message in notes] == [b'{"n":1,"text":"xpool"}']
    assert [message.id for message in notes + others] == list(several_ran.ids)
    assert [message.key for message in notes + others] == ["k", "k"]
    assert await streams.redis.xlen(streams.keys.stream("others", "high")) == 1
    assert (await streams.schedules.run("p.none")).ids == ()
    (threaded_id,) = (await streams.schedules.run("p.threaded")).ids or ()
    assert [message.id for message in await published(streams) if message.type == "Followed"] == [threaded_id]
    trail = await streams.event(threaded_id)
    assert trail.stream == "notes"
    await streams.schedules.run("p.several")
    assert opened == [1], "what is shared is opened once"


class Seen(Middleware):
    """Notes what passes through."""

    def __init__(self) -> None:
        self.types: list[str] = []

    async def publish(self, messages: Any, call_next: Publish) -> None:
        self.types += [message.type for message in messages]
        await call_next(messages)


async def test_a_scheduled_event_passes_through_the_middleware(streams: Streams, start: StartConsumer) -> None:
    """So that it is traced as any other."""
    seen, processor = Seen(), Processor("p")
    processor.every(3600, name="f")(lambda: Noted(n=1))
    await start(processor, middleware=(seen,))
    await registered(streams, "p.f")
    assert (await streams.schedules.run("p.f")).ids
    assert seen.types == ["Noted"]


# Missed slots --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("misfire", "most", "count"), [("skip", None, 0), ("once", None, 1), ("all", None, 10), ("all", 4, 4)]
)
async def test_after_ten_minutes_of_downtime(
    streams: Streams, start: StartConsumer, misfire: str, most: int | None, count: int
) -> None:
    """0, 1 or n events, of the newest slots; however many schedulers come up at once; the others count as missed."""
    now = await now_ms(streams.redis)
    minutes = sorted({datetime.fromtimestamp(now / 1000, UTC).minute - back for back in range(1, 11)}, reverse=True)
    text = f"{','.join(str(minute % 60) for minute in minutes)} * * * *"

    def processor() -> Processor:
        made = Processor("p")

        @made.cron(text, name="f", misfire=misfire, most=most)  # type: ignore[arg-type]
        def fire(slot: Slot) -> Noted:
            assert slot.late > timedelta(seconds=30)
            return Noted(n=round(slot.at.timestamp()))

        return made

    await start(processor())
    await registered(streams, "p.f")
    began = now // 60_000 * 60_000 - 10 * 60_000 - 1
    await streams.redis.hset(streams.keys.slots(), "p.f", began)
    await start(processor())
    await start(processor())
    await wait_until(lambda: _last(streams, "p.f", began + 9 * 60_000))
    notes = [int(message.data[5:15]) * 1000 for message in await published(streams)]
    newest = [began + 1 + minute * 60_000 for minute in range(10)][-count:] if count else []
    assert notes == newest
    assert (await state(streams, "p.f")).missed == 10 - count


async def _last(streams: Streams, name: str, at: int) -> bool:
    return int(await streams.redis.hget(streams.keys.slots(), name) or 0) >= at


async def test_a_new_schedule_has_missed_nothing_and_a_changed_one_begins_anew(
    streams: Streams, start: StartConsumer
) -> None:
    """What another timing, or nobody, did in the past is no slot of this one."""
    first, second = Processor("p"), Processor("p")
    first.every(7 * 24 * 3600, name="f")(lambda: Noted(n=1))
    second.every(3600, name="f", misfire="all")(lambda: Noted(n=2))
    before = await now_ms(streams.redis)
    consumer = await start(first)
    await registered(streams, "p.f")
    assert await _last(streams, "p.f", before)
    await consumer.stop()
    await streams.redis.hset(streams.keys.slots(), "p.f", before - 5 * HOUR)
    await start(second)
    await wait_until(lambda: _last(streams, "p.f", before))
    assert await published(streams) == []
    assert (await state(streams, "p.f")).timing == "every 3600 s"


async def test_a_known_schedule_keeps_its_last_slot_over_a_restart(streams: Streams, start: StartConsumer) -> None:
    """What it missed while nobody was there is what the policy is for."""
    processor = Processor("p")
    processor.every(3600, name="f", misfire="all")(lambda: Noted(n=1))
    consumer = await start(processor)
    await registered(streams, "p.f")
    await consumer.stop()
    hour = await now_ms(streams.redis) // HOUR * HOUR
    await streams.redis.hset(streams.keys.slots(), "p.f", hour - 3 * HOUR)
    await start(processor)
    await wait_until(lambda: _at_least(streams, 3))
    ids = [message.id for message in await published(streams)]
    expected = [event_id(streams.keys.app, "p.f", "slot", hour - back * HOUR, 0) for back in (2, 1, 0)]
    assert ids[:3] == expected


# Pause, resume, run --------------------------------------------------------------------------------------------------


async def test_a_paused_schedule_stops_within_a_second_and_makes_up_for_nothing(
    streams: Streams, start: StartConsumer
) -> None:
    await start(ticking(misfire="all"))
    await start(ticking(misfire="all"))
    await wait_until(lambda: _at_least(streams, 2))
    assert await streams.schedules.pause("clock.tick")
    assert not await streams.schedules.pause("clock.tick")
    length = await streams.redis.xlen(streams.keys.stream("notes"))
    paused_at = await now_ms(streams.redis)
    await wait_until(lambda: _passed(streams, paused_at + 1500))
    assert await streams.redis.xlen(streams.keys.stream("notes")) == length
    paused = await state(streams, "clock.tick")
    assert (paused.paused, paused.next, paused.alive) == (True, None, True)
    assert await streams.schedules.resume("clock.tick")
    assert not await streams.schedules.resume("clock.tick")
    resumed_at = await now_ms(streams.redis)
    entries = await wait_until(lambda: _at_least(streams, length + 2), 5)
    slots = [int(fields[b"data"][5:18]) for _, fields in entries]
    assert [slot for slot in slots if paused_at < slot <= resumed_at - 200] == []
    assert int(entries[length][0].split(b"-")[0]) - resumed_at < 1500


async def _passed(streams: Streams, at: int) -> bool:
    return await now_ms(streams.redis) >= at


async def test_a_run_by_hand_is_once_and_beside_the_slots(streams: Streams, start: StartConsumer) -> None:
    """Also of a paused schedule; ten people who ask at the same time get one; three schedulers do it once."""
    slots: list[Slot] = []

    def processor() -> Processor:
        made = Processor("p")

        @made.cron("0 0 1 1 *", name="f", tz="Asia/Kolkata")
        async def f(slot: Slot) -> Noted:
            slots.append(slot)
            return Noted(n=1)

        return made

    consumer = await start(processor())
    await registered(streams, "p.f")
    await streams.schedules.pause("p.f")
    await consumer.stop()  # or the run might be over before the last of them has asked
    last = await streams.redis.hget(streams.keys.slots(), "p.f")
    asked = monotonic()
    runs = await asyncio.gather(*(streams.schedules.run("p.f", timeout=0) for _ in range(10)))
    assert {(run.at, run.ids) for run in runs} == {(runs[0].at, None)}
    assert sorted(run.joined for run in runs) == [False] + [True] * 9
    _, _, _, run = await asyncio.gather(*(start(processor()) for _ in range(3)), streams.schedules.run("p.f"))
    (note,) = await published(streams)
    assert (run.at, run.ids, run.joined) == (runs[0].at, (note.id,), True)
    assert await streams.redis.hget(streams.keys.slots(), "p.f") == last
    assert slots[0].at == run.at
    assert slots[0].at.utcoffset() == timedelta(hours=5.5)
    assert timedelta(0) <= slots[0].late < timedelta(seconds=monotonic() - asked)
    await streams.schedules.run("p.f")
    assert len(await published(streams)) == 2


async def test_a_run_that_nobody_answers_is_dropped(streams: Streams, start: StartConsumer) -> None:
    """Whoever comes up an hour later does not do what was wanted then."""
    processor = Processor("p")
    processor.cron("0 0 1 1 *", name="f")(lambda: Noted(n=1))
    consumer = await start(processor)
    await registered(streams, "p.f")
    await consumer.stop()
    run = await streams.schedules.run("p.f", timeout=0.2)
    assert (run.ids, run.failed) == (None, False)
    await streams.redis.hset(streams.keys.slots(), "p.f:run", await now_ms(streams.redis) - HOUR)
    await start(processor)
    await wait_until(lambda: _gone(streams, "p.f:run"))
    assert await published(streams) == []


async def _gone(streams: Streams, field: str) -> bool:
    return not await streams.redis.hexists(streams.keys.slots(), field)


async def test_what_is_not_there_is_said(streams: Streams, start: StartConsumer) -> None:
    for call in (streams.schedules.pause, streams.schedules.resume, streams.schedules.run, streams.schedules.forget):
        with pytest.raises(NotFound, match=r"no schedule p.f in .*; there are: none yet"):
            await call("p.f")
    consumer = await start(ticking())
    await registered(streams, "clock.tick")
    with pytest.raises(NotFound, match=r"did you mean clock\.tick\?"):
        await streams.schedules.run("clock.tock")
    await consumer.stop()
    await streams.schedules.forget("clock.tick")
    assert await streams.schedules.ls() == []
    assert await streams.redis.exists(streams.keys.schedules(), streams.keys.slots()) == 0


async def test_a_definition_that_is_nonsense_is_listed_as_such(streams: Streams) -> None:
    for name, definition in (
        ("a", b"{"),
        ("b", b"[1]"),
        ("c", b'{"cron":"61 * * * *","tz":"UTC"}'),
        ("d", b'{"every_ms":"x","most":"\\u001b"}'),
    ):
        await streams.redis.hset(streams.keys.schedules(), name, definition)
    states = await streams.schedules.ls()
    assert [found.name for found in states] == ["a", "b", "c", "d"]
    assert all(found.problem and found.next is None and not found.alive for found in states)


# Failures ------------------------------------------------------------------------------------------------------------


async def test_a_function_that_raises_is_tried_again_within_its_slot(streams: Streams, start: StartConsumer) -> None:
    processor, tries = Processor("p"), []

    @processor.cron("0 0 1 1 *", name="f")
    async def f(slot: Slot) -> Noted:
        tries.append(slot.at)
        if len(tries) < 3:
            raise RuntimeError("not yet")
        return Noted(n=len(tries))

    await start(processor)
    await registered(streams, "p.f")
    with capture_logs() as logs:
        run = await streams.schedules.run("p.f")
    assert [message.id for message in await published(streams)] == list(run.ids or ())
    assert len(tries) == 3
    assert len(set(tries)) == 1
    failed = [line for line in logs if line["event"] == "schedule.failed"]
    assert [(line["error"], line["retry_in"]) for line in failed] == [
        ("RuntimeError: not yet", 0.5), ("RuntimeError: not yet", 1.0),
    ]  # fmt: skip


FAULTS = ("raises", "panics", "exits", "hangs", "cancelled", "wrong", "large")


def faulty(fault: str) -> Any:
    """A function that fails in its own way."""

    async def function() -> Any:
        match fault:
            case "raises":
                raise ValueError("no\nnews")
            case "panics":
                raise type("Panic", (BaseException,), {})("as native code does")
            case "exits":
                raise SystemExit(3)
            case "hangs":
                await asyncio.Event().wait()
            case "cancelled":
                raise asyncio.CancelledError
            case "large":
                return Noted(n=1, text="x" * 300_000)
        return "an event"

    return function


async def test_a_function_that_keeps_failing_misses_its_slot_and_stops_no_other(
    streams: Streams, start: StartConsumer
) -> None:
    """It is tried three times, counts as missed, and goes on with the next slot; the schedule beside it misses none."""
    processor = Processor("p", timeout=0.2)

    @processor.every(0.2, name="good")
    def good(slot: Slot) -> Noted:
        return Noted(n=round(slot.at.timestamp() * 1000))

    for fault in FAULTS:
        processor.every(0.5, name=fault)(faulty(fault))

    async def missed() -> bool:
        fields = [f"p.{fault}:missed" for fault in FAULTS]
        return all(int(count or 0) >= 2 for count in await streams.redis.hmget(streams.keys.slots(), fields))

    with capture_logs() as logs:
        await start(processor)
        await wait_until(missed, 20)
    entries = await _at_least(streams, 10)
    slots = [int(fields[b"data"][5:18]) for _, fields in entries]
    assert slots == list(range(slots[0], slots[-1] + 1, 200))
    assert await published(streams, "others") == []
    for fault in FAULTS:
        lines = [line for line in logs if line.get("schedule") == f"p.{fault}"]
        assert [(line["event"], line["log_level"]) for line in lines[:4]] == [
            *[("schedule.failed", "warning")] * 3, ("schedule.dropped", "error"),
        ], fault  # fmt: skip
        assert len({line["slot"] for line in lines[:4]}) == 1


async def test_a_run_whose_function_fails_says_so(streams: Streams, start: StartConsumer) -> None:
    processor = Processor("p")

    @processor.cron("0 0 1 1 *", name="f")
    def f() -> None:
        raise RuntimeError("no")

    await start(processor)
    await registered(streams, "p.f")
    run = await streams.schedules.run("p.f")
    assert (run.failed, run.ids) == (True, ())
    assert (await state(streams, "p.f")).missed == 0


# Redis that misbehaves -----------------------------------------------------------------------------------------------


async def test_a_redis_that_is_killed_and_started_costs_no_slot(
    redis_factory: RedisFactory, make_settings: MakeSettings, start: StartConsumer
) -> None:
    server = redis_factory(appendfsync="always")
    async with Streams(settings=make_settings(redis_url=server.url)) as streams:
        for _ in range(3):
            await start(ticking(), redis_url=server.url)
        for round_ in range(1, 4):
            await wait_until(lambda round_=round_: _at_least(streams, 3 * round_))  # type: ignore[misc]
            server.kill()
            server.start()
        entries = await wait_until(lambda: _at_least(streams, 15), 20)
        slots = [int(fields[b"data"][5:18]) for _, fields in entries]
        assert slots == list(range(slots[0], slots[-1] + 1, 200))


async def test_a_flushed_redis_is_begun_anew_in(streams: Streams, start: StartConsumer) -> None:
    await start(ticking())
    await wait_until(lambda: _at_least(streams, 2))
    await streams.redis.flushall()
    await wait_until(lambda: _at_least(streams, 2))
    assert [found.name for found in await streams.schedules.ls()] == ["clock.tick"]


@pytest.mark.newest_redis
async def test_a_full_redis_refuses_and_the_slots_come_later(
    redis_factory: RedisFactory, make_settings: MakeSettings, start: StartConsumer
) -> None:
    """A slot that cannot be published is not passed: it is fired when there is room, also 5 s later."""
    server = redis_factory()
    async with Streams(settings=make_settings(redis_url=server.url)) as streams:
        await start(ticking(), redis_url=server.url)
        await wait_until(lambda: _at_least(streams, 2))
        with capture_logs() as logs:
            server.cli("CONFIG", "SET", "maxmemory", "1mb")
            await wait_until(lambda: any(line["event"] == "schedule.refused" for line in logs))
            server.cli("CONFIG", "SET", "maxmemory", "0")
        entries = await wait_until(lambda: _at_least(streams, 40), 20)
        slots = [int(fields[b"data"][5:18]) for _, fields in entries]
        assert slots == list(range(slots[0], slots[-1] + 1, 200))


# The script ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def keys(app: str) -> Keys:
    return Keys(app)


async def fire(
    client: redis.asyncio.Redis, keys: Keys, at: int, *, count: int = 1, missed: int = 0, kind: str = "slot"
) -> tuple[int, int]:
    message = Message([b"v"] * 12, target=keys.stream("notes"))
    return await scripts.fire(
        client.execute_command, keys, schedule="s", at=at, kind=kind, missed=missed, messages=[message] * count
    )


async def enter(client: redis.asyncio.Redis, keys: Keys) -> int:
    return await scripts.register_schedules(client.execute_command, keys, definitions=[("s", b"{}", "t")])


async def test_only_a_slot_after_the_last_one_and_not_in_the_future_is_fired(
    redis_client: redis.asyncio.Redis, keys: Keys
) -> None:
    assert await fire(redis_client, keys, 1) == (0, 0), "unknown: nobody has entered it"
    assert await enter(redis_client, keys) == 1
    assert await enter(redis_client, keys) == 0
    now = await now_ms(redis_client)
    await redis_client.hset(keys.slots(), "s", now - 1000)
    decided, wait = await fire(redis_client, keys, now + 60_000)
    assert decided == -1
    assert 59_000 < wait <= 60_000
    assert await fire(redis_client, keys, now - 1000) == (0, 0)
    assert await fire(redis_client, keys, now - 1001) == (0, 0)
    assert await redis_client.exists(keys.stream("notes")) == 0
    answers = await asyncio.gather(*(fire(redis_client, keys, now, count=2, missed=3) for _ in range(20)))
    assert sorted(answers) == [(0, 0)] * 19 + [(1, 0)]
    assert await redis_client.xlen(keys.stream("notes")) == 2
    assert await redis_client.hmget(keys.slots(), "s", "s:fired", "s:missed") == [str(now).encode()] * 2 + [b"3"]


async def test_a_slot_that_cannot_be_published_changes_nothing(redis_client: redis.asyncio.Redis, keys: Keys) -> None:
    await enter(redis_client, keys)
    now = await now_ms(redis_client)
    await redis_client.hset(keys.slots(), "s", now - 1000)
    await redis_client.set(keys.stream("notes"), "no stream", ex=60)
    with pytest.raises(redis.exceptions.ResponseError, match="not a stream"):
        await fire(redis_client, keys, now, missed=1)
    assert await redis_client.hget(keys.slots(), "s") == str(now - 1000).encode()
    assert await redis_client.hexists(keys.slots(), "s:missed") is False


async def steer(client: redis.asyncio.Redis, keys: Keys, action: str) -> tuple[int, int]:
    return await scripts.steer_schedule(client.execute_command, keys, name="s", action=action)


async def test_a_pause_holds_in_the_script(redis_client: redis.asyncio.Redis, keys: Keys) -> None:
    """Also against a scheduler that looked just before it."""
    await enter(redis_client, keys)
    now = await now_ms(redis_client)
    await redis_client.hset(keys.slots(), "s", now - 1000)
    await steer(redis_client, keys, "pause")
    assert await fire(redis_client, keys, now) == (0, 0)
    assert await redis_client.exists(keys.stream("notes")) == 0
    await steer(redis_client, keys, "resume")
    assert await fire(redis_client, keys, now) == (0, 0), "it passed while the schedule was paused"


async def test_a_run_is_fired_once_and_not_when_it_is_old(redis_client: redis.asyncio.Redis, keys: Keys) -> None:
    await enter(redis_client, keys)
    done, at = await steer(redis_client, keys, "run")
    assert (done, await steer(redis_client, keys, "run")) == (1, (0, at))
    assert await fire(redis_client, keys, at - 1, kind="run") == (0, 0), "another run than the one asked for"
    assert [await fire(redis_client, keys, at, kind="run") for _ in range(2)] == [(1, 0), (0, 0)]
    assert await redis_client.xlen(keys.stream("notes")) == 1
    await redis_client.hset(keys.slots(), "s:run", at - 61_000)
    assert await fire(redis_client, keys, at - 61_000, kind="run") == (0, 0)
    assert await redis_client.hexists(keys.slots(), "s:run") is False
    assert await redis_client.xlen(keys.stream("notes")) == 1


async def test_steering_is_known_words_on_known_schedules(redis_client: redis.asyncio.Redis, keys: Keys) -> None:
    assert await steer(redis_client, keys, "pause") == (-1, 0)
    await enter(redis_client, keys)
    with pytest.raises(redis.exceptions.ResponseError, match="unknown action stop"):
        await steer(redis_client, keys, "stop")


def test_the_scripts_say_what_they_keep() -> None:
    """KEYS, what is returned and the invariant, as every script's header."""
    for script in (scripts.FIRE, scripts.LOOK_SCHEDULES, scripts.REGISTER_SCHEDULES, scripts.STEER_SCHEDULE):
        header = script.source.split("\n\n")[0]
        assert all(word in header for word in ("#!lua", "KEYS", "ARGV", "Returns", "Invariant")), script.name
