"""A consumer and a Redis that misbehaves: restarts, flushed streams, cut replies, trimmed entries, outages."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import redis.asyncio
import structlog
from structlog.testing import capture_logs

from streams import Backoff, Batch, Consumer, CurrentDelivery, Delivery, Processor, Refused, Streams, Unavailable
from streams.consuming import scripts
from streams.messages.message import Carried, Message
from streams.messages.middleware import Deliver, Middleware
from streams.messages.outcome import Outcome
from tests.conftest import RedisFactory
from tests.streams.conftest import MakeSettings, StartConsumer
from tests.streams.consuming.test_consumer import settled
from tests.support.events import Noted, Other
from tests.support.holders import Held
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


@pytest.fixture
def seen() -> list[int]:
    """The numbers the probe has handled."""
    return []


@pytest.fixture
def probe(seen: list[int]) -> Processor:
    """A processor that notes what it handles."""
    processor = Processor("probe")

    @processor.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)

    return processor


async def test_a_flushed_redis_is_recovered_from_at_0(
    streams: Streams, start: StartConsumer, probe: Processor, seen: list[int]
) -> None:
    """FLUSHALL under a running consumer: it says so, makes its groups again at 0, and misses nothing published since,
    not even what made the stream anew.
    """
    await start(probe)
    await streams.publish(Noted(n=1))
    await wait_until(lambda: seen == [1])
    with capture_logs() as logs:
        for round_ in range(2, 7):
            await streams.redis.flushall()
            await streams.publish(Noted(n=round_))
            await wait_until(lambda round_=round_: seen[-1] == round_)  # type: ignore[misc]
        assert any(line["event"] == "stream.reset" for line in logs)
    assert seen == [1, 2, 3, 4, 5, 6]


async def test_a_restarted_redis_is_gone_on_with(
    redis_factory: RedisFactory, make_settings: MakeSettings, start: StartConsumer, probe: Processor, seen: list[int]
) -> None:
    """Kill -9 and a new start: nothing acknowledged is lost, progress within three seconds, a line for each step."""
    server = redis_factory(appendfsync="always")
    async with Streams(settings=make_settings(redis_url=server.url)) as streams:
        await start(probe, redis_url=server.url)
        with capture_logs() as logs:
            for round_ in range(5):
                await streams.publish_many(Noted(n=round_ * 100 + n) for n in range(100))
                server.kill()
                server.start()
                await wait_until(lambda count=(round_ + 1) * 100: len(set(seen)) == count, timeout=3)  # type: ignore[misc]
            assert any(line["event"] == "redis.back" for line in logs)
        assert len(seen) - len(set(seen)) <= 5 * 50
        await wait_until(lambda: settled(streams))


async def test_a_redis_that_is_away_at_start_is_waited_for(
    redis_factory: RedisFactory, make_settings: MakeSettings, probe: Processor, seen: list[int]
) -> None:
    """The consumer comes up by itself; each line is one longer step."""
    server = redis_factory()
    server.kill()
    consumer = Consumer(probe, Streams(settings=make_settings(redis_url=server.url)))
    with capture_logs() as logs:
        starting = asyncio.create_task(consumer.start())
        await wait_until(lambda: len([line for line in logs if line["event"] == "redis.away"]) >= 3)
        server.start()
        await starting
    steps = [line["retry_in"] for line in logs if line["event"] == "redis.away"]
    assert len(steps) < 12
    async with Streams(settings=make_settings(redis_url=server.url)) as streams:
        await streams.publish(Noted(n=1))
        await wait_until(lambda: seen == [1])
    await consumer.stop()


async def test_an_unsafe_redis_is_refused_at_start(
    redis_factory: RedisFactory, make_settings: MakeSettings, probe: Processor
) -> None:
    """Waiting cannot help: it ends with what to set."""
    server = redis_factory(args=["--maxmemory-policy", "allkeys-lru"])
    consumer = Consumer(probe, Streams(settings=make_settings(redis_url=server.url)))
    with pytest.raises(Refused, match="noeviction"):
        await consumer.start()
    await consumer.stop()


async def test_cut_replies_lose_and_repeat_nothing(
    redis_factory: RedisFactory, make_settings: MakeSettings, start: StartConsumer, probe: Processor, seen: list[int]
) -> None:
    """Replies to reads, settlements and renewals are cut 40 times under load: every event handled, none twice, since
    what a lost read delivered is found in our own pending list and a repeated settlement is fenced.
    """
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as proxy:
        async with Streams(settings=make_settings(redis_url=server.url)) as streams:
            await start(probe, redis_url=proxy.url, lease=60.0)  # no reclaim in time to hide a loss
            for round_ in range(40):
                proxy.cut("cut_reply", 1)
                await streams.publish_many(Noted(n=round_ * 10 + n) for n in range(10))
                await wait_until(lambda: proxy.mode == "pass")
            await wait_until(lambda: len(set(seen)) == 400)
            await wait_until(lambda: settled(streams))
            assert proxy.cuts == 40
            assert sorted(seen) == list(range(400))
            assert await streams.redis.xlen(streams.keys.dead("probe")) == 0


@pytest.mark.timeout(90)
async def test_a_redis_that_is_loading_is_waited_for(
    redis_factory: RedisFactory, make_settings: MakeSettings, start: StartConsumer, probe: Processor, seen: list[int]
) -> None:
    """While it loads it answers INFO, and says that its append-only file is off. That is no reason to give up."""
    server = redis_factory(args=["--key-load-delay", "300"])  # microseconds
    async with Streams(settings=make_settings(redis_url=server.url)) as streams:
        async with streams.redis.pipeline(transaction=False) as pipeline:
            for n in range(12_000):  # it looks at its clients after every 1024 of them: often, while it loads
                pipeline.incr("ballast", n)
            await pipeline.execute()
        await streams.publish(Noted(n=1))
        server.kill()
        restarting = asyncio.create_task(asyncio.to_thread(server.start))
        try:
            with capture_logs() as logs:
                await start(probe, redis_url=server.url)
                await wait_until(lambda: seen == [1], timeout=60)
        finally:
            await restarting
        await streams.redis.delete("ballast")
        assert any(line["event"] == "redis.away" and "loading" in line["error"] for line in logs), logs


async def test_a_blackhole_is_left_when_it_heals(
    redis_factory: RedisFactory, make_settings: MakeSettings, start: StartConsumer, probe: Processor, seen: list[int]
) -> None:
    """Both directions swallowed without a reset: reads give up by their own time limit and go on."""
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as proxy:
        async with Streams(settings=make_settings(redis_url=server.url)) as streams:
            await start(probe, redis_url=proxy.url)
            await streams.publish(Noted(n=1))
            await wait_until(lambda: seen == [1])
            proxy.mode = "blackhole"
            await streams.publish(Noted(n=2))
            with capture_logs() as logs:
                await wait_until(lambda: any(line["event"] == "redis.away" for line in logs), timeout=12)
            proxy.mode = "pass"
            await wait_until(lambda: seen == [1, 2], timeout=12)


async def test_what_is_trimmed_while_pending_is_said(
    streams: Streams, start: StartConsumer, make_settings: MakeSettings
) -> None:
    """Somebody's XTRIM destroyed 100 pending entries: 100 are counted and alarmed, and the consumer goes on."""
    await streams.publish_many(Noted(n=n) for n in range(100))
    key = streams.keys.stream("notes")
    await streams.redis.xgroup_create(key, "probe", id="0")
    await streams.redis.xreadgroup("probe", "dead-consumer", {key: ">"}, count=100)
    await streams.redis.xtrim(key, maxlen=0, approximate=False)
    probe = Processor("probe")

    @probe.on(Noted)
    async def note(event: Noted) -> None: ...

    with capture_logs() as logs:
        await start(probe, lease=0.3)
        await wait_until(lambda: sum(l["count"] for l in logs if l["event"] == "delivery.vanished") == 100)  # noqa: E741
    await wait_until(lambda: settled(streams))


