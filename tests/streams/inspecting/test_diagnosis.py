"""Why: right in every situation, each constructed for real. Those of killed and stopped processes: tests/faults."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import redis.asyncio
from redis.exceptions import ResponseError

from streams import (
    Backoff,
    Consumer,
    DeadLetter,
    Limit,
    Processor,
    PublishUncertain,
    Refused,
    Settings,
    Snooze,
    Streams,
    StreamsError,
    Unavailable,
)
from streams.consuming import scripts
from streams.inspecting.states import Reason
from streams.messages.event_ids import new_id
from tests.conftest import RedisFactory
from tests.streams.conftest import MakeSettings, StartConsumer
from tests.support.events import Noted, Other, Unhandled
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis


@dataclass
class Bench:
    """What a situation is made of: a client, one way to start consumers, and a processor whose handler does `act`."""

    streams: Streams
    start: StartConsumer
    redis: redis.asyncio.Redis
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[int] = field(default_factory=list)

    @property
    def notes(self) -> str:
        """The key of the stream."""
        return self.streams.keys.stream("notes")

    def processor(
        self, name: str = "probe", *, concurrency: int = 4, attempts: int = 2, first: float = 60, reserved: int = 0
    ) -> Processor:
        """A processor whose handler does what the event's text says."""
        made = Processor(
            name, concurrency=concurrency, reserved=reserved, retry=Backoff(attempts=attempts, first=first, jitter=0)
        )

        @made.on(Noted, timeout=60)
        async def handle(event: Noted) -> None:
            self.begun.append(event.n)
            match event.text:
                case "hang":
                    await self.let_go.wait()
                case "cling":
                    with contextlib.suppress(asyncio.CancelledError):
                        await self.let_go.wait()
                    await self.let_go.wait()
                case "fail":
                    raise RuntimeError("451 try later")
                case "reject" | "reject other" if event.text in ("reject", f"reject {name}"):
                    raise DeadLetter("550 no such mailbox")
                case "later":
                    raise Snooze(60, "not before noon")
                case "limit":
                    raise Snooze(60, "limited: 50 a second")
                case "away":
                    raise Unavailable("smtp", "connection refused")
                case "slow":
                    await asyncio.sleep(0.02)

        return made

    async def run(self, name: str = "probe", **options: float) -> Consumer:
        """Starts a consumer of it."""
        return await self.start(self.processor(name, **options))  # type: ignore[arg-type]

    async def publish(self, text: str = "", **options: object) -> str:
        """Publishes one event and returns its id."""
        return (await self.streams.publish(Noted(n=7, text=text), **options)).id  # type: ignore[arg-type]

    async def busy_with(self, text: str = "hang", **options: object) -> None:
        """Lets one handler hang."""
        await self.publish(text, **options)
        await wait_until(lambda: self.begun)

    async def make_group(self, name: str = "probe") -> None:
        """Registers a group as its first consumer does."""
        keys = self.streams.keys
        sources = [keys.inbox(name), *keys.by_priority("notes")]
        await scripts.ensure_groups(self.redis.execute_command, keys, group=name, streams=sources)


@pytest.fixture
async def bench(streams: Streams, start: StartConsumer, redis_client: redis.asyncio.Redis) -> Bench:
    """The bench of one test."""
    return Bench(streams, start, redis_client)


Situation = Callable[[Bench], Awaitable[str]]
SITUATIONS: dict[str, tuple[str, Situation, tuple[str, ...], str]] = {}
"""Name -> the state and the cause that `why` must give, how it is made (returns the event's id), parts of sentence and
remedy.
"""


def situation(state: str, *words: str, remedy: str = "") -> Callable[[Situation], Situation]:
    """Enters a situation."""

    def enter(made: Situation) -> Situation:
        SITUATIONS[made.__name__] = state, made, words, remedy
        return made

    return enter


@situation("unread unsubscribed", "no group reads notes", remedy="start a processor")
async def nobody_reads_the_stream(bench: Bench) -> str:
    return await bench.publish()


@situation("waiting unsubscribed", "due in", remedy="start a processor")
async def nobody_reads_the_stream_of_a_delayed_event(bench: Bench) -> str:
    return await bench.publish(delay=600)


@situation("unread unsubscribed", "probe was on notes once", remedy="deploy a handler")
async def what_runs_does_not_read_its_stream_any_more(bench: Bench) -> str:
    await bench.make_group()
    other = Processor("probe")
    other.on(Other)(_nothing)
    await bench.start(other)
    return await bench.publish()


