"""Order per key: one message of a key at a time, its first successes in the order of the stream, whatever happens."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

import pytest

from streams import Backoff, CurrentDelivery, DeadLetter, Delivery, Processor, Streams
from streams.redis.keys import NEVER_MS
from streams.settling import scripts
from streams.settling.ordering import Ordering
from tests.streams.conftest import StartConsumer
from tests.streams.consuming.test_consumer import settled
from tests.support.events import Noted
from tests.support.waiting import wait_until


class Steps:
    """What an ordered processor did, by key: it fails here if two messages of a key are in hand at once."""

    def __init__(self, *, fail: float = 0.0, seed: int = 0) -> None:
        self.done: dict[str, list[int]] = defaultdict(list)
        self.together: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.processor = Processor("probe", ordered=True, concurrency=8, retry=Backoff(attempts=4, first=0.02))
        dice = random.Random(seed)
        busy: set[str] = set()

        @self.processor.on(Noted)
        async def step(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
            key = delivery.message.key
            if key and key in busy:
                self.together.append(key)
            busy.add(key)
            try:
                await asyncio.sleep(dice.random() * 0.004)
                if key in self.gates:
                    await self.gates[key].wait()
                if event.text == "dead":
                    raise DeadLetter("as it was told")
                if delivery.attempt < 4 and dice.random() < fail:
                    raise ValueError("not yet")
            finally:
                busy.discard(key)
            self.done[key].append(event.n)


async def publish(streams: Streams, keys: int, each: int, seed: int = 0) -> None:
    """Each key's events in order, the keys mixed."""
    left = [key for key in range(keys) for _ in range(each)]
    random.Random(seed).shuffle(left)
    numbers = dict.fromkeys(range(keys), 0)
    for key in left:
        await streams.publish(Noted(n=numbers[key]), key=f"k{key}")
        numbers[key] += 1


async def test_first_successes_of_a_key_are_in_publish_order(streams: Streams, start: StartConsumer) -> None:
    """Three consumers, a third of the tries fail: 20 keys, none out of order, no two of a key at once."""
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    steps = Steps(fail=0.3, seed=seed)
    for _ in range(3):
        await start(steps.processor)
    await publish(streams, 20, 25, seed)
    await wait_until(lambda: sum(map(len, steps.done.values())) == 500, timeout=25)
    assert steps.together == []
    assert all(done == list(range(25)) for done in steps.done.values())
    await wait_until(lambda: settled(streams))
    assert await streams.redis.keys(f"{streams.keys.turns('probe')}*") == [], "a turn that nobody has any more"
    assert [gap for gap in (await streams.accounts()).gaps() if gap.count] == []


async def test_a_busy_key_keeps_no_other_waiting(streams: Streams, start: StartConsumer) -> None:
    """500 messages of one key stand in line; they take no place in the consumer's hands."""
    steps = Steps()
    steps.gates["hot"] = asyncio.Event()
    await start(steps.processor, prefetch=20)
    await streams.publish_many([Noted(n=n) for n in range(500)], key="hot")
    await streams.publish_many([Noted(n=n) for n in range(50)], key="cold")
    await streams.publish_many([Noted(n=n) for n in range(50)])
    await wait_until(lambda: len(steps.done["cold"]) == 50 and len(steps.done[""]) == 50)
    assert steps.done["hot"] == []
    steps.gates["hot"].set()
    await wait_until(lambda: steps.done["hot"] == list(range(500)), timeout=20)


async def test_a_retry_holds_the_turn_and_a_dead_letter_passes_it(streams: Streams, start: StartConsumer) -> None:
    """The second is dead: the third is next, and no sooner."""
    steps = Steps()
    await start(steps.processor)
    await streams.publish(Noted(n=0), key="k")
    await streams.publish(Noted(n=1, text="dead"), key="k")
    await streams.publish(Noted(n=2), key="k")
    await wait_until(lambda: steps.done["k"] == [0, 2])
    assert await streams.redis.xlen(streams.keys.dead("probe")) == 1