async def test_a_consumer_whose_lease_thread_fails_ends(start: StartConsumer, probe: Processor) -> None:
    """By a bug, say. Without its thread it is sure of no lease, so it would begin nothing, and look alive for ever."""
    consumer = await start(probe, lease=0.4)

    def fail(*_: object) -> None:
        raise TypeError("a bug")

    consumer._parts[0].leases._renew = fail  # type: ignore[assignment, method-assign]
    with capture_logs() as logs:
        await wait_until(lambda: consumer.crashed)
    assert isinstance(consumer.crash_reason, TypeError)
    assert any(line["event"] == "consumer.crashed" for line in logs)


async def test_a_blocked_loop_gives_up_what_it_holds_until_it_runs_again(
    streams: Streams, start: StartConsumer
) -> None:
    """A consumer inside another application does not end that one: it tells where its loop stands, and lets others
    have what it holds.
    """
    probe, handled = Processor("probe", concurrency=5), list[int]()

    @probe.on(Noted, timeout=0.2)
    async def handle(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        if event.n == 1 and delivery.deliveries == 1:
            time.sleep(2)  # noqa: ASYNC251 - blocking the loop is the point
        handled.append(event.n)

    await streams.publish_many(Noted(n=n) for n in (1, 2, 3))
    with capture_logs() as logs:
        await start(probe, lease=0.4)
        await wait_until(lambda: {1, 2, 3} <= set(handled))
        await wait_until(lambda: settled(streams))
    (told,) = [line for line in logs if line["event"] == "consumer.blocked"]
    assert told["held"] == 3
    assert any("test_recovery.py" in frame and "handle" in frame for frame in told["where"])


async def test_an_outage_opens_the_breaker_and_fills_no_dead_letters(streams: Streams, start: StartConsumer) -> None:
    """While a dependency is away messages wait; each is handled once it is back, and no attempt is spent."""
    probe = Processor("probe", retry=Backoff(attempts=1))
    away = True
    tried: list[int] = []
    done: list[tuple[int, int]] = []

    @probe.on(Noted)
    async def call(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        tried.append(event.n)
        await asyncio.sleep(0)
        if away:
            raise Unavailable("mail")
        done.append((event.n, delivery.attempt))

    await start(probe)
    with capture_logs() as logs:
        await streams.publish_many(Noted(n=n) for n in range(300))
        await wait_until(lambda: len([line for line in logs if line["event"] == "breaker.still_open"]) >= 2)
        assert len(tried) < 150, "the breaker lets everything through"
        away = False
        await wait_until(lambda: len(done) == 300, timeout=20)
    assert any(line["event"] == "breaker.closed" for line in logs)
    assert {attempt for _, attempt in done} == {1}
    await wait_until(lambda: settled(streams))
    assert await streams.redis.xlen(streams.keys.dead("probe")) == 0


async def test_a_slow_group_does_not_slow_another(streams: Streams, start: StartConsumer) -> None:
    """One group is blocked for good; the other handles 500 events meanwhile."""
    blocked, free = Processor("blocked", concurrency=1), Processor("free")
    gate = asyncio.Event()
    seen: list[int] = []

    @blocked.on(Noted)
    async def hang(event: Noted) -> None:
        await gate.wait()

    @free.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)

    await start(blocked)
    await start(free)
    await streams.publish_many(Noted(n=n) for n in range(500))
    await wait_until(lambda: len(seen) == 500)
    info = await streams.redis.xinfo_groups(streams.keys.stream("notes"))
    assert {group["name"]: group["pending"] for group in info}[b"blocked"] >= 1
    gate.set()


async def test_a_consumer_holds_no_more_than_it_has_room_for(streams: Streams, start: StartConsumer) -> None:
    """1,000 events wait, 5 may run: what is delivered and not settled stays near 5, over several streams."""
    probe = Processor("probe", concurrency=5)
    gate = asyncio.Event()

    @probe.on(Noted)
    async def hang(event: Noted) -> None:
        await gate.wait()

    @probe.on(Other)
    async def hang_too(event: Other) -> None:
        await gate.wait()

    await streams.publish_many(Noted(n=n) for n in range(500))
    await streams.publish_many(Other(n=n) for n in range(500))
    await start(probe)

    async def pending() -> int:
        total = 0
        for stream in ("notes", "others"):
            total += (await streams.redis.xpending(streams.keys.stream(stream), "probe"))["pending"]
        return total

    await wait_until(pending)
    for _ in range(20):
        assert await pending() <= 10
        await asyncio.sleep(0)
    gate.set()
    await wait_until(lambda: settled(streams), timeout=20)


async def test_a_middleware_that_fails_does_not_take_the_message_along(streams: Streams, start: StartConsumer) -> None:
    """Its error is the delivery's failure, with the usual policy."""

    class Broken(Middleware):
        async def deliver(self, delivery: Delivery, call_next: Deliver) -> Outcome:
            if delivery.attempt == 1:
                raise RuntimeError("broken")
            return await call_next(delivery)

    seen: list[int] = []
    probe = Processor("probe", retry=Backoff(attempts=2, first=0.01))

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)

    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    await start(probe, middleware=(Broken(),))
    await streams.publish(Noted(n=1))
    await wait_until(lambda: seen == [1])
    structlog.reset_defaults()


