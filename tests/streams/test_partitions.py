"""Partitions on one Redis: everything that reads, steers and counts looks into all of them."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import redis.asyncio

from streams import CurrentDelivery, Delivery, Event, Processor, Refused, Streams, StreamsError
from streams.admin.repartition import repartition
from streams.admin.retire import retire
from streams.app import registered
from streams.dead_letters.canary import canary
from streams.redis.keys import partition_of
from tests.streams.conftest import MakeSettings, StartConsumer
from tests.streams.inspecting.test_reconciliation import adds_up
from tests.support.waiting import wait_until

N = 3
pytestmark = pytest.mark.spread


class Placed(Event, stream="places", version=1):
    """Something of one partition or another."""

    n: int


class PlaceFollowed(Event, stream="followers", version=1):
    """What follows from it."""

    n: int


@pytest.fixture
async def streams(make_settings: MakeSettings) -> AsyncIterator[Streams]:
    """A client with three partitions."""
    async with Streams(settings=make_settings(partitions=N)) as client:
        yield client


def processor(handled: list[int]) -> Processor:
    """Takes note of each event, and publishes what follows from it."""
    made = Processor("placer", concurrency=5)

    @made.on(Placed)
    async def handle(event: Placed) -> PlaceFollowed:
        handled.append(event.n)
        return PlaceFollowed(n=event.n)

    return made


async def settled(streams: Streams, count: int) -> None:
    """Waits until the group has settled so many, and checks the books."""

    async def look() -> bool:
        (group,) = (await streams.accounts()).groups
        return group.acked + group.dead == count

    await wait_until(look)
    accounts = await streams.accounts()
    assert all(adds_up(group) for group in accounts.groups)
    assert not list(accounts.gaps())


async def test_everything_is_handled_once_and_accounted_for(streams: Streams, start: StartConsumer) -> None:
    """What was published before the consumers, by two of them, with follow-ups where their causes are."""
    handled: list[int] = []
    receipts = await streams.publish_many(Placed(n=n) for n in range(300))
    await start(processor(handled), partitions=N)
    await start(processor(handled), partitions=N)
    receipts += await streams.publish_many(Placed(n=n) for n in range(300, 600))
    await settled(streams, 600)
    assert Counter(handled) == Counter(range(600))
    spread = Counter(receipt.partition for receipt in receipts)
    assert set(spread) == set(range(N))
    assert min(spread.values()) > 100
    for partition in streams.partitions:
        assert await partition.redis.xlen(partition.keys.stream("followers")) == spread[partition.number]


async def test_status_is_one(streams: Streams, start: StartConsumer) -> None:
    """One row for a stream, a group and a consumer, whatever the number of partitions."""
    handled: list[int] = []
    consumer = await start(processor(handled), partitions=N)
    await streams.publish_many(Placed(n=n) for n in range(30))
    await settled(streams, 30)
    snapshot = await streams.snapshot()
    assert [(lane.name, lane.length) for lane in snapshot.streams if lane.length] == [("followers", 30), ("places", 30)]
    (group,) = snapshot.groups
    assert [(member.name, member.alive) for member in group.consumers] == [(consumer.name, True)]
    assert (snapshot.partitions, snapshot.registered) == (N, N)
    assert len(snapshot.servers) == len({server.place for server in snapshot.servers}) <= N


async def test_pause_cancel_and_delay(streams: Streams, start: StartConsumer) -> None:
    """A paused group begins nothing in any partition; what waits, wherever, is called off by its id."""
    handled: list[int] = []
    await start(processor(handled), partitions=N)
    assert await streams.pause("placer")
    assert not await streams.pause("placer")
    waiting = [await streams.publish(Placed(n=n)) for n in range(12)]
    delayed = await streams.publish(Placed(n=99), delay=3600)
    assert (await streams.event(delayed.id)).due_in is not None
    await streams.cancel(delayed.id)
    for receipt in waiting[:6]:
        await streams.cancel(receipt.id)
    assert not handled
    assert await streams.resume("placer")
    await wait_until(lambda: len(handled) == 6)
    assert sorted(handled) == list(range(6, 12))

    async def all_over() -> bool:
        trails = [await streams.event(receipt.id) for receipt in waiting]
        return [trail.groups[0].state for trail in trails] == ["cancelled"] * 6 + ["acked"] * 6

    await wait_until(all_over)


async def test_a_group_that_is_paused_anywhere_is_paused(streams: Streams, start: StartConsumer) -> None:
    """A pause that reached only some partitions holds for a consumer that starts; resuming clears all of them."""
    handled: list[int] = []
    first = await start(processor(handled), partitions=N)
    await first.stop()
    await streams.pause("placer")
    for partition in streams.partitions[1:]:
        await partition.redis.srem(partition.keys.paused(), "placer")
    consumer = await start(processor(handled), partitions=N)
    assert consumer._pool.paused
    await streams.publish_many(Placed(n=n) for n in range(9))
    assert await streams.resume("placer")
    await wait_until(lambda: len(handled) == 9)


async def test_dead_letters_are_one_list(streams: Streams, start: StartConsumer) -> None:
    """Oldest first over all partitions; edited, shown, replayed in stages and counted by id or event."""
    broken = True
    made = Processor("placer")

    @made.on(Placed)
    async def handle(event: Placed) -> None:
        if broken:
            raise ValueError("broken")

    await start(made, partitions=N, attempts=1)
    for n in range(14):
        await streams.publish(Placed(n=n))
    letters = streams.dead_letters("placer")

    async def count() -> bool:
        return await letters.count() == 14

    await wait_until(count)
    found = [letter async for letter in letters.ls()]
    assert len({letter.id for letter in found}) == 14
    assert [letter.entry_id for letter in found] == sorted((letter.entry_id for letter in found), key=_position)
    assert len([letter async for letter in letters.ls(limit=5)]) == 5
    assert (await letters.show(found[3].event_id)).id == found[3].id
    (kind,) = await letters.groups()
    assert kind.count == 14
    edited = await letters.edit(found[0].id, Placed(n=1000))
    assert edited.partition == found[0].partition
    broken = False
    stages = await canary(streams, "placer")
    assert [(stage.replayed, stage.ending) for stage in stages] == [(1, "passed"), (10, "passed"), (3, "passed")]
    await settled(streams, 14)


async def test_history_is_replayed_from_every_partition(streams: Streams, start: StartConsumer) -> None:
    """One replay, one id, one count; resumed and cancelled as one."""
    handled: list[int] = []
    await start(processor(handled), partitions=N)
    await streams.publish_many(Placed(n=n) for n in range(40))
    await settled(streams, 40)
    job = await streams.replay("places", group="placer")
    assert (job.state, job.matched, job.replayed) == ("done", 40, 40)
    await settled(streams, 80)
    assert Counter(handled) == Counter([*range(40), *range(40)])
    assert [(found.id, found.state) for found in await streams.replays.ls()] == [(job.id, "done")]
    assert (await streams.replays.resume(job.id)).replayed == 40
    assert (await streams.replays.cancel(job.id)).state == "done"


@pytest.mark.parametrize("number", range(N))
async def test_history_is_replayed_that_is_in_one_partition(streams: Streams, number: int) -> None:
    """Whichever that is: those that have nothing of it are passed over, and have no part of the replay."""
    keys = streams.partitions[number].keys
    (key,) = [name for name in map(str, range(20)) if partition_of(name, N) == number][:1]
    await streams.publish_many([Placed(n=n) for n in range(5)], key=key)
    for partition in streams.partitions:
        await partition.redis.hset(partition.keys.groups(), "placer", partition.keys.stream("places"))
        await partition.redis.xgroup_create(partition.keys.stream("places"), "placer", "0", mkstream=True)
    job = await streams.replay("places", group="placer")
    assert (job.state, job.matched, job.replayed) == ("done", 5, 5)
    assert await streams.partitions[number].redis.xlen(keys.inbox("placer")) == 5


async def test_trim_and_retire(streams: Streams, start: StartConsumer) -> None:
    """`keep` is per lane and partition; a group is retired in all of them, and in none while it is alive."""
    handled: list[int] = []
    consumer = await start(processor(handled), partitions=N)
    await streams.publish_many(Placed(n=n) for n in range(60))
    await settled(streams, 60)
    done = {lane.stream: lane for lane in await streams.trim("places", older_than=timedelta(microseconds=1))}
    assert (done["places"].removed, done["places"].kept) == (60, 0)
    with pytest.raises(StreamsError, match="alive"):
        await retire(streams, "placer", apply=True)
    await consumer.stop()
    await streams.publish_many(Placed(n=n) for n in range(9))
    given_up = await retire(streams, "placer", apply=True)
    assert (given_up.done, given_up.unread) == (True, 9)
    assert not (await streams.snapshot()).groups or not any(g.lag for g in (await streams.snapshot()).groups)


async def test_a_schedule_lives_in_one_partition(streams: Streams, start: StartConsumer) -> None:
    """By its key, else its name: each slot once, whoever runs; steered by its name."""
    made = Processor("placer")
    seen: list[Delivery] = []

    @made.every(1, name="often", key="k")
    def often() -> Placed:
        return Placed(n=1)

    @made.on(Placed)
    async def handle(event: Placed, delivery: Delivery = CurrentDelivery()) -> None:
        seen.append(delivery)

    await start(made, partitions=N)
    (state,) = await wait_until(streams.schedules.ls)
    assert state.name == "placer.often"
    ran = await streams.schedules.run("placer.often")
    assert ran.ids is not None
    await wait_until(lambda: ran.ids[0] in [delivery.message.id for delivery in seen])
    assert await streams.schedules.pause("placer.often")
    home = streams.partitions[partition_of("k", N)]
    assert {delivery.source for delivery in seen} == {home.keys.stream("places")}


async def test_consumers_of_a_dead_process_are_taken_over_in_every_partition(
    streams: Streams, start: StartConsumer
) -> None:
    """What one that went silent holds, in any partition, is reclaimed."""
    receipts = await streams.publish_many(Placed(n=n) for n in range(12))
    handled: list[int] = []
    for partition in streams.partitions:
        stream = partition.keys.stream("places")
        await partition.redis.xgroup_create(stream, "placer", "0", mkstream=True)  # one may have got none of them
        await partition.redis.xreadgroup("placer", "gone", {stream: ">"}, count=100)
    await start(processor(handled), partitions=N, lease=0.4)
    await wait_until(lambda: len(handled) == len(receipts), timeout=20)
    await settled(streams, 12)


async def test_what_an_event_led_to_is_found_in_every_partition(streams: Streams, start: StartConsumer) -> None:
    """What a handler publishes itself may be anywhere; what it returns is where its event is."""
    keys = [next(k for k in "abcdefgh" if partition_of(k, N) == number) for number in range(N)]
    made = Processor("placer")

    @made.on(Placed)
    async def handle(event: Placed) -> PlaceFollowed:
        for n, key in enumerate(keys):
            await streams.publish(PlaceFollowed(n=n), key=key)
        return PlaceFollowed(n=N)

    receipt = await streams.publish(Placed(n=1))
    await start(made, partitions=N)
    await settled(streams, 1)
    trail = await streams.event(receipt.id)
    assert [follow_up.type for follow_up in trail.follow_ups] == ["PlaceFollowed"] * (N + 1)
    assert "follow-ups" in trail.searched


@pytest.mark.single("it counts the commands of one server")
async def test_calling_off_costs_the_same_in_any_number_of_partitions(
    make_settings: MakeSettings, redis_client: redis.asyncio.Redis
) -> None:
    """An id says in which partition its event is likely to be: the others are looked through only if it is not."""
    spent = []
    for number in (1, N):
        async with Streams(settings=make_settings(partitions=number, app=f"{make_settings().app}{number}")) as client:
            receipt = await client.publish(Placed(n=1), delay=60)
            await client.cancel(receipt.id)  # which loads the scripts
            receipt = await client.publish(Placed(n=1), delay=60)
            before = (await redis_client.info("stats"))["total_commands_processed"]
            await client.cancel(receipt.id)
            spent.append((await redis_client.info("stats"))["total_commands_processed"] - before)
    assert spent[1] <= spent[0], spent


async def test_what_is_in_is_told_when_a_partition_refuses(streams: Streams) -> None:
    """Each partition's batch is all or nothing; the error has the receipts of those that are in."""
    await streams.check()
    last = streams.partitions[-1]
    await last.redis.set(last.keys.stream("places"), "no stream")
    with pytest.raises(StreamsError) as caught:
        await streams.publish_many(Placed(n=n) for n in range(30))
    assert {receipt.partition for receipt in caught.value.published} <= {0, 1}
    there = 0
    for partition in streams.partitions[:-1]:
        there += await partition.redis.xlen(partition.keys.stream("places"))
    assert there == len(caught.value.published)
    await last.redis.delete(last.keys.stream("places"))