async def test_who_stands_in_line_is_seen_and_can_be_called_off(streams: Streams, start: StartConsumer) -> None:
    """Its trail says whose turn it is; called off, the line goes on without it."""
    steps = Steps()
    steps.gates["k"] = asyncio.Event()
    await start(steps.processor)
    receipts = await streams.publish_many([Noted(n=n) for n in range(4)], key="k")

    async def standing() -> int:
        return int(await streams.redis.zcount(streams.keys.due(), NEVER_MS, NEVER_MS))

    await wait_until(lambda: _equals(standing, 3))
    (trail,) = (await streams.event(receipts[2].id)).groups
    assert (trail.state, trail.queued_behind) == ("queued", "key")
    assert trail.reason.startswith("it queues behind notes ")
    assert (await streams.cancel(receipts[2].id)).groups == {"probe": "cancelled"}
    steps.gates["k"].set()
    await wait_until(lambda: steps.done["k"] == [0, 1, 3])
    await wait_until(lambda: settled(streams))
    assert (await streams.event(receipts[2].id)).groups[0].state == "cancelled"
    assert not [gap for gap in (await streams.accounts()).gaps() if gap.count]


async def _equals(count: object, wanted: int) -> bool:
    return bool(await count() == wanted)  # type: ignore[operator]


async def test_a_retry_that_is_called_off_passes_the_turn(streams: Streams, start: StartConsumer) -> None:
    """What waits for its next try has the turn; the line does not wait for ever for one that never comes."""
    processor = Processor("probe", ordered=True, retry=Backoff(attempts=2, first=600, most=600))
    seen: list[int] = []

    @processor.on(Noted)
    async def step(event: Noted) -> None:
        seen.append(event.n)
        if event.n == 0:
            raise ValueError("not now")

    await start(processor)
    first, _ = await streams.publish_many([Noted(n=0), Noted(n=1)], key="k")

    async def waits() -> bool:
        return (await streams.event(first.id)).groups[0].state == "retrying"

    await wait_until(waits)
    assert seen == [0]
    await streams.cancel(first.id)
    await wait_until(lambda: seen == [0, 1])


async def test_a_turn_whose_message_was_deleted_is_passed_on(streams: Streams, start: StartConsumer) -> None:
    """Somebody's XDEL took the message whose turn it was: the upkeep finds that it is nowhere, and says so."""
    steps = Steps()
    consumer = await start(steps.processor)
    await consumer.stop()
    await streams.publish_many([Noted(n=0), Noted(n=1)], key="k")
    await streams.redis.hset(streams.keys.turns("probe"), "k", f"{streams.keys.stream('notes')} 1-1")
    await start(steps.processor)
    await wait_until(lambda: steps.done["k"] == [0, 1], timeout=10)


async def test_the_lines_of_a_processor_that_is_not_ordered_any_more_are_let_go(
    streams: Streams, start: StartConsumer
) -> None:
    """Nobody would ever pass on their turns."""
    steps = Steps()
    steps.gates["k"] = asyncio.Event()
    first = await start(steps.processor, grace=0.1)
    await streams.publish_many([Noted(n=n) for n in range(5)], key="k")
    await wait_until(lambda: _equals(lambda: streams.redis.zcard(streams.keys.due()), 4))
    await first.stop()
    plain, seen = Processor("probe"), list[int]()

    @plain.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)

    await start(plain)
    await wait_until(lambda: sorted(seen) == [0, 1, 2, 3, 4], timeout=10)
    await wait_until(lambda: settled(streams))
    assert await streams.redis.keys(f"{streams.keys.turns('probe')}*") == []


@pytest.mark.parametrize("place", ["pending", "waiting", "inbox"])
async def test_a_message_that_is_somewhere_keeps_its_turn(streams: Streams, start: StartConsumer, place: str) -> None:
    """Mending asks all three places in one step."""
    processor = Processor("probe", ordered=True, retry=Backoff(attempts=2, first=600, most=600))
    gate = asyncio.Event()

    @processor.on(Noted)
    async def step(event: Noted) -> None:
        if place == "waiting":
            raise ValueError("not now")
        await gate.wait()

    consumer = await start(processor, grace=0.1)
    await streams.publish_many([Noted(n=0), Noted(n=1)], key="k")
    await wait_until(lambda: _equals(lambda: streams.redis.zcard(streams.keys.due()), 2 if place == "waiting" else 1))
    if place == "inbox":
        await consumer.stop()
        assert await streams.redis.xlen(streams.keys.inbox("probe")) == 1
    assert await Ordering(streams.keys, "probe").repair(streams.redis) == 0
    gate.set()