async def test_a_stopped_consumer_leaves_nothing_of_itself(
    streams: Streams, start: StartConsumer, probe: Processor, seen: list[int]
) -> None:
    """Group membership and heartbeat are gone; a killed one's are removed by the others after ten leases."""
    key = streams.keys.stream("notes")
    await streams.publish(Noted(n=1))
    await streams.redis.xgroup_create(key, "probe", id="$")
    await streams.redis.xgroup_createconsumer(key, "probe", "long-dead")
    await streams.redis.zadd(streams.keys.consumers("probe"), {"long-dead": 1})
    await streams.publish(Noted(n=2))
    consumer = await start(probe, lease=0.2)
    await wait_until(lambda: seen == [2])

    async def names() -> list[bytes]:
        return sorted(info["name"] for info in await streams.redis.xinfo_consumers(key, "probe"))

    await wait_until(lambda: _is(names(), [consumer.name.encode()]))
    await consumer.stop()
    assert await names() == []
    assert await streams.redis.zcard(streams.keys.consumers("probe")) == 0


async def _is(value: object, expected: object) -> bool:
    return (await value) == expected  # type: ignore[misc]


async def test_a_steady_load_does_not_keep_the_dead_ones_work_waiting(streams: Streams, start: StartConsumer) -> None:
    """The survivors' hands are always full; what a dead consumer held is taken over in time all the same."""
    key = streams.keys.stream("notes")
    await streams.publish_many(Noted(n=-n) for n in range(1, 11))
    await streams.redis.xgroup_create(key, "probe", id="0")
    await streams.redis.xreadgroup("probe", "dead", {key: ">"}, count=10)
    seen: list[int] = []
    probe = Processor("probe", concurrency=5)

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)
        await asyncio.sleep(0.01)

    await streams.publish_many(Noted(n=n) for n in range(5000))
    await start(probe, lease=0.5)
    await wait_until(lambda: {-n for n in range(1, 11)} <= set(seen), timeout=5)
    assert len(seen) < 4000, "the load was over before: the test is too slow"