async def _nothing(event: Other) -> None:
    """Handles nothing."""


@situation("unread", "probe is about to read it (1 consumer alive)", remedy="look again")
async def not_read_yet(bench: Bench) -> str:
    consumer = await bench.run()
    for reading in [
        reading for part in consumer._parts for reading in part._reading
    ]:  # as long as one wants to look at it
        reading.cancel()
    return await bench.publish()


@situation("unread no_consumer", "no consumer of probe runs", remedy="python -m processors.probe")
async def no_consumer(bench: Bench) -> str:
    await bench.make_group()
    return await bench.publish()


@situation("unread paused", "probe is paused", remedy="streams resume probe")
async def paused(bench: Bench) -> str:
    await bench.make_group()
    await bench.streams.pause("probe")
    await bench.run()
    return await bench.publish()


@situation("waiting", "due in 10 min", remedy="streams cancel ID")
async def delayed(bench: Bench) -> str:
    await bench.make_group()
    return await bench.publish(delay=601)


@situation("waiting no_consumer", "it is due since", "none ever did", remedy="python -m processors.probe")
async def delayed_and_nobody_moves_it(bench: Bench) -> str:
    await bench.make_group()
    await bench.redis.hdel(bench.streams.keys.ledger(), "seen probe")
    return await bench.publish(delay=0.01)


@situation("retrying", "attempt 1 failed (RuntimeError: 451 try later)", "tried again in", remedy="streams event ID")
async def waits_for_its_retry(bench: Bench) -> str:
    await bench.run()
    return await bench.publish("fail")


@situation("snoozed", "its handler snoozed it (not before noon)", remedy="streams cancel ID")
async def put_off_by_its_handler(bench: Bench) -> str:
    await bench.run()
    return await bench.publish("later")


@situation("queued key", "one message of a key at a time", "it queues behind notes", remedy="streams doctor why 1")
async def stands_in_line(bench: Bench) -> str:
    ordered = bench.processor()
    ordered.ordered = True
    await bench.start(ordered)
    await bench.streams.publish(Noted(n=1, text="hang"), key="k")
    return (await bench.streams.publish(Noted(n=2), key="k")).id


@situation("snoozed limit", "at its limit", "50 a second", remedy="raise the limit")
async def limited(bench: Bench) -> str:
    await bench.run()
    return await bench.publish("limit")


@situation("queued limit", "at its limit (limited: ", "is admitted", remedy="raise the limit")
async def queued_at_a_limit(bench: Bench) -> str:
    limited = Processor("probe")

    @limited.on(Noted, limit=Limit(concurrency=1))
    async def handle(event: Noted) -> None:
        await bench.let_go.wait()

    await bench.start(limited)
    await bench.publish()
    return await bench.publish()


@situation("running breaker", "smtp", "does not answer", remedy="smtp")
async def breaker_open_and_the_event_unread(bench: Bench) -> str:
    consumer = await bench.run(concurrency=1)
    consumer._breaker.opened("smtp")  # and held open: its own delays end within the test
    consumer._breaker._timer.cancel()  # type: ignore[union-attr]
    return await bench.publish(priority="high")


@situation("snoozed breaker", "Unavailable: connection refused", "tried again in", remedy="repair what does not answer")
async def breaker_opened_by_the_event(bench: Bench) -> str:
    await bench.run()
    return await bench.publish("away")


@situation("snoozed unsupported", "version 9 is newer than this code, which knows 1", remedy="deploy the code of probe")
async def newer_than_the_code(bench: Bench) -> str:
    await bench.run()
    id = new_id()
    await bench.redis.xadd(bench.notes, {"id": id, "type": "Noted", "dataversion": "9", "data": "{}"})
    return id


@situation("running", "is handling it, for", "of at most 60 s", remedy="streams cancel ID")
async def running(bench: Bench) -> str:
    await bench.run()
    return await bench.publish("hang")


@situation("running ready", "has it in memory", "1 of 1 slots", remedy="python -m processors.probe")
async def in_memory_behind_another(bench: Bench) -> str:
    await bench.run(concurrency=1)
    await bench.busy_with()
    return await bench.publish(priority="high")


@situation("unread busy", "all 1 slot of probe are busy", "1 unread are before it", remedy="STREAMS_CONCURRENCY")
async def every_slot_busy(bench: Bench) -> str:
    await bench.run(concurrency=1)
    await bench.busy_with()
    await bench.publish()
    return await bench.publish()