async def test_what_was_read_without_a_turn_is_reclaimed_by_the_order_of_its_key(
    streams: Streams, start: StartConsumer
) -> None:
    """A deploy to `ordered=True` after a crash: ten of a key are pending and have no turn, a later one is running. They
    are handled one at a time, in the order of the stream, and nothing is lost or left behind.
    """
    steps = Steps()
    stream, redis = streams.keys.stream("notes"), streams.redis
    await redis.hset(streams.keys.groups(), "probe", stream)
    await redis.xgroup_create(stream, "probe", "0", mkstream=True)
    await streams.publish_many([Noted(n=n) for n in range(10)], key="k")
    await streams.publish_many([Noted(n=n) for n in range(10)], key="other")
    await redis.xreadgroup("probe", "gone-1-ff", {stream: ">"})
    steps.gates["k"] = asyncio.Event()
    await start(steps.processor, lease=0.5)
    await streams.publish(Noted(n=10), key="k")

    async def waiting() -> int:
        return int(await redis.zcount(streams.keys.due(), NEVER_MS, NEVER_MS))

    await wait_until(lambda: _equals(waiting, 10))
    await wait_until(lambda: steps.done["other"] == list(range(10)))
    steps.gates["k"].set()
    await wait_until(lambda: len(steps.done["k"]) == 11)
    assert steps.together == []
    assert [n for n in steps.done["k"] if n < 10] == list(range(10))
    await wait_until(lambda: settled(streams))
    assert await redis.keys(f"{streams.keys.turns('probe')}*") == []
    assert [gap for gap in (await streams.accounts()).gaps() if gap.count] == []


async def test_what_is_reclaimed_and_has_to_wait_keeps_its_deaths(streams: Streams, start: StartConsumer) -> None:
    """Its hand-overs count wherever it waits: a message that has killed four processes runs alone, and is given up with
    the fifth.
    """
    stream, redis = streams.keys.stream("notes"), streams.redis
    await redis.hset(streams.keys.groups(), "probe", stream)
    await redis.xgroup_create(stream, "probe", "0", mkstream=True)
    await streams.publish_many([Noted(n=n) for n in range(2)], key="k")
    ((_, (_, (second, _))),) = await redis.xreadgroup("probe", "gone-1-ff", {stream: ">"})
    await redis.xclaim(stream, "probe", "gone-1-ff", 0, [second], retrycount=4)
    seen: list[tuple[int, int]] = []
    gate = asyncio.Event()
    processor = Processor("probe", ordered=True, concurrency=8)

    @processor.on(Noted)
    async def note(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        seen.append((event.n, delivery.crashes))
        await gate.wait()

    await start(processor, lease=0.5)
    await wait_until(lambda: seen == [(0, 1)])
    gate.set()
    await wait_until(lambda: seen == [(0, 1), (1, 4)])
    await wait_until(lambda: settled(streams))


@pytest.mark.parametrize(
    ("count", "size", "most", "low", "high"),
    [(100, 10, 100, 100, 100), (100, 10, 7, 7, 7), (3, 10, 100, 3, 3), (14, 1_200_000, 100, 6, 8)],
    ids=["all", "as many as there is room for", "what there is", "eight megabytes"],
)
async def test_one_read_brings_what_there_is_room_for(
    streams: Streams, count: int, size: int, most: int, low: int, high: int
) -> None:
    """Of a little data it is all in one call, of much data some megabytes: the script holds them, and the server."""
    keys, call = streams.keys, streams.redis.execute_command
    source = keys.stream("notes")
    body = Noted(n=1, text="x" * size).encode()
    for number in range(count):
        await streams.redis.xadd(source, {"type": "Noted", "data": body, "partitionkey": f"k{number}"})
    await streams.redis.xgroup_create(source, "probe", "0")
    number, found, last = await scripts.read_in_turn(
        call, keys, streams=[source], group="probe", consumer="one", most=most
    )
    assert low <= number <= high
    assert sum(len(entries) for _, entries in found) == number
    assert last == []
    await streams.redis.delete(keys.turns("probe"))