async def test_what_is_settled_while_the_own_pending_list_is_read_is_not_run_again(
    streams: Streams, start: StartConsumer
) -> None:
    """Redis' answer still names it, our hands are empty by the time it arrives: it was handled, not missed."""
    probe, gate, seen = Processor("probe"), asyncio.Event(), list[int]()

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)
        await gate.wait()

    consumer = await start(probe)
    await streams.publish_many(Noted(n=n) for n in range(5))
    await wait_until(lambda: len(seen) == 5)
    reader = consumer._parts[0].readers[streams.keys.stream("notes")]
    answer = reader._connection.call
    named: list[int] = []

    async def answer_late(*command: Any, timeout: float | None = None) -> Any:
        reply = await answer(*command, timeout=timeout)
        if command[0] == b"XPENDING" and reply:
            named.append(len(reply))
            gate.set()
            await wait_until(lambda: not consumer._parts[0].leases.held)
        return reply

    reader._connection.call = answer_late  # type: ignore[method-assign]
    reader._unsure = True
    await wait_until(lambda: named == [5])
    await wait_until(lambda: not reader._unsure)
    await streams.publish(Noted(n=5))
    await wait_until(lambda: 5 in seen)
    await wait_until(lambda: settled(streams))
    assert seen == [0, 1, 2, 3, 4, 5]


