"""The way of an event through a consumer: delivered, acked, retried, snoozed, dead-lettered, followed."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import orjson
import pytest
import redis.asyncio

from streams import Backoff, CurrentDelivery, DeadLetter, Delivery, Depends, Processor, Retry, Shared, Snooze, Streams
from tests.streams.conftest import StartConsumer
from tests.support.events import Followed, Noted, Other, Renamed, Unhandled
from tests.support.waiting import wait_until

Fields = dict[str, str]


async def entries(client: redis.asyncio.Redis, key: str) -> list[Fields]:
    """What a stream holds."""
    return [
        {name.decode(): value.decode("utf-8", "replace") for name, value in fields.items()}
        for _, fields in await client.xrange(key)
    ]


async def settled(streams: Streams, group: str = "probe") -> bool:
    """Whether everything published has been delivered to the group and settled."""
    for _ in range(2):  # what goes from one place to the other between two looks is in neither
        for key in await streams.redis.keys(f"{streams.keys.tag}:*"):
            if await streams.redis.type(key) != b"stream":
                continue
            for info in await streams.redis.xinfo_groups(key):
                if info["name"] == group.encode() and (info["pending"] or info["lag"]):
                    return False
        if await streams.redis.zcard(streams.keys.due()):
            return False
    return True


async def test_an_event_is_handled_and_acked(streams: Streams, start: StartConsumer) -> None:
    """Published before the group exists or after: handled, and nothing is pending."""
    probe = Processor("probe")
    seen: list[int] = []

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)

    await streams.publish(Noted(n=1))
    await start(probe)
    await streams.publish(Noted(n=2), priority="high")
    await streams.publish_many([Noted(n=3), Noted(n=4)], priority="low")
    await wait_until(lambda: sorted(seen) == [1, 2, 3, 4])
    await wait_until(lambda: settled(streams))


async def test_as_much_is_held_ahead_as_the_handlers_are_quick_for(streams: Streams, start: StartConsumer) -> None:
    """Slow ones find a few events waiting, so that other consumers get the rest; quick ones never wait for a read."""
    probe = Processor("probe", concurrency=1)
    quick = asyncio.Event()
    count = 0

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        nonlocal count
        await quick.wait()
        count += 1

    async def held(least: int = 1) -> int:
        found = int((await streams.redis.xpending(streams.keys.stream("notes"), "probe"))["pending"])
        return found if found >= least else 0

    await streams.publish_many(Noted(n=n) for n in range(4000))
    await start(probe, prefetch=100)
    most_when_slow = await wait_until(held)
    assert most_when_slow <= 5
    quick.set()
    await wait_until(lambda: count > 500)
    quick.clear()
    await wait_until(lambda: held(10))


async def test_every_group_gets_every_event_of_its_types(streams: Streams, start: StartConsumer) -> None:
    """Two processors, two groups: each handles the event once."""
    seen: list[str] = []
    for name in ("first", "second"):
        processor = Processor(name)

        @processor.on(Noted)
        async def note(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
            seen.append(delivery.group)

        await start(processor)
    await streams.publish(Noted(n=1))
    await wait_until(lambda: sorted(seen) == ["first", "second"])


async def test_a_failure_is_retried_for_this_group_only(streams: Streams, start: StartConsumer) -> None:
    """A handler that fails twice is called three times with attempts 1, 2, 3; the other group once."""
    attempts: list[int] = []
    others: list[int] = []
    failing, healthy = Processor("failing"), Processor("healthy")

    @failing.on(Noted, retry=Backoff(attempts=3, first=0.05))
    async def fail(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt < 3:
            raise ConnectionResetError("gone")

    @healthy.on(Noted)
    async def fine(event: Noted) -> None:
        others.append(event.n)

    await start(failing)
    await start(healthy)
    await streams.publish(Noted(n=1))
    await wait_until(lambda: attempts == [1, 2, 3])
    await wait_until(lambda: settled(streams, "failing"))
    assert others == [1]
    history = await entries(streams.redis, streams.keys.history("failing"))
    assert [line["outcome"] for line in history] == ["retried", "retried", "acked"]
    assert await streams.redis.xlen(streams.keys.dead("failing")) == 0


async def test_what_keeps_failing_becomes_a_dead_letter_that_explains_itself(
    streams: Streams, start: StartConsumer
) -> None:
    """After its attempts: the whole message, the reason, the error, when and how often; no secrets in it."""
    probe = Processor("probe", retry=Backoff(attempts=2, first=0.05))

    @probe.on(Noted)
    async def fail(event: Noted) -> None:
        raise RuntimeError("no route to smtp://user:hunter2@mail, password=hunter2")

    await start(probe)
    receipt = await streams.publish(Noted(n=7, text="kept"), key="k")
    await wait_until(lambda: streams.redis.xlen(streams.keys.dead("probe")))
    (letter,) = await entries(streams.redis, streams.keys.dead("probe"))
    assert letter["id"] == receipt.id
    assert letter["type"] == "Noted"
    assert letter["partitionkey"] == "k"
    assert orjson.loads(letter["data"]) == {"n": 7, "text": "kept"}
    assert letter["reason"] == "failed"
    assert letter["error"].startswith("RuntimeError: no route")
    assert letter["attempts"] == letter["deliveries"] == "2"
    assert letter["firstfailed"] < letter["lastfailed"]
    assert [error["attempt"] for error in orjson.loads(letter["errors"])] == [1, 2]
    assert letter["origin"].startswith(streams.keys.stream("notes") + " ")
    assert "in fail" in letter["traceback"]
    assert "hunter2" not in repr(letter)


async def test_a_handler_can_choose_its_outcome(streams: Streams, start: StartConsumer) -> None:
    """Retry(after=) counts, Snooze does not, DeadLetter gives up at once."""
    probe = Processor("probe", retry=Backoff(attempts=2, first=60))
    seen: list[tuple[int, int]] = []

    @probe.on(Noted)
    async def choose(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        seen.append((event.n, delivery.attempt))
        if event.n == 1 and delivery.attempt == 1:
            raise Retry(after=0.05)
        if event.n == 2 and len([n for n, _ in seen if n == 2]) < 4:
            raise Snooze(timedelta(milliseconds=20))
        if event.n == 3:
            raise DeadLetter("no such mailbox")

    await start(probe)
    await streams.publish_many([Noted(n=1), Noted(n=2), Noted(n=3)])
    await wait_until(lambda: settled(streams))
    assert sorted(seen) == [(1, 1), (1, 2), (2, 1), (2, 1), (2, 1), (2, 1), (3, 1)]
    (letter,) = await entries(streams.redis, streams.keys.dead("probe"))
    assert (letter["reason"], letter["attempts"]) == ("rejected", "1")
    assert letter["error"] == "DeadLetter: no such mailbox"


async def test_a_bug_is_tried_again_unless_the_policy_gives_up_on_it(streams: Streams, start: StartConsumer) -> None:
    """A bug looks as an answer that was wrong for a moment: the policy names what is hopeless."""
    probe = Processor("probe", retry=Backoff(attempts=3, first=0.01))
    other = Processor("other", retry=Backoff(attempts=3, give_up_on=TypeError))  # type: ignore[arg-type]

    @other.on(Noted)
    @probe.on(Noted)
    async def broken(event: Noted) -> None:
        event.n + "1"  # type: ignore[operator]

    await start(probe)
    await start(other)
    await streams.publish(Noted(n=1))
    for group, attempts in (("probe", "3"), ("other", "1")):
        await wait_until(lambda group=group: streams.redis.xlen(streams.keys.dead(group)))  # type: ignore[misc]
        (letter,) = await entries(streams.redis, streams.keys.dead(group))
        assert (letter["reason"], letter["attempts"]) == ("failed", attempts)


async def test_a_handler_that_hangs_is_cut_off_and_retried(streams: Streams, start: StartConsumer) -> None:
    """Its timeout counts as a failure, and the slot goes on."""
    probe = Processor("probe", retry=Backoff(attempts=2, first=0.01), concurrency=1)
    attempts: list[int] = []

    @probe.on(Noted, timeout=0.2)
    async def hang(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            await asyncio.Event().wait()

    await start(probe)
    await streams.publish(Noted(n=1))
    await wait_until(lambda: attempts == [1, 2])
    await wait_until(lambda: settled(streams))
    history = await entries(streams.redis, streams.keys.history("probe"))
    assert "longer than 0.2 s" in history[0]["error"]


async def test_follow_ups_are_published_with_the_ack(streams: Streams, start: StartConsumer) -> None:
    """An event that a handler returns joins the conversation of its cause."""
    probe = Processor("probe")
    seen: list[Delivery] = []

    @probe.on(Noted)
    async def note(event: Noted) -> list[Followed]:
        return [Followed(n=event.n), Followed(n=event.n + 1)]

    @probe.on(Followed)
    async def follow(event: Followed, delivery: Delivery = CurrentDelivery()) -> None:
        seen.append(delivery)

    await start(probe)
    receipt = await streams.publish(Noted(n=1))
    await wait_until(lambda: len(seen) == 2)
    assert {delivery.message.causation_id for delivery in seen} == {receipt.id}
    assert {delivery.message.correlation_id for delivery in seen} == {receipt.id}
    assert len({delivery.message.id for delivery in seen}) == 2


async def test_no_follow_up_of_a_failed_handler_is_published(streams: Streams, start: StartConsumer) -> None:
    """Ack and follow-ups are one fact: where one of them cannot be published, none is, and it is a dead letter."""
    probe = Processor("probe")

    @probe.on(Noted)
    async def note(event: Noted) -> object:
        return [Followed(n=1), Noted(n=2, text="x" * 1_000_000)]

    await start(probe)
    await streams.publish(Noted(n=1))
    await wait_until(lambda: streams.redis.xlen(streams.keys.dead("probe")))
    assert await streams.redis.xlen(streams.keys.stream("notes")) == 1


async def test_dependencies_are_made_per_delivery_or_once(streams: Streams, start: StartConsumer) -> None:
    """`Depends` for each delivery, `Shared` once a consumer; a plain `def` handler runs in a thread."""
    probe = Processor("probe")
    made: list[str] = []
    seen: list[tuple[str, str]] = []

    async def fresh() -> str:
        made.append("fresh")
        return "fresh"

    async def shared() -> str:
        made.append("shared")
        return "shared"

    @probe.on(Noted)
    def note(event: Noted, one: str = Depends(fresh), other: str = Shared(shared)) -> None:
        seen.append((one, other))

    await start(probe)
    await streams.publish_many([Noted(n=1), Noted(n=2)])
    await wait_until(lambda: seen == [("fresh", "shared")] * 2)
    assert sorted(made) == ["fresh", "fresh", "shared"]


async def test_types_without_a_handler(streams: Streams, start: StartConsumer) -> None:
    """A registered type of another processor is skipped; an unregistered one is a dead letter."""
    probe = Processor("probe")

    @probe.on(Noted)
    async def note(event: Noted) -> None: ...

    await start(probe)
    await streams.publish_many([Unhandled(n=1)] * 3)
    await streams.redis.xadd(streams.keys.stream("notes"), {"type": "NobodyKnows", "data": "{}"})
    await wait_until(lambda: streams.redis.xlen(streams.keys.dead("probe")))
    await wait_until(lambda: settled(streams))
    (letter,) = await entries(streams.redis, streams.keys.dead("probe"))
    assert letter["reason"] == "unknown_type"
    assert await streams.redis.xlen(streams.keys.history("probe")) == 1


async def test_old_versions_are_upcast(streams: Streams, start: StartConsumer) -> None:
    """A message of version 1 reaches a handler of version 3 through both steps."""
    probe = Processor("probe")
    seen: list[Renamed] = []

    @probe.on(Renamed)
    async def note(event: Renamed) -> None:
        seen.append(event)

    await start(probe)
    fields = {"type": "Renamed", "dataversion": "1", "data": '{"first":"Ada","last":"Lovelace"}'}
    await streams.redis.xadd(streams.keys.stream("notes"), fields)
    await wait_until(lambda: seen == [Renamed(full_name="Ada Lovelace", locale="en")])


async def test_newer_versions_wait_for_the_deploy(streams: Streams, start: StartConsumer) -> None:
    """A message from the future is snoozed, not dead-lettered, until its set time has passed."""
    probe = Processor("probe")

    @probe.on(Noted)
    async def note(event: Noted) -> None: ...

    await start(probe, unsupported_every=0.05, unsupported_for=0.5)
    fields = {"type": "Noted", "dataversion": "2", "data": '{"n":1}'}
    await streams.redis.xadd(streams.keys.stream("notes"), fields)
    await wait_until(lambda: streams.redis.xlen(streams.keys.dead("probe")))
    (letter,) = await entries(streams.redis, streams.keys.dead("probe"))
    assert letter["reason"] == "unsupported"
    assert letter["attempts"] == "0"
    history = await entries(streams.redis, streams.keys.history("probe"))
    assert [line["outcome"] for line in history[:3]] == ["snoozed"] * 3


HOSTILE = {
    "no JSON": (b"{", "invalid"),
    "not UTF-8": (b'{"n":1,"text":"\xff\xfe"}', "invalid"),
    "nested 10,000 deep": (b'{"n":' + b"[" * 10_000, "invalid"),
    "missing field": (b"{}", "invalid"),
    "wrong type": (b'{"n":"seven"}', "invalid"),
    "no object": (b"[1]", "invalid"),
    "number over 64 bits": (b'{"n":1' + b"0" * 5000 + b"}", "invalid"),
    "NaN": (b'{"n":NaN}', "invalid"),
    "empty": (b"", "invalid"),
    "too large": (b'{"n":1,"text":"' + b"x" * 300_000 + b'"}', "too_large"),
}


async def test_hostile_messages_are_dead_letters_and_the_batch_goes_on(streams: Streams, start: StartConsumer) -> None:
    """Each bad entry gets its reason, every good one between them is handled, nothing is pending."""
    probe = Processor("probe")
    seen: list[int] = []

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)

    key = streams.keys.stream("notes")
    for data, _ in HOSTILE.values():
        await streams.redis.xadd(key, {"type": "Noted", "data": data})
        await streams.publish(Noted(n=len(data) % 7))
    await streams.redis.xadd(key, {b"\xff": b"\xff"})
    await streams.redis.xadd(key, {"type": "Noted", "dataversion": "-1", "data": '{"n":1}'})
    await start(probe)
    await wait_until(lambda: len(seen) == len(HOSTILE))
    await wait_until(lambda: settled(streams))
    letters = await entries(streams.redis, streams.keys.dead("probe"))
    assert [letter["reason"] for letter in letters] == [
        *(reason for _, reason in HOSTILE.values()), "unknown_type", "invalid",
    ]  # fmt: skip
    assert "seven" not in letters[4]["error"], "the error repeats the input"


@pytest.mark.parametrize("sources", [{"source": "/crm", "id": "c-1"}, {}])
async def test_a_foreign_entry_needs_type_and_data_only(
    streams: Streams, start: StartConsumer, sources: dict[str, str]
) -> None:
    """Anything that can XADD can publish; without an id the entry's own serves."""
    probe = Processor("probe")
    seen: list[Delivery] = []

    @probe.on(Other)
    async def note(event: Other, delivery: Delivery = CurrentDelivery()) -> None:
        seen.append(delivery)

    await start(probe)
    entry_id = await streams.redis.xadd(streams.keys.stream("others"), {"data": '{"n":1}', **sources, "type": "Other"})
    await wait_until(lambda: seen)
    assert seen[0].message.id == sources.get("id", entry_id.decode())
    assert seen[0].message.source == sources.get("source", "")


