"""Leases: what begins has enough of its lease left, and renewal against what happens at the same moment."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest
import redis

from streams import Batch, CurrentDelivery, Delivery, Processor, Streams
from streams.consuming import scripts
from streams.consuming.leases import Leases
from streams.messages.message import Message
from streams.redis.partition import Member
from tests.streams.conftest import MakeSettings, StartConsumer
from tests.support.events import Noted
from tests.support.holders import Held
from tests.support.waiting import wait_until

LEASE = 4.0


async def test_a_suspect_that_is_counted_meanwhile_is_not_lost(streams: Streams) -> None:
    """Its renewal is on its way with the count of before: the fence of that one does not hold, and it is ours."""
    await streams.publish(Noted(n=1))
    source, group, consumer = streams.keys.stream(Noted.stream), "probe", "one"
    await streams.redis.xgroup_create(source, group, "0")
    connections = streams.connections
    connection = connections.direct(timeout=5.0)
    reply = await connection.call("XREADGROUP", "GROUP", group, consumer, "STREAMS", source, ">")
    ((_, ((entry_id, fields),)),) = reply
    delivery = Delivery(
        Message.decode(entry_id, fields), Held(group, consumer), source=source, entry_id=entry_id, count=1,
        counted=False,
    )  # fmt: skip
    leases = Leases(Member.of(streams.partitions[0], group, consumer), Held(group, consumer))
    leases.hold([delivery])
    client = connections.blocking()
    assert leases._renew(client, 1.0) == ([delivery], set())
    assert await scripts.begin(connection.call, source, group=group, consumer=consumer, entry_id=entry_id, count=1)
    assert leases._renew(client, 1.0) == ([], set()), "it is counted, and this process has not heard of it"
    delivery.count, delivery.counted = 2, True
    assert leases._renew(client, 1.0) == ([delivery], set())
    delivery.count = 3
    assert leases._renew(client, 1.0) == ([], {delivery})
    client.close()
    await connection.aclose()


@pytest.mark.newest_redis
@pytest.mark.parametrize("share", [0.75, 0.95, 1.3])
async def test_what_begins_has_half_of_its_lease_left(
    streams: Streams, start: StartConsumer, redis_url: str, share: float
) -> None:
    """A handler holds up the event loop while a message lies in the socket, read and not yet taken into hand: its lease
    began with the read, and no renewal has known of it. It waits for one that does.
    """
    probe, idle, source = Processor("probe", concurrency=4), dict[int, float](), streams.keys.stream("notes")
    with redis.Redis.from_url(redis_url) as other:

        @probe.on(Noted)
        async def note(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
            (pending,) = other.xpending_range(source, "probe", delivery.entry_id, delivery.entry_id, 1)
            idle[event.n] = pending["time_since_delivered"] / 1000
            if event.n == 0:
                other.xadd(source, {"type": Noted.type, "data": '{"n": 1}'})
                time.sleep(share * LEASE)  # noqa: ASYNC251 - what is tested

        await start(probe, lease=LEASE)
        await streams.publish(Noted(n=0))
        await wait_until(lambda: 1 in idle, 20)
    assert idle[1] < 0.6 * LEASE


@pytest.mark.newest_redis
@pytest.mark.parametrize("batch", [None, Batch(size=1, within=1)], ids=["one by one", "a batch"])
async def test_nothing_begins_while_nothing_is_renewed(
    streams: Streams, start: StartConsumer, batch: Batch | None
) -> None:
    """As when the thread that renews has no processor, or no connection: what waits in memory does not begin in the
    last half of its lease, in which it would be cut off.
    """
    probe, seen, gate = Processor("probe", concurrency=1), list[object](), asyncio.Event()

    @probe.on(Noted, batch=batch)
    async def note(event: object) -> None:
        seen.append(event)
        await gate.wait()

    consumer = await start(probe, lease=LEASE)
    leases = consumer._parts[0].leases
    await streams.publish(Noted(n=0))
    await streams.publish(Noted(n=1), priority="low")
    await wait_until(lambda: len(seen) == 1 and len(leases.held) == 2)
    leases._stop.set()
    stopped = time.monotonic()
    await wait_until(lambda: time.monotonic() - stopped > 0.6 * LEASE)
    gate.set()
    await wait_until(lambda: time.monotonic() - stopped > 1.2 * LEASE)
    assert len(seen) == 1


async def test_a_redis_that_is_away_is_asked_less_and_less_often(make_settings: MakeSettings) -> None:
    """Every consumer of every process asks: no more than once a second from the third time on."""
    asked: list[float] = []

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(time.monotonic())
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        away = Streams(settings=make_settings(redis_url=f"redis://127.0.0.1:{port}", lease=30.0))
        leases = Leases(Member.of(away.partitions[0], "probe", "one"), Held("probe", "one"))
        leases.start()
        await wait_until(lambda: len(asked) >= 6, 20)
        await leases.stop()
    pauses = [after - before for before, after in pairwise(asked)]
    assert 0.2 < pauses[0] < pauses[1] < pauses[2]
    assert all(pause > 0.9 for pause in pauses[2:])


@pytest.mark.newest_redis
async def test_leases_are_renewed_four_times_in_each(make_settings: MakeSettings) -> None:
    """More often would be load on Redis from every consumer that does nothing; less often would lose some."""
    async with Streams(settings=make_settings(lease=4.0)) as streams:
        beats: list[float] = []
        leases = Leases(Member.of(streams.partitions[0], "probe", "one"), Held("probe", "one"))
        key = streams.keys.consumers("probe")
        leases.start()
        deadline = time.monotonic() + 3.4
        while time.monotonic() < deadline:
            beat = await streams.redis.zscore(key, "one")
            if beat is not None and beat not in beats:
                beats.append(beat)
            await asyncio.sleep(0.02)
        assert leases.fresh()
        await leases.stop()
        between = [later - earlier for earlier, later in pairwise(beats)]
        assert len(beats) in (3, 4), "at once, and then each second"
        assert min(between) > 800
        await streams.redis.delete(key)


@pytest.mark.newest_redis
async def test_what_a_thread_still_does_is_renewed_after_the_stop_at_the_usual_pace(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other consumer may begin it while this process lives; and Redis is not asked without a pause."""
    renewals: list[float] = []
    async with Streams(settings=make_settings(lease=4.0)) as streams:
        held = Held("probe", "one")
        leases = Leases(Member.of(streams.partitions[0], "probe", "one"), held)
        renew = leases._renew

        def counted(client: redis.Redis, now: float) -> tuple[list[Delivery], set[Delivery]]:
            renewals.append(now)
            return renew(client, now)

        monkeypatch.setattr(leases, "_renew", counted)
        message = Message.for_event(Noted(n=1), source="/t", target="t")
        delivery = Delivery(message, held, source=streams.keys.stream("notes"), entry_id=b"1-0", count=1)
        delivery.thread = 7
        leases.hold([delivery])
        leases.start()
        await wait_until(lambda: renewals)
        await leases.stop()
        before = len(renewals)
        await wait_until(lambda: len(renewals) >= before + 4)
        assert all(later - earlier > 0.2 for earlier, later in pairwise(renewals[before:]))
        leases.drop([delivery])
        await wait_until(lambda: leases._thread is None or not leases._thread.is_alive())
        await streams.redis.delete(streams.keys.consumers("probe"))
