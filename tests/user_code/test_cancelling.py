"""Handlers that cancel: themselves, later, others. A slot and a loop of the engine belong to the engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from streams import (
    Backoff,
    Batch,
    Consumer,
    CurrentDelivery,
    CurrentStreams,
    Delivery,
    Depends,
    Event,
    Processor,
    Settings,
    Streams,
)
from streams.testing import Harness
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


class Viewed(Event, stream="views", version=1):
    """A page has been viewed."""

    n: int


Odd = Callable[[], Awaitable[None]]


async def cancel_and_go_on() -> None:
    """The cancel is never delivered here: the handler has ended before it waits for anything."""
    current().cancel()


async def cancel_and_wait() -> None:
    """The cancel goes through the handler."""
    current().cancel()
    await asyncio.sleep(0)


async def swallow() -> None:
    """A timeout written by hand that leaves the request behind (`cancelling() == 1`)."""
    current().cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(1)


async def swallow_three() -> None:
    """Three requests that are left behind."""
    for _ in range(3):
        await swallow()


async def old_timeout() -> None:
    """What async-timeout 4.0.2 does on Python 3.13: its timer cancels the task, and takes no request back."""
    loop = asyncio.get_running_loop()
    timer = loop.call_later(0.001, current().cancel)
    try:
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        timer.cancel()


async def forget_a_timer() -> None:
    """A timeout written by hand that is not taken back: it comes when the handler has ended long ago."""
    asyncio.get_running_loop().call_later(0.03, current().cancel)


async def forget_a_task() -> None:
    """The same by a task that outlives the handler."""
    task = current()

    async def watch() -> None:
        await asyncio.sleep(0.03)
        task.cancel()

    KEPT.add(asyncio.ensure_future(watch()))


async def forget_a_thread() -> None:
    """The same by a thread."""
    task, loop = current(), asyncio.get_running_loop()

    def cancel() -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(loop.call_later, 0.02, task.cancel)

    await loop.run_in_executor(None, cancel)


async def forget_many() -> None:
    """One cancel after the other, for a while."""
    loop, task = asyncio.get_running_loop(), current()
    for n in range(10):
        loop.call_later(0.005 * n, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0.012)


async def failing_group() -> None:
    """Children that fail cancel the task that waits for them."""
    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(asyncio.sleep(1))


async def cancelled_group() -> None:
    """A group whose parent is cancelled by a child."""
    parent = current()

    async def child() -> None:
        parent.cancel()

    with contextlib.suppress(asyncio.CancelledError):
        async with asyncio.TaskGroup() as group:
            group.create_task(child())


async def timeouts() -> None:
    """Timeouts within timeouts, all of them used properly."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1), asyncio.timeout(0.001):
            await asyncio.sleep(1)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.sleep(1), 0.001)


async def await_a_cancelled_one() -> None:
    """What it waits for is cancelled, and it lets that through."""
    other = asyncio.ensure_future(asyncio.sleep(1))
    asyncio.get_running_loop().call_soon(other.cancel)
    await other


async def fail() -> None:
    """A child that fails."""
    raise ValueError("no")


def current() -> asyncio.Task[Any]:
    """The task that a handler runs in."""
    task = asyncio.current_task()
    assert task is not None
    return task