async def test_the_number_is_noted_and_changed(
    make_settings: MakeSettings, streams: Streams, redis_client: redis.asyncio.Redis, start: StartConsumer
) -> None:
    """One partition writes nothing down; growing is always possible, shrinking when nothing is left."""
    async with Streams(settings=make_settings(partitions=1)) as one:
        await one.publish(Placed(n=1))
        assert not await redis_client.exists(one.keys.partitions())
        assert await registered(one) == 1
        with pytest.raises(Refused, match=re.escape("streams partitions --set 3")):
            await streams.publish(Placed(n=2))
        assert await repartition(one, N) == 1
    await streams.publish_many(Placed(n=n) for n in range(2, 30))
    handled: list[int] = []
    consumer = await start(processor(handled), partitions=N)
    await settled(streams, 29)
    with pytest.raises(StreamsError, match="stop every process"):
        await repartition(streams, 1)
    await consumer.stop()
    late = await streams.publish(Placed(n=50), key=next(k for k in "abcdefgh" if partition_of(k, N) == 2))
    with pytest.raises(StreamsError, match="partition 2 still holds"):
        await repartition(streams, 2)
    consumer = await start(processor(handled), partitions=N)
    await wait_until(lambda: 50 in handled, message=late.id)
    await settled(streams, 30)
    await consumer.stop()
    assert await repartition(streams, 1) == N
    async with Streams(settings=make_settings(partitions=1)) as one:
        await one.publish(Placed(n=60))


