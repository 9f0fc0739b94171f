"""Progress: reported by handlers, kept for a while, followed until the event is settled."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import aclosing

import pytest

from streams import (
    Backoff,
    Batch,
    CurrentDelivery,
    CurrentProgress,
    Delivery,
    NotFound,
    Processor,
    Progress,
    Streams,
    StreamsError,
    Update,
)
from streams.handlers import progress as handlers_progress
from streams.handlers.progress import ProgressReport
from streams.messages.message import Message
from tests.streams.conftest import StartConsumer, at_home
from tests.streams.consuming.test_consumer import settled
from tests.support.events import Noted
from tests.support.holders import Held
from tests.support.waiting import wait_until


async def reached(streams: Streams, id: str) -> ProgressReport | None:
    """What the probe has reported of an event."""
    return (await ProgressReport.of(at_home(streams), id)).get("probe")


async def steps_of(streams: Streams, id: str, group: str = "") -> list[Update]:
    """Every step until the last one."""
    async with aclosing(streams.progress(id, group=group)) as steps:
        return [step async for step in steps]


async def test_progress_is_followed_to_the_end_over_attempts(streams: Streams, start: StartConsumer) -> None:
    """Each report is pushed; a retry starts again and says so; the last step has the final state."""
    probe, gates = Processor("probe", retry=Backoff(attempts=2, first=0.05)), (asyncio.Event(), asyncio.Event())

    @probe.on(Noted)
    async def work(
        event: Noted, delivery: Delivery = CurrentDelivery(), progress: Progress = CurrentProgress()
    ) -> None:
        await progress.set(5 - delivery.attempt, 10, "reading")
        await gates[delivery.attempt - 1].wait()
        if delivery.attempt == 1:
            raise ConnectionResetError("gone")
        await progress.set(7, text="done")

    await start(probe)
    receipt = await streams.publish(Noted(n=1))
    seen: list[Update] = []
    async with asyncio.timeout(20), aclosing(streams.progress(receipt.id)) as steps:
        async for step in steps:
            seen.append(step)
            if step.reached is not None:
                gates[step.reached.attempt - 1].set()
    last = seen[-1]
    assert (last.group, last.state, last.attempt, last.is_last) == ("probe", "acked", 2, True)
    assert last.reached is not None
    assert (last.reached.done, last.reached.total, last.reached.text, last.reached.attempt) == (7, 10, "done", 2)
    assert last.reached.share == 0.7
    assert not any(step.is_last for step in seen[:-1])
    told = [(step.reached.attempt, step.reached.done) for step in seen if step.reached]
    assert sorted(set(told)) == [(1, 4), (2, 3), (2, 7)]
    assert [attempt for attempt, _ in told] == sorted(attempt for attempt, _ in told)
    assert (await streams.event(receipt.id)).groups[0].progress == last.reached
    ttl = await streams.redis.pttl(streams.keys.progress(receipt.id))
    assert 3_500_000 < ttl <= 3_600_000


async def test_a_tight_loop_reports_little_and_its_last_value(streams: Streams, start: StartConsumer) -> None:
    """Ten thousand times in a row: a handful of reports, and the end is right."""
    probe, took = Processor("probe"), list[float]()

    @probe.on(Noted)
    async def work(event: Noted, progress: Progress = CurrentProgress()) -> None:
        began = time.perf_counter()
        for done in range(10_000):
            await progress.increment()
            if done % 10 == 0:
                await asyncio.sleep(0)  # as one that waits for something now and then
        took.append(time.perf_counter() - began)

    reports: list[bytes] = []
    async with streams.redis.pubsub(ignore_subscribe_messages=True) as channel:
        await channel.psubscribe(f"{streams.keys.tag}:progress:*")
        await start(probe)
        receipt = await streams.publish(Noted(n=1))
        await wait_until(lambda: settled(streams))
        while (message := await channel.get_message(timeout=0.2)) is not None:
            reports.append(message["data"])
    found = await reached(streams, receipt.id)
    assert found is not None
    assert (found.done, found.total, found.share) == (10_000, None, None)
    print(f"10,000 increments: {took[0] / 10_000 * 1e6:.2f} us each, {len(reports)} reports")
    assert len(reports) <= 2 + took[0] / 0.25 + 1


async def test_what_is_set_once_is_reported_while_the_handler_goes_on(streams: Streams, start: StartConsumer) -> None:
    """The second value comes too soon after the first one; it is reported all the same, without a third."""
    probe, gate = Processor("probe"), asyncio.Event()

    @probe.on(Noted)
    async def work(event: Noted, progress: Progress = CurrentProgress()) -> None:
        await progress.set(1, 3, "one")
        await progress.set(2)
        await gate.wait()

    await start(probe)
    receipt = await streams.publish(Noted(n=1))

    async def two() -> bool:
        found = await reached(streams, receipt.id)
        return found is not None and (found.done, found.total, found.text) == (2, 3, "one")

    await wait_until(two)
    (group,) = (await streams.event(receipt.id)).groups
    assert group.state == "running"
    gate.set()
    await wait_until(lambda: settled(streams))


async def test_who_does_not_report_costs_no_key(streams: Streams, start: StartConsumer) -> None:
    """Following works all the same: state by state."""
    probe = Processor("probe")

    @probe.on(Noted)
    async def work(event: Noted, progress: Progress = CurrentProgress()) -> None: ...

    receipt = await streams.publish(Noted(n=1))
    watching = asyncio.create_task(steps_of(streams, receipt.id))
    await start(probe)
    seen = await asyncio.wait_for(watching, 20)
    assert (seen[-1].state, seen[-1].reached) == ("acked", None)
    assert not await streams.redis.keys(f"{streams.keys.tag}:progress:*")


async def test_one_group_is_followed_by_itself(streams: Streams, start: StartConsumer) -> None:
    """The other one is still at it; a dead letter is an end too."""
    gate = asyncio.Event()
    for name in ("slow", "probe"):
        processor = Processor(name, retry=Backoff(attempts=1))

        @processor.on(Noted)
        async def work(event: Noted, progress: Progress = CurrentProgress()) -> None:
            await progress.set(1, 2)
            if progress._group == "probe":
                raise ValueError("no")
            await gate.wait()

        await start(processor)
    receipt = await streams.publish(Noted(n=1))
    seen = await asyncio.wait_for(steps_of(streams, receipt.id, "probe"), 20)
    assert {step.group for step in seen} == {"probe"}
    assert seen[-1].state == "dead"
    gate.set()
    seen = await asyncio.wait_for(steps_of(streams, receipt.id), 20)
    assert {(step.group, step.state) for step in seen if step.is_last} == {("probe", "dead"), ("slow", "acked")}
    with pytest.raises(NotFound):
        await steps_of(streams, "01a20c50-ac10-7e68-ad90-06e7bb86ee16")


async def test_a_delivery_that_lost_its_event_reports_nothing(streams: Streams) -> None:
    """The one that began to report last is shown, whatever an earlier one still says."""
    message = Message.for_event(Noted(n=1), source="/test", target=streams.keys.stream("notes"))

    def progress(consumer: str) -> Progress:
        source = streams.keys.stream("notes")
        held = Delivery(message, Held("probe", consumer), source=source, entry_id=b"1-1", count=1)
        return Progress(held, streams)

    old, new = progress("old"), progress("new")
    for reporter, done in ((old, 1), (new, 2), (old, 3)):
        await reporter.set(done)
        await reporter.end()
    found = await reached(streams, message.id)
    assert found is not None
    assert found.done == 2


@pytest.mark.parametrize("id", ["x" * 500, "{app:9}:stream:users", "a b\n", "ü"])
async def test_hostile_ids_and_keys_are_survived(id: str, streams: Streams) -> None:
    """An id of somebody else's making stands in no key; a key of another kind costs the report, not the handler."""
    key = streams.keys.progress(id)
    assert key.startswith(f"{streams.keys.tag}:progress:")
    assert len(key) < 128
    await streams.redis.set(key, "x", ex=60)
    message = Message.for_event(Noted(n=1), source="/test", target="t", id=id)
    source = streams.keys.stream("notes")
    held = Delivery(message, Held("probe"), source=source, entry_id=b"1-1", count=1)
    progress = Progress(held, streams)
    await progress.set(1)
    await progress.end()
    assert await ProgressReport.of(at_home(streams), id) == {}
    await streams.redis.delete(key)
    await handlers_progress.progress(
        streams.redis.execute_command, key, group="probe", delivery="d", is_first=True, report=b'{"done": "lots"}'
    )
    assert await ProgressReport.of(at_home(streams), id) == {}
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not finite"):
            await progress.set(wrong)


def test_a_batch_has_no_progress() -> None:
    """Of which event, nobody could say."""

    async def work(events: list[Noted], progress: Progress = CurrentProgress()) -> None: ...

    with pytest.raises(StreamsError, match="the progress of one"):
        Processor("probe").on(Noted, batch=Batch())(work)
