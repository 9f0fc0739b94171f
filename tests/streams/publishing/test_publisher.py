"""Publishing: once, in order, many callers in one call, and clear errors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from streams import Processor, PublishUncertain, Refused, Streams, StreamsError, TooLarge, Unreachable
from streams.messages.message import FIELDS, Message
from streams.publishing.router import Router
from tests.conftest import RedisFactory
from tests.streams.conftest import MakeSettings, StartConsumer
from tests.support.events import Noted
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


async def numbers(streams: Streams, lane: str = "normal") -> list[int]:
    """The `n` of everything in the notes stream, in order."""
    found = await streams.redis.xrange(streams.keys.stream("notes", lane))  # type: ignore[arg-type]
    return [Noted.decode(fields[b"data"], 1).n for _, fields in found]


async def test_a_receipt_says_where_the_event_is(streams: Streams) -> None:
    """The entry has the documented fields in the documented order."""
    receipt = await streams.publish(Noted(n=1), key="k")
    assert (receipt.stream, receipt.partition) == ("notes", streams.keys.partition)
    ((_, fields),) = await streams.redis.xrange(streams.keys.stream("notes"))
    assert list(fields) == FIELDS
    assert fields[b"id"] == receipt.id.encode()
    assert fields[b"type"] == b"Noted"
    assert fields[b"dataversion"] == b"1"
    assert fields[b"partitionkey"] == b"k"
    assert fields[b"data"] == b'{"n":1,"text":""}'


async def test_publishing_keeps_the_order_of_each_caller(streams: Streams) -> None:
    """50 callers at once are sent together, and each one's events are in its order."""

    async def caller(number: int) -> None:
        for step in range(20):
            await streams.publish(Noted(n=number * 100 + step))

    await asyncio.gather(*(caller(number) for number in range(50)))
    found = await numbers(streams)
    assert len(found) == len(set(found)) == 1000
    for number in range(50):
        own = [n for n in found if n // 100 == number]
        assert own == sorted(own)


async def test_publish_many_is_in_order_and_more_than_one_batch(streams: Streams) -> None:
    """1,203 events in three calls, receipts in the same order."""
    receipts = await streams.publish_many(Noted(n=n) for n in range(1203))
    assert await numbers(streams) == list(range(1203))
    entries = await streams.redis.xrange(streams.keys.stream("notes"))
    assert [fields[b"id"].decode() for _, fields in entries] == [receipt.id for receipt in receipts]


@pytest.mark.parametrize("fails_at", [0, 1, 2])
async def test_an_error_has_the_receipts_of_what_is_in(streams: Streams, fails_at: int) -> None:
    """Of all the full batches before the one that failed, not of the last one only."""
    sizes: list[int] = []

    async def publish(messages: Sequence[Message]) -> None:
        if len(sizes) == fails_at:
            raise StreamsError("no")
        sizes.append(len(messages))

    messages = [("notes", streams.message(Noted(n=n))) for n in range(1203)]
    with pytest.raises(StreamsError, match="no") as caught:
        await Router(streams.partitions[:1]).add_many(messages, publish)
    assert sizes == [500] * fails_at
    assert [one.id for one in caught.value.published] == [message.id for _, message in messages[: 500 * fails_at]]


async def test_a_cut_reply_does_not_publish_twice(redis_factory: RedisFactory, make_settings: MakeSettings) -> None:
    """Redis ran the command, the reply was lost: the publisher asks again and the event is there once. 200 times."""
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as proxy:
        async with Streams(settings=make_settings(redis_url=proxy.url)) as streams:
            await streams.publish(Noted(n=-1))
            for n in range(200):
                proxy.cut("cut_reply", 1)
                await streams.publish(Noted(n=n))
            assert proxy.cuts == 200
            proxy.mode = "pass"
            assert await numbers(streams) == list(range(-1, 200))


async def test_a_cut_request_is_sent_again(redis_factory: RedisFactory, make_settings: MakeSettings) -> None:
    """The connection went before Redis saw the command."""
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as proxy:
        async with Streams(settings=make_settings(redis_url=proxy.url)) as streams:
            await streams.publish(Noted(n=-1))
            for n in range(20):
                proxy.cut("cut_request", 1)
                await streams.publish(Noted(n=n))
            proxy.mode = "pass"
            assert await numbers(streams) == list(range(-1, 20))


async def test_a_cancelled_caller_does_not_take_the_others_along(streams: Streams) -> None:
    """The first caller of a batch is cancelled on its way: every event is published once, and publishing goes on."""
    await streams.publish(Noted(n=-1))
    for round_ in range(50):
        tasks = [asyncio.create_task(streams.publish(Noted(n=round_ * 10 + n))) for n in range(5)]
        await asyncio.sleep(0)
        tasks[round_ % 5].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await streams.publish(Noted(n=-2))
    found = await numbers(streams)
    assert len(found) == len(set(found))
    assert set(found) >= {round_ * 10 + n for round_ in range(50) for n in range(5) if n != round_ % 5}


async def test_a_client_that_is_closed_sees_its_publishes_through(
    redis_factory: RedisFactory, make_settings: MakeSettings
) -> None:
    """Somebody closes it while others publish: their events arrive, they are told so, and no connection stays open."""
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as proxy:
        streams = Streams(settings=make_settings(redis_url=proxy.url))
        await streams.publish(Noted(n=-1))
        proxy.mode = "blackhole"
        publishes = [asyncio.create_task(streams.publish(Noted(n=n))) for n in range(3)]
        await asyncio.sleep(0)  # the first one is on its way, the others wait for it
        closing = asyncio.create_task(streams.aclose())
        await asyncio.sleep(0.05)
        assert not closing.done()
        proxy.mode = "pass"
        receipts = await asyncio.gather(*publishes)
        await closing
        assert len({receipt.id for receipt in receipts}) == 3
        async with Streams(settings=make_settings(redis_url=server.url)) as another:
            assert await numbers(another) == [-1, 0, 1, 2]
            assert {client["addr"] for client in await another.redis.client_list()} == {
                (await another.redis.client_info())["addr"]
            }


async def test_a_redis_that_is_away_is_said_so(redis_factory: RedisFactory, make_settings: MakeSettings) -> None:
    """Nothing was sent: `Unreachable`. Something may have been: `PublishUncertain`. Back again: it goes on."""
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as proxy:
        async with Streams(settings=make_settings(redis_url=proxy.url, publish_timeout=0.5)) as streams:
            proxy.mode = "refuse"
            with pytest.raises(Unreachable, match="cannot be reached"):
                await streams.publish(Noted(n=1))
            proxy.mode = "pass"
            await streams.publish(Noted(n=2))
            proxy.mode = "blackhole"
            with pytest.raises(PublishUncertain, match="not known whether"):
                await streams.publish(Noted(n=3))
            proxy.mode = "pass"
            await streams.publish(Noted(n=4))
            assert [n for n in await numbers(streams) if n != 3] == [2, 4]


async def test_a_full_redis_refuses_publishers_but_not_consumers(
    redis_factory: RedisFactory, make_settings: MakeSettings, start: StartConsumer
) -> None:
    """Under noeviction a full server says so; what is in it is still handled and settled."""
    server = redis_factory()
    seen: list[int] = []
    probe = Processor("probe")

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)

    async with Streams(settings=make_settings(redis_url=server.url)) as streams:
        await streams.publish_many(Noted(n=n) for n in range(100))
        server.cli("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(StreamsError, match="is full"):
            await streams.publish(Noted(n=1000))
        server.cli("CONFIG", "SET", "maxmemory", "0")
        await start(probe, redis_url=server.url)
        server.cli("CONFIG", "SET", "maxmemory", "1mb")
        await wait_until(lambda: len(seen) == 100)
        server.cli("CONFIG", "SET", "maxmemory", "0")
        await streams.publish(Noted(n=1001))
        await wait_until(lambda: seen[-1] == 1001)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"delay": -1}, "between 0 and ten years"),
        ({"delay": float("nan")}, "between 0 and ten years"),
        ({"at": datetime(2030, 1, 1)}, "no time zone"),  # noqa: DTZ001 - that is the error
        ({"at": datetime.now(UTC) - timedelta(days=1)}, "in the past"),
        ({"delay": 1, "at": datetime.now(UTC)}, "not both"),
        ({"key": "k" * 201}, "longer than 200 bytes"),
    ],
)
async def test_wrong_arguments_are_refused(streams: Streams, arguments: dict[str, object], said: str) -> None:
    """Before anything is sent."""
    with pytest.raises(StreamsError, match=said):
        await streams.publish(Noted(n=1), **arguments)  # type: ignore[arg-type]
    assert await streams.redis.exists(streams.keys.stream("notes")) == 0