async def test_what_is_reclaimed_while_the_own_pending_list_is_read_is_not_run_twice(
    streams: Streams, start: StartConsumer
) -> None:
    """It is in Redis' answer and has come into our hands since we looked at them: one handler, not two."""
    probe, gate, seen = Processor("probe"), asyncio.Event(), list[int]()

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)
        await gate.wait()

    key = streams.keys.stream("notes")
    await streams.publish_many(Noted(n=n) for n in range(5))
    await streams.redis.xgroup_create(key, "probe", id="0")
    await streams.redis.xreadgroup("probe", "dead-consumer", {key: ">"}, count=5)
    consumer = await start(probe, lease=0.5)
    reader = consumer._parts[0].readers[key]
    answer = reader._connection.call

    async def answer_late(*command: Any, timeout: float | None = None) -> Any:
        if command[0] == b"XPENDING" and command[1] == key:
            await wait_until(lambda: len(consumer._parts[0].leases.held) == 5)
        return await answer(*command, timeout=timeout)

    reader._connection.call = answer_late  # type: ignore[method-assign]
    reader._unsure = True
    await wait_until(lambda: len(seen) == 5)
    await wait_until(lambda: not reader._unsure)
    assert len(consumer._parts[0].leases.held) == 5
    gate.set()
    await wait_until(lambda: settled(streams))
    assert sorted(seen) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("batch", [None, Batch(size=1, within=1)], ids=["one by one", "a batch"])
@pytest.mark.parametrize("taken_over", [False, True], ids=["still ours", "taken over"])
async def test_nothing_begins_whose_lease_may_be_over(
    streams: Streams, start: StartConsumer, batch: Batch | None, taken_over: bool
) -> None:
    """As after a SIGSTOP: what is held in memory waits for the lease thread to say whose it is."""
    probe, seen, gate = Processor("probe", concurrency=1), list[int](), asyncio.Event()

    @probe.on(Noted, batch=batch)
    async def note(event: Any) -> None:
        seen.append(event[0].n if isinstance(event, list) else event.n)
        await gate.wait()

    consumer = await start(probe, lease=600)
    leases = consumer._parts[0].leases
    await wait_until(lambda: leases._renewed_at, message="the first renewal, and none for minutes")
    await streams.publish(Noted(n=0))
    await wait_until(lambda: seen == [0])
    await streams.publish(Noted(n=1), priority="low")
    (delivery,) = await wait_until(lambda: [held for held in leases.held if not held.deadline])
    looks = list[float]()

    class Looked(float):
        def __lt__(self, other: float) -> bool:
            looks.append(other)
            return float(self) < other

    delivery.begin_by = Looked(0.0)
    gate.set()
    await wait_until(lambda: len(looks) > 1)
    # A renewal that was on its way when this was taken into hand knows nothing of it.
    leases._on_renewed(time.monotonic(), [], set())
    before = len(looks)
    await wait_until(lambda: len(looks) > before + 1, message="what waits for its lease has looked again")
    assert seen == [0]
    leases._on_renewed(time.monotonic(), [] if taken_over else [delivery], {delivery} if taken_over else set())
    await streams.publish(Noted(n=2))
    await wait_until(lambda: 2 in seen)
    assert seen == ([0, 2] if taken_over else [0, 1, 2])