@situation("unread busy", "all 2 slots of probe but 1 reserved for high are busy", remedy="STREAMS_CONCURRENCY")
async def every_slot_busy_that_is_not_reserved(bench: Bench) -> str:
    await bench.run(concurrency=2, reserved=1)
    await bench.busy_with()
    for _ in range(2):
        await bench.publish()
    return await bench.publish()


@situation(
    "running ready", "has it in memory", "1 of 2 slots, 1 reserved for high", remedy="python -m processors.probe"
)
async def in_memory_while_a_slot_is_reserved(bench: Bench) -> str:
    await bench.run(concurrency=2, reserved=1)
    await bench.busy_with()
    return await bench.publish(priority="low")


@situation("running stuck", "holds it, runs nothing, and has begun and settled nothing for", remedy="restart")
async def held_by_a_consumer_that_begins_nothing(bench: Bench) -> str:
    consumer = await bench.run()
    consumer._pool._taking = False  # whatever fault of the engine it may be
    id = await bench.publish()
    await wait_until(consumer._held)
    for part in (consumer._pool, *consumer._parts):
        part.moved -= 60
    return id


@situation("unread behind", "unread are before it", "a second are read: about", remedy="python -m processors.probe")
async def behind_others(bench: Bench) -> str:
    await bench.run(concurrency=1)
    await bench.streams.publish_many(Noted(n=n, text="slow") for n in range(1500))
    return await bench.publish()


@situation("running cancelling", "its handler is being stopped")
async def called_off_and_the_handler_clings(bench: Bench) -> str:
    await bench.run()
    id = await bench.publish("cling")
    await wait_until(lambda: bench.begun)
    await bench.streams.cancel(id)
    return id


@situation("running suspect", "its process died 3 times", "runs it by itself", remedy="streams event ID")
async def suspected_of_killing_its_process(bench: Bench) -> str:
    await bench.make_group()
    id = await bench.publish()
    ((_, ((entry, _),)),) = await bench.redis.xreadgroup("probe", "gone-1", {bench.notes: ">"})
    await bench.redis.xclaim(bench.notes, "probe", "gone-1", 0, [entry], retrycount=3)
    await bench.run()
    await bench.busy_with()
    return id


@situation(
    "dead",
    "dead-lettered it after 1 attempt (rejected): DeadLetter: 550 no such mailbox",
    remedy="streams dead show probe",
)
async def dead(bench: Bench) -> str:
    await bench.run()
    return await bench.publish("reject")


@situation("dead discarded", "the dead letter was discarded by ops at")
async def discarded(bench: Bench) -> str:
    id = await dead(bench)
    letters = bench.streams.dead_letters("probe")
    await wait_until(letters.count)
    await letters.discard(by="ops")
    return id


@situation("cancelled", "it was cancelled by", remedy="publish it anew")
async def cancelled(bench: Bench) -> str:
    await bench.make_group()
    id = await bench.publish()
    await bench.streams.cancel(id)
    await bench.redis.hset(bench.streams.keys.ledger(), "seen probe", 1)
    return id


@situation("expired", "it expired before probe began it", remedy="longer expires=")
async def expired(bench: Bench) -> str:
    await bench.make_group()
    id = await bench.publish(expires=timedelta(milliseconds=1))
    await bench.run()
    return id


@situation("skipped missed", "probe began at a later entry of notes", remedy="streams replay notes --group probe")
async def group_made_by_hand_at_the_end(bench: Bench) -> str:
    id = await bench.publish()
    await bench.redis.xgroup_create(bench.notes, "probe", "$")
    await bench.run()
    return id


@situation("skipped missed", "began when it had been trimmed", remedy="publish it anew")
async def group_began_after_it_was_trimmed(bench: Bench) -> str:
    await bench.run("other", attempts=1)
    id = await bench.publish("reject other")
    letters = bench.streams.dead_letters("other")
    await wait_until(letters.count)
    await bench.streams.trim("notes", keep=0)
    await asyncio.sleep(0.01)  # the id of the next entry is in a later millisecond than this event
    await bench.publish()
    await bench.make_group()
    return id


@situation("acked trimmed", "it was trimmed from notes", "only what every group has finished")
async def trimmed_and_another_group_remembers(bench: Bench) -> str:
    await bench.make_group()
    await bench.run("other", attempts=1)
    id = await bench.publish("reject other")
    letters = bench.streams.dead_letters("other")
    await wait_until(letters.count)
    await bench.run()
    await wait_until(lambda: _is_empty(bench))
    return id


async def _is_empty(bench: Bench) -> bool:
    await bench.streams.trim("notes", keep=0)
    return await bench.redis.xlen(bench.notes) == 0