async def test_an_event_over_the_cap_is_refused(streams: Streams) -> None:
    """256 KiB; the message says what to do instead."""
    with pytest.raises(TooLarge, match="publish a reference"):
        await streams.publish(Noted(n=1, text="x" * (256 * 1024)))
    await streams.publish(Noted(n=1, text="x" * (255 * 1024)))


async def test_a_delayed_event_waits_and_is_never_early(streams: Streams, start: StartConsumer) -> None:
    """It waits in the due set, survives without any process, and is delivered when it is due."""
    probe = Processor("probe")
    seen: list[float] = []

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(asyncio.get_running_loop().time())

    began = asyncio.get_running_loop().time()
    await streams.publish(Noted(n=1), delay=0.4)
    assert await streams.redis.zcard(streams.keys.due()) == 1
    assert await streams.redis.exists(streams.keys.stream("notes")) == 0
    await start(probe)
    await wait_until(lambda: seen)
    assert 0.4 <= seen[0] - began < 3
    assert await streams.redis.exists(streams.keys.due(), streams.keys.waiting()) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"args": ["--maxmemory-policy", "allkeys-lru"]}, "evicts whole streams .* set `maxmemory-policy noeviction`"),
        ({"args": ["--appendonly", "no"]}, "append-only file is off.* set `appendonly yes`"),
        ({"password": "right"}, "refuses the login; set REDIS_PASSWORD"),
    ],
)
async def test_an_unsafe_redis_is_refused(
    redis_factory: RedisFactory, make_settings: MakeSettings, options: dict[str, object], said: str
) -> None:
    """Before the first event is in it, with what to set; the operator may accept the risk."""
    server = redis_factory(**options)
    url = server.url.replace(":right@", ":wrong@")
    async with Streams(settings=make_settings(redis_url=url)) as streams:
        with pytest.raises(Refused, match=said) as refused:
            await streams.publish(Noted(n=1))
        assert "wrong" not in str(refused.value)
    if not server.password:
        settings = make_settings(redis_url=url, accept_risk=frozenset({"eviction", "no-aof"}))
        async with Streams(settings=settings) as streams:
            await streams.publish(Noted(n=1))