async def test_what_lay_in_the_socket_for_a_lease_is_asked_about_first(
    streams: Streams, start: StartConsumer, redis_client: redis.asyncio.Redis
) -> None:
    """A stopped process is sent what its read waits for, and another takes it over before this one goes on."""
    probe, seen = Processor("probe"), list[int]()

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)

    consumer = await start(probe, lease=0.4)
    key = streams.keys.stream("notes")
    reader = consumer._parts[0].readers[key]
    answer = reader._connection.call
    late: list[bytes] = []

    async def answer_late(*command: Any, timeout: float | None = None) -> Any:
        asked = time.monotonic()
        reply = await answer(*command, timeout=timeout)
        if command[0] == b"XREADGROUP" and reply and not late:
            ((_, ((late_id, _),)),) = reply
            late.append(late_id)
            await redis_client.xclaim(key, "probe", "another", 0, [late_id])
            await wait_until(lambda: time.monotonic() - asked > 0.5)
        return reply

    reader._connection.call = answer_late  # type: ignore[method-assign]
    await streams.publish(Noted(n=1))
    await wait_until(lambda: late)
    await redis_client.xack(key, "probe", late[0])  # the other is done with it
    await streams.publish(Noted(n=2))
    await wait_until(lambda: 2 in seen)
    assert seen == [2]


async def test_a_suspect_that_waits_for_its_turn_is_not_blamed(streams: Streams) -> None:
    """It came back to the inbox with three deaths: read and taken over any number of times, it has three still, and
    one more only when it starts. Without it, what waits beside messages that kill their process dies with them.
    """
    keys, group = streams.keys, "email"
    inbox = keys.inbox(group)
    await streams.redis.xgroup_create(inbox, group, id="0", mkstream=True)
    message = Message.for_event(Noted(n=1), source="/t", target=inbox)
    carried = Carried(f"{keys.stream('notes')} 1-0", failures=1, deliveries=4)
    fields = message.encode_back(carried)
    entry_id = await streams.redis.xadd(inbox, dict(zip(fields[::2], fields[1::2], strict=True)))  # type: ignore[arg-type]
    await streams.redis.xreadgroup(group, "first", {inbox: ">"})

    def held(count: int, *, counted: bool) -> Delivery:
        back = Message.decode(entry_id, fields, came_back=True)
        return Delivery(back, Held(group, "x"), source=inbox, entry_id=entry_id, count=count, counted=counted)

    read = held(1, counted=True)
    assert read.suspected(3)
    assert (read.crashes, read.counted, read.deliveries) == (3, False, 4)
    for consumer in ("second", "third", "fourth"):
        _, _, taken = await scripts.reclaim(
            streams.redis.execute_command, inbox,
            group=group, consumer=consumer, lease_ms=0, cursor=b"0-0", most=10, suspect=3,
        )  # fmt: skip
        ((_, count, counted, _),) = taken
        delivery = held(count, counted=bool(counted))
        assert delivery.suspected(3)
        assert (delivery.crashes, delivery.carried(ran=False).deliveries) == (3, 4)
    assert await scripts.begin(
        streams.redis.execute_command, inbox, group=group, consumer="fourth", entry_id=entry_id, count=count
    )
    _, _, ((_, count, counted, _),) = await scripts.reclaim(
        streams.redis.execute_command, inbox,
        group=group, consumer="fifth", lease_ms=0, cursor=b"0-0", most=10, suspect=3,
    )  # fmt: skip
    delivery = held(count, counted=bool(counted))
    assert delivery.suspected(3)
    assert delivery.crashes == 4