KEPT: set[Any] = set()
ODD: list[Odd] = [
    cancel_and_go_on, cancel_and_wait, swallow, swallow_three, old_timeout, forget_a_timer, forget_a_task,
    forget_a_thread, forget_many, failing_group, cancelled_group, timeouts, await_a_cancelled_one,
]  # fmt: skip
ends_by_itself = {cancel_and_wait, await_a_cancelled_one}  # with CancelledError: such a handler has failed


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.__name__)
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_cancel_of_a_handler_ends_no_slot_and_hits_no_other_delivery(
    streams: Streams, start: StartConsumer, odd: Odd, concurrency: int
) -> None:
    """Every third of 30 events is handled by a handler that cancels; the others wait a little, and use timeouts and
    groups. Each of those runs once to its end, all that is odd is settled, and the slots are all there afterwards.
    """
    probe = Processor("probe", concurrency=concurrency, retry=Backoff(attempts=2, first=0.01))
    ended: Counter[int] = Counter()
    begun: Counter[int] = Counter()

    @probe.on(Viewed)
    async def view(event: Viewed) -> None:
        begun[event.n] += 1
        if event.n % 3 == 0:
            await odd()
        else:
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0.01))
            await asyncio.sleep(0.005)
        ended[event.n] += 1

    consumer = await start(probe)
    await streams.publish_many(Viewed(n=n) for n in range(30))

    await all_settled(streams)
    innocent = {n: 1 for n in range(30) if n % 3}
    assert {n: begun[n] for n in innocent} == innocent, "an innocent delivery was cut off"
    assert {n: ended[n] for n in innocent} == innocent
    letters = [letter async for letter in streams.dead_letters("probe").ls()]
    if odd in ends_by_itself:
        assert len(letters) == 10
        assert {letter.error.partition(":")[0] for letter in letters} == {"HandlerCancelled"}
        assert all("cancelled" in letter.error for letter in letters)
    elif odd is not forget_many:  # that may hit itself
        assert not letters
    await lives(streams, consumer, concurrency, begun)


async def all_settled(streams: Streams) -> None:
    """Returns when the group has nothing to read, to settle or to wait for."""

    async def over() -> bool:
        for _ in range(2):  # what goes from one place to the other between two looks is in neither
            groups = (await streams.snapshot()).groups
            if not groups or any(group.lag or group.pending or group.waiting for group in groups):
                return False
        return True

    await wait_until(over, 20)


async def lives(streams: Streams, consumer: Consumer, concurrency: int, begun: Counter[int]) -> None:
    """The slots of a consumer are all there and free, and it goes on."""
    slots = consumer._pool
    await wait_until(lambda: not slots.running)
    await wait_until(lambda: all(slot.task is not None and not slot.task.done() for slot in slots._tasks))
    assert len(slots._tasks) == concurrency
    assert not consumer.crashed
    await streams.publish_many(Viewed(n=1000 + 3 * n + 1) for n in range(5))
    await wait_until(lambda: all(begun[1000 + 3 * n + 1] for n in range(5)))


async def test_a_timer_that_comes_while_the_slot_is_idle(streams: Streams, start: StartConsumer) -> None:
    """It finds nothing to cancel any more."""
    probe = Processor("probe", concurrency=1)
    begun: Counter[int] = Counter()
    fired = asyncio.Event()

    @probe.on(Viewed)
    async def view(event: Viewed) -> None:
        begun[event.n] += 1
        if event.n == 0:
            task = current()
            asyncio.get_running_loop().call_later(0.05, lambda: (task.cancel(), fired.set()))

    consumer = await start(probe)
    await streams.publish(Viewed(n=0))
    await fired.wait()
    await lives(streams, consumer, 1, begun)


async def test_code_that_cancels_the_task_of_another_delivery(streams: Streams, start: StartConsumer) -> None:
    """As a plugin may that looks for tasks by name: the delivery that is hit has failed once, with a reason that says
    so, and its slot goes on.
    """
    probe = Processor("probe", concurrency=1, retry=Backoff(attempts=2, first=0.01))
    begun: Counter[int] = Counter()

    @probe.on(Viewed)
    async def view(event: Viewed) -> None:
        begun[event.n] += 1
        if event.n == 1 and begun[1] == 1:
            await asyncio.sleep(30)

    consumer = await start(probe)
    receipt = await streams.publish(Viewed(n=1))
    await wait_until(lambda: begun[1] == 1)
    for task in asyncio.all_tasks():
        if task.get_name() == "slot":
            task.cancel()

    await wait_until(lambda: begun[1] == 2)
    await all_settled(streams)
    (trail,) = (await streams.event(receipt.id)).groups
    assert trail.state == "acked"
    assert "the task of the handler was cancelled" in trail.history[0]["error"]
    await lives(streams, consumer, 1, begun)