@pytest.mark.parametrize("kinds", [*(LEFT := ("pending", "unread", "waiting", "dead")), " ".join(LEFT)])
async def test_fewer_partitions_are_refused_whatever_is_left(streams: Streams, kinds: str) -> None:
    """Each kind alone, and all of them: nothing of one is set off against another."""
    last = streams.partitions[-1]
    places, keys = last.keys.stream("places"), last.keys
    await last.redis.hset(keys.groups(), "placer", f"{keys.inbox('placer')} {places}")
    await last.redis.xgroup_create(places, "placer", "0", mkstream=True)
    for kind in kinds.split():
        if kind == "waiting":
            key = next(k for k in "abcdefgh" if partition_of(k, N) == N - 1)
            await streams.publish(Placed(n=1), key=key, delay=600)
        elif kind == "dead":
            await last.redis.xadd(keys.dead("placer"), {"type": "Placed", "data": b"{}", "reason": "failed"})
        else:
            await last.redis.xadd(places, {"type": "Placed", "data": b"{}"})
        if kind == "pending":
            await last.redis.xreadgroup("placer", "gone", {places: ">"})
    with pytest.raises(StreamsError, match=rf"partition {N - 1} still holds {len(kinds.split())} "):
        await repartition(streams, N - 1)
    assert await registered(streams) == N


async def test_both_numbers_of_processes_drain(streams: Streams, start: StartConsumer) -> None:
    """SIGTERM's way: what has not started is handed back in its own partition."""
    made = Processor("placer", concurrency=2)
    running = asyncio.Event()

    @made.on(Placed)
    async def handle(event: Placed) -> None:
        running.set()
        await asyncio.sleep(30)

    consumer = await start(made, partitions=N, grace=0.1)
    await streams.publish_many(Placed(n=n) for n in range(30))
    await running.wait()
    await consumer.stop()
    handled: list[int] = []
    await start(processor(handled), partitions=N)
    await wait_until(lambda: sorted(handled) == list(range(30)))
    await settled(streams, 30)


def _position(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))