@situation("trimmed", "never published to", "or it is gone: 1 entry of notes up to", remedy="streams gaps")
async def trimmed_and_nobody_remembers(bench: Bench) -> str:
    await bench.run()
    id = await bench.publish()
    await wait_until(lambda: _is_empty(bench))
    return id


@situation("unknown", "it was never published to", "nothing that came after it has been removed", remedy="QUEUE_PREFIX")
async def never_published(bench: Bench) -> str:
    await bench.make_group()
    await bench.publish()
    return new_id()


@situation("unknown", "in the future", remedy="check the id")
async def made_in_the_future(bench: Bench) -> str:
    return "7fffffff-0000-7000-8000-000000000000"


@situation("skipped no_handler", "probe has no handler for Unhandled")
async def no_handler_for_its_type(bench: Bench) -> str:
    await bench.run()
    return (await bench.streams.publish(Unhandled(n=1))).id


@situation("acked", "probe is done with it")
async def done(bench: Bench) -> str:
    await bench.run()
    return await bench.publish()


@pytest.mark.parametrize("name", SITUATIONS)
async def test_why(bench: Bench, name: str) -> None:
    """The state, the sentence and the mend of one situation."""
    state, made, words, remedy = SITUATIONS[name]
    id = await made(bench)
    told: list[Reason] = []

    async def look() -> bool:
        (reason,) = [found for found in await bench.streams.why(id) if found.group != "other"]
        told.append(reason)
        return f"{reason.state} {reason.cause}".strip() == state and all(word in reason.why for word in words)

    try:
        await wait_until(look, 15, lambda: f"{state}, not {told[-1]}")
        assert remedy.replace("ID", id) in told[-1].remedy, told[-1]
        assert bool(remedy) == bool(told[-1].remedy), told[-1]
    finally:
        bench.let_go.set()


async def test_a_group_for_each_line(bench: Bench) -> None:
    """One reason for every group that reads the stream."""
    await bench.make_group("one")
    await bench.make_group("two")
    await bench.run()
    id = await bench.publish()
    await wait_until(lambda: bench.begun)
    found = {reason.group: reason.cause for reason in await bench.streams.why(id)}
    assert (found["one"], found["two"]) == ("no_consumer", "no_consumer")
    assert set(found) == {"one", "two", "probe"}


async def test_a_full_redis_is_named(redis_factory: RedisFactory, app: str) -> None:
    """An event that a full server refused was never published, and why says which it was."""
    server = redis_factory(args=["--maxmemory", "64mb"])
    settings = Settings(redis_url=server.url, app=app, publish_timeout=0.5)
    async with Streams(settings=settings) as streams:
        await streams.publish(Noted(n=1))
        for n in range(5):
            await streams.redis.set(f"ballast{n}", b"x" * 1_000_000)
        (reason,) = await streams.why(streams.message(Noted(n=3)).id)
        assert "full" not in reason.why, "five of 64 MB"
        info = await streams.redis.info("memory")
        # Far below: what is used now includes the buffer of the connection that wrote the ballast, let go soon.
        await streams.redis.config_set("maxmemory", info["used_memory"] - 3_000_000)
        message = streams.message(Noted(n=2))
        with pytest.raises((StreamsError, Refused, PublishUncertain, ResponseError)):
            await streams.append([message])
        (reason,) = await streams.why(message.id)
        await streams.redis.flushall()
    assert (reason.state, reason.cause) == ("", "unknown")
    assert "Redis is full" in reason.why
    assert "maxmemory" in reason.remedy


@pytest.mark.spread
async def test_it_asks_in_the_partition_that_has_the_event(make_settings: MakeSettings) -> None:
    """Whichever that is; and an event that is in none was never published to any."""
    let_go = asyncio.Event()
    processor = Processor("probe")

    @processor.on(Noted)
    async def handle(event: Noted) -> None:
        await let_go.wait()

    settings = make_settings(partitions=3)
    async with Streams(settings=settings) as streams:
        consumer = Consumer(processor, Streams(settings=settings))
        await consumer.start()
        receipts = await streams.publish_many([Noted(n=n) for n in range(12)])
        assert {receipt.partition for receipt in receipts} == {0, 1, 2}
        for receipt in receipts:

            async def runs(id: str = receipt.id) -> bool:
                return [reason.state for reason in await streams.why(id)] == ["running"]

            await wait_until(runs)
        (reason,) = await streams.why(new_id())
        assert (reason.state, reason.cause) == ("", "unknown")
        let_go.set()
        await consumer.stop()