async def test_the_task_of_a_slot_is_kept_while_nothing_can_cancel_it(streams: Streams, start: StartConsumer) -> None:
    """A new task for each delivery would cost a quarter of the rate: plain handlers, timeouts and failures need none.
    (A group that failed does, on Python 3.11: it is in a cycle until the collector comes).
    """
    probe = Processor("probe", concurrency=1, retry=Backoff(attempts=1))
    tasks: list[int] = []
    harmless: list[Odd] = [partial(asyncio.sleep, 0), partial(asyncio.sleep, 0.001), timeouts, fail]

    @probe.on(Viewed)
    async def view(event: Viewed) -> None:
        tasks.append(id(current()))
        await harmless[event.n % len(harmless)]()

    await start(probe)
    await streams.publish_many(Viewed(n=n) for n in range(50))
    await wait_until(lambda: len(tasks) == 50)
    print(f"{len(set(tasks))} tasks for 50 deliveries")
    assert len(set(tasks)) <= 3


async def test_a_batch_handler_that_cancels(streams: Streams, start: StartConsumer) -> None:
    """The same for batches: each of the events is handled, alone if its batch was cut off."""
    probe = Processor("probe", concurrency=2, retry=Backoff(attempts=3, first=0.01))
    done: Counter[int] = Counter()
    calls = 0

    @probe.on(Viewed, batch=Batch(size=5, within=0.05))
    async def view(events: list[Viewed]) -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            await ODD[calls // 2 % len(ODD)]()
        done.update(event.n for event in events)

    consumer = await start(probe)
    for wave in range(8):
        await streams.publish_many(Viewed(n=10 * wave + n) for n in range(10))
        await all_settled(streams)
    assert set(done) == set(range(80))
    await wait_until(lambda: not consumer._pool.running)
    assert not consumer.crashed


async def test_a_dependency_that_cancels(streams: Streams, start: StartConsumer) -> None:
    """What a dependency does is what a handler does."""
    probe = Processor("probe", concurrency=1, retry=Backoff(attempts=1))
    begun: Counter[int] = Counter()

    @contextlib.asynccontextmanager
    async def session() -> Any:
        yield 1
        await forget_a_timer()
        await swallow()

    @probe.on(Viewed)
    async def view(event: Viewed, value: int = Depends(session)) -> None:
        begun[event.n] += value
        await asyncio.sleep(0.02)

    consumer = await start(probe)
    await streams.publish_many(Viewed(n=n) for n in range(10))
    await all_settled(streams)
    assert begun == Counter(range(10))
    assert not [letter async for letter in streams.dead_letters("probe").ls()]
    await lives(streams, consumer, 1, begun)


async def test_the_engine_still_interrupts_after_such_handlers(streams: Streams, start: StartConsumer) -> None:
    """A timeout and a cancel by an operator reach the handler they are meant for, on slots that have seen a lot."""
    probe = Processor("probe", concurrency=1, retry=Backoff(attempts=1), timeout=0.3)
    begun: list[int] = []
    cut_off: list[int] = []

    @probe.on(Viewed)
    async def view(event: Viewed) -> None:
        begun.append(event.n)
        if event.n < len(ODD):
            await ODD[event.n]()
        else:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cut_off.append(event.n)
                raise

    await start(probe)
    await streams.publish_many(Viewed(n=n) for n in range(len(ODD)))
    await all_settled(streams)
    slow = await streams.publish(Viewed(n=100))
    await all_settled(streams)
    (trail,) = (await streams.event(slow.id)).groups
    assert trail.error == "HandlerTimeout: the handler took longer than 0.3 s"

    unwanted = await streams.publish(Viewed(n=101))
    await wait_until(lambda: 101 in begun)
    await streams.cancel(unwanted.id)
    await all_settled(streams)
    (trail,) = (await streams.event(unwanted.id)).groups
    assert trail.state == "cancelled"
    assert cut_off == [100, 101]


async def test_a_schedule_function_that_cancels(streams: Streams, start: StartConsumer) -> None:
    """Its slots are published all the same: every function has a task of its own."""
    probe = Processor("probe")
    handled: list[int] = []
    calls = 0

    @probe.every(0.2)
    async def tick() -> Viewed:
        nonlocal calls
        calls += 1
        await [forget_a_timer, swallow, cancel_and_go_on][calls % 3]()
        return Viewed(n=calls)

    @probe.on(Viewed)
    async def view(event: Viewed) -> None:
        handled.append(event.n)

    consumer = await start(probe)
    await wait_until(lambda: len(handled) >= 6, 20)
    assert not consumer.crashed


@pytest.mark.parametrize("name", ["Reader.run", "Settlement.run", "Leases.run", "Mover.run", "Reclaimer.run",
                                  "ControlListener.run", "Maintenance.run", "Scheduler.run", "Limiter.ask",
                                  "Limiter.serve", "deadlines", "slot", "what handlers share"])  # fmt: skip
async def test_a_task_of_the_engine_that_is_cancelled_is_a_crash_that_says_so(
    streams: Streams, start: StartConsumer, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever it is: a consumer without it would stand still in silence."""
    from streams import Limit

    probe = Processor("probe")

    @probe.on(Viewed, limit=Limit(rate=100))
    async def view(event: Viewed) -> None: ...

    @probe.every(60)
    async def tick() -> None: ...

    consumer = await start(probe)
    task = next(task for task in asyncio.all_tasks() if task.get_name() == name)

    def cancelled() -> bool:
        task.cancel()  # again: on Python 3.11 `asyncio.wait_for`, in which redis-py sends, may lose one
        return consumer.crashed

    await wait_until(cancelled)
    assert str(consumer.crash_reason) == (
        f"the consumer of probe cannot go on: its task {name} was cancelled by other code of this process"
    )
    assert "consumer.crashed" in capsys.readouterr().out


async def test_a_consumer_that_is_stopped_does_not_crash(streams: Streams, start: StartConsumer) -> None:
    """The end of its tasks is what is wanted then."""
    probe = Processor("probe")

    @probe.on(Viewed)
    async def view(event: Viewed) -> None:
        await ODD[event.n % len(ODD)]()

    consumer = await start(probe)
    await streams.publish_many(Viewed(n=n) for n in range(30))
    await consumer.stop()
    assert not consumer.crashed


async def test_the_harness_is_no_different() -> None:
    """A test with a harness sees what a consumer does."""
    probe = Processor("probe", retry=Backoff(attempts=1), concurrency=2)
    begun: Counter[int] = Counter()

    @probe.on(Viewed)
    async def view(event: Viewed, delivery: Delivery = CurrentDelivery(), streams: Streams = CurrentStreams()) -> None:
        begun[event.n] += 1
        if event.n % 2:
            await ODD[event.n // 2]()
        else:
            await asyncio.sleep(0.002)

    async with Harness(probe, settings=Settings(accept_risk=frozenset({"no-aof"}))) as streams:
        for n in range(2 * len(ODD)):
            await streams.publish(Viewed(n=n))
        await streams.run()
        assert begun == Counter(range(2 * len(ODD)))
        failed = {2 * ODD.index(odd) + 1 for odd in ends_by_itself}
        letters = [letter async for letter in streams.dead_letters("probe").ls()]
        assert failed <= {Viewed.decode(letter.message.data, 1).n for letter in letters}
        await streams.publish(Viewed(n=1000))
        await streams.run()
        assert begun[1000] == 1