async def test_once_publishes_one_event_under_a_name(streams: Streams) -> None:
    """However many callers, one event; the later receipts are the first one's. Another name is another event."""
    receipts = await asyncio.gather(*(streams.publish(Noted(n=n), once="order-7:paid") for n in range(20)))
    assert len({receipt.id for receipt in receipts}) == 1
    await streams.publish(Noted(n=100), once="order-8:paid")
    assert len(await numbers(streams)) == 2
    delayed = await streams.publish(Noted(n=101), once="order-9:paid", delay=60)
    assert (await streams.publish(Noted(n=102), once="order-9:paid", delay=60)).id == delayed.id
    assert await streams.redis.zcard(streams.keys.due()) == 1


async def test_once_holds_when_the_reply_is_cut(redis_factory: RedisFactory, make_settings: MakeSettings) -> None:
    """The repetition of a batch does not take its own names for taken."""
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as proxy:
        async with Streams(settings=make_settings(redis_url=proxy.url)) as streams:
            first = await streams.publish(Noted(n=0), once="a")
            proxy.cut("cut_reply", 1)
            second = await streams.publish(Noted(n=1), once="b")
            proxy.cut("cut_reply", 1)
            third = await streams.publish(Noted(n=2), once="a")
            assert (first.id, await numbers(streams)) == (third.id, [0, 1])
            assert second.id != first.id