async def test_a_cancelled_wait_inside_a_handler_is_its_failure(streams: Streams, start: StartConsumer) -> None:
    """A task the handler waits for is cancelled by somebody: retried as any failure, and the slot lives on."""
    probe = Processor("probe", concurrency=1, retry=Backoff(attempts=2, first=0.01))
    attempts: list[int] = []

    @probe.on(Noted)
    async def wait_for_it(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            task = asyncio.create_task(asyncio.Event().wait())
            asyncio.get_running_loop().call_soon(task.cancel)
            await task

    await start(probe)
    await streams.publish(Noted(n=1))
    await wait_until(lambda: attempts == [1, 2])
    await wait_until(lambda: settled(streams))


async def test_an_entry_with_an_impossible_id_is_read(streams: Streams, start: StartConsumer) -> None:
    """Entry ids are the publisher's choice: one from the year 584,554,531 is an event like any other."""
    probe = Processor("probe")
    seen: list[str] = []

    @probe.on(Noted)
    async def note(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        seen.append(delivery.message.time)

    await start(probe)
    fields = {"type": "Noted", "data": '{"n":1}'}
    await streams.redis.xadd(streams.keys.stream("notes"), fields, id="18446744073709551614-1")
    await wait_until(lambda: seen == [""])
    await wait_until(lambda: settled(streams))


async def test_handlers_that_never_wait_give_way(streams: Streams, start: StartConsumer) -> None:
    """A thousand of them in a row do not keep the event loop from anything else for longer than a moment.

    In seconds of this thread's own: what the machine does meanwhile is not the engine's.
    """
    probe = Processor("probe", concurrency=1)
    seen: list[int] = []

    @probe.on(Noted)
    async def busy(event: Noted) -> None:
        until = time.thread_time() + 0.001
        while time.thread_time() < until:
            pass
        seen.append(event.n)

    await streams.publish_many(Noted(n=n) for n in range(1000))
    await start(probe)
    began = last = time.thread_time()
    longest = 0.0
    while len(seen) < 1000:
        await asyncio.sleep(0)
        longest, last = max(longest, time.thread_time() - last), time.thread_time()
    assert longest < (last - began) / 8
