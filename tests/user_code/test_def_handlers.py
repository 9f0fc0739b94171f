"""Plain `def` handlers: threads of their own, places that are kept until a thread has ended, ordinary failures."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from streams import (
    Backoff,
    Batch,
    CurrentDelivery,
    DeadLetter,
    Delivery,
    Depends,
    Event,
    Limit,
    Processor,
    Snooze,
    Streams,
)
from streams.testing import Harness
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until
from tests.user_code.test_cancelling import all_settled


class Scanned(Event, stream="scans", version=1):
    """A document has been scanned."""

    n: int


class Overlap:
    """How many run at once, by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[Any] = Counter()
        self.most: Counter[Any] = Counter()
        self.begun: list[Any] = []

    def during(self, key: Any, seconds: float) -> None:
        """Takes that long, in a thread."""
        with self._lock:
            self._running[key] += 1
            self.most[key] = max(self.most[key], self._running[key])
            self.begun.append(key)
        time.sleep(seconds)
        with self._lock:
            self._running[key] -= 1


async def dead(streams: Streams) -> list[str]:
    """The errors of the dead letters."""
    return [letter.error async for letter in streams.dead_letters("probe").ls()]


@pytest.mark.newest_redis
@pytest.mark.parametrize(
    ("count", "concurrency", "seconds", "timeout", "at_once"), [(48, 24, 0.8, 2.5, 24), (50, 50, 1.0, 3.0, 50)]
)
async def test_as_many_threads_as_concurrency(
    streams: Streams, start: StartConsumer, count: int, concurrency: int, seconds: float, timeout: float, at_once: int
) -> None:
    """None waits for a thread while its timeout runs: all succeed at the first attempt."""
    probe = Processor("probe", concurrency=concurrency, retry=Backoff(attempts=2, first=0.05))
    overlap, attempts = Overlap(), []

    @probe.on(Scanned, timeout=timeout)
    def scan(event: Scanned, delivery: Delivery = CurrentDelivery()) -> None:
        attempts.append(delivery.attempt)
        overlap.during("any", seconds)

    await start(probe, lease=5.0)
    began = time.monotonic()
    await streams.publish_many(Scanned(n=n) for n in range(count))
    await all_settled(streams)
    print(f"{count} of {seconds} s at {concurrency}: {overlap.most['any']} at once, {time.monotonic() - began:.1f} s")
    assert overlap.most["any"] == at_once
    assert attempts == [1] * count
    assert not await dead(streams)


@pytest.mark.newest_redis
async def test_a_limit_holds_over_handlers_that_take_too_long(streams: Streams, start: StartConsumer) -> None:
    """Twice the timeout, two consumers: never two at once. What a thread has finished is done, and not repeated."""
    overlap = Overlap()
    for _ in range(2):
        probe = Processor("probe", concurrency=4, retry=Backoff(attempts=3, first=0.01))

        @probe.on(Scanned, timeout=0.3, limit=Limit(concurrency=1))
        def scan(event: Scanned) -> None:
            overlap.during("any", 1.2)

        await start(probe, lease=0.4)
    await streams.publish_many(Scanned(n=n) for n in range(4))
    await all_settled(streams)
    assert overlap.most["any"] == 1
    assert len(overlap.begun) == 4
    assert not await dead(streams)


@pytest.mark.newest_redis
async def test_the_order_of_a_key_holds_over_handlers_that_take_too_long(
    streams: Streams, start: StartConsumer
) -> None:
    """One message of a key at a time, in its order, also when the first attempt fails after its timeout."""
    overlap, order = Overlap(), list[tuple[int, int]]()
    for _ in range(2):
        probe = Processor("probe", concurrency=4, ordered=True, retry=Backoff(attempts=2, first=0.01))

        @probe.on(Scanned, timeout=0.2)
        def scan(event: Scanned, delivery: Delivery = CurrentDelivery()) -> None:
            order.append((event.n, delivery.attempt))
            overlap.during(event.n % 2, 0.7)
            if event.n < 2 and delivery.attempt == 1:
                raise ValueError("unreadable")

        await start(probe, lease=0.4)
    for n in range(6):
        await streams.publish(Scanned(n=n), key=f"shelf-{n % 2}")
    await all_settled(streams)
    assert overlap.most == {0: 1, 1: 1}
    assert [entry for entry in order if entry[0] % 2 == 0] == [(0, 1), (0, 2), (2, 1), (4, 1)]
    assert [entry for entry in order if entry[0] % 2 == 1] == [(1, 1), (1, 2), (3, 1), (5, 1)]


@pytest.mark.parametrize("batch", [False, True], ids=["one", "batch"])
async def test_no_consumer_takes_over_what_a_thread_still_does(
    streams: Streams, start: StartConsumer, batch: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over its timeout for five leases, beside an idle consumer: the lease is renewed, the slot is kept, the log says
    where the thread is, and `why` that it cannot be interrupted.
    """
    consumers, gate = list[str](), threading.Event()
    for name in ("first", "second"):
        probe = Processor("probe", concurrency=2, retry=Backoff(attempts=1))

        def work(name: str) -> None:
            consumers.append(name)
            assert gate.wait(20)

        if batch:

            @probe.on(Scanned, timeout=0.2, batch=Batch(size=2, within=0.05))
            def scan_many(events: list[Scanned], name: str = Depends(lambda name=name: name)) -> None:
                work(name)
        else:

            @probe.on(Scanned, timeout=0.2)
            def scan(event: Scanned, name: str = Depends(lambda name=name: name)) -> None:
                work(name)

        await start(probe, lease=0.3)
    began = time.monotonic()
    receipt = await streams.publish(Scanned(n=1))
    await wait_until(lambda: time.monotonic() - began > 1.7)
    (reason,) = await streams.why(receipt.id)
    assert reason.state == "running"
    assert "a thread, which cannot be interrupted" in reason.why
    gate.set()
    await all_settled(streams)
    assert len(consumers) == 1
    assert not await dead(streams)
    log = capsys.readouterr().out
    assert log.count("handler.overran") == 1
    assert "test_def_handlers.py" in log
    assert "handler.ended_late" in log


def stop_iteration() -> Iterator[int]:
    """What `next` raises for nothing."""
    return iter(())


@pytest.mark.parametrize("kind", ["one", "batch", "with a dependency"])
async def test_stop_iteration_is_an_ordinary_failure(streams: Streams, start: StartConsumer, kind: str) -> None:
    """It can be held by no future, and hung until the timeout."""
    probe = Processor("probe", retry=Backoff(attempts=2, first=0.01), timeout=5.0)

    def fail() -> None:
        next(stop_iteration())

    def scan(event: Scanned) -> None:
        fail()

    def scan_many(events: list[Scanned]) -> None:
        fail()

    def scan_with(event: Scanned, delivery: Delivery = CurrentDelivery()) -> None:
        fail()

    handler = {"one": scan, "batch": scan_many, "with a dependency": scan_with}[kind]
    options: Any = {"batch": Batch(size=1)} if kind == "batch" else {}
    probe.on(Scanned, **options)(handler)
    await start(probe)
    began = time.monotonic()
    receipt = await streams.publish(Scanned(n=1))
    await all_settled(streams)
    (trail,) = (await streams.event(receipt.id)).groups
    assert trail.state == "dead"
    assert trail.attempts == 2
    assert "StopIteration" in trail.error
    assert time.monotonic() - began < 4
    (letter,) = [letter async for letter in streams.dead_letters("probe").ls()]
    assert "in fail" in letter.traceback


async def test_the_signals_of_a_handler_work_from_a_thread(streams: Streams, start: StartConsumer) -> None:
    """As they do from a coroutine."""
    probe = Processor("probe", retry=Backoff(attempts=3, first=0.01))
    seen: Counter[int] = Counter()

    @probe.on(Scanned)
    def scan(event: Scanned, delivery: Delivery = CurrentDelivery()) -> Scanned | None:
        seen[event.n] += 1
        if event.n == 0 and seen[0] == 1:
            raise Snooze(0.01)
        if event.n == 1:
            raise DeadLetter("never")
        if event.n == 2 and delivery.attempt == 1:
            raise SystemExit(3)
        if event.n == 3 and delivery.attempt == 1:
            raise asyncio.CancelledError
        return Scanned(n=10) if event.n == 4 else None

    await start(probe)
    await streams.publish_many(Scanned(n=n) for n in range(5))
    await wait_until(lambda: seen[10] == 1)
    await all_settled(streams)
    assert seen == {0: 2, 1: 1, 2: 2, 3: 2, 4: 1, 10: 1}
    assert await dead(streams) == ["DeadLetter: never"]


async def test_an_error_after_the_timeout_says_how_long_it_took(streams: Streams, start: StartConsumer) -> None:
    """It is the handler's own failure; the stored text or the log has both times."""
    probe = Processor("probe", retry=Backoff(attempts=1))
    notes: list[list[str]] = []

    @probe.on(Scanned, timeout=0.1)
    def scan(event: Scanned) -> None:
        time.sleep(0.3)
        error = ValueError("unreadable")
        notes.append(error.__dict__.setdefault("__notes__", []))
        raise error

    await start(probe)
    await streams.publish(Scanned(n=1))
    await all_settled(streams)
    (error,) = await dead(streams)
    assert error.startswith("ValueError: unreadable")
    assert notes == [["the handler took 0.3 s, and its timeout is 0.1 s"]]


async def test_cancel_and_lost_leases_wait_for_the_thread(streams: Streams, start: StartConsumer) -> None:
    """An operator's cancel of what is in a thread: it is acked if the handler returns, else it does not come again."""
    probe = Processor("probe", concurrency=2, retry=Backoff(attempts=3, first=0.01))
    gate, begun = threading.Event(), Counter[int]()

    @probe.on(Scanned)
    def scan(event: Scanned) -> None:
        begun[event.n] += 1
        assert gate.wait(20)
        if event.n:
            raise ValueError

    consumer = await start(probe)
    receipts = await streams.publish_many([Scanned(n=0), Scanned(n=1)])
    await wait_until(lambda: begun == {0: 1, 1: 1})
    for receipt in receipts:
        await streams.cancel(receipt.id)
    await wait_until(lambda: [slot.interruption for slot in consumer._pool._tasks] == ["cancel", "cancel"])
    gate.set()
    await all_settled(streams)
    states = [(await streams.event(receipt.id)).groups[0].state for receipt in receipts]
    assert states == ["acked", "cancelled"]
    assert begun == {0: 1, 1: 1}


async def test_threads_are_kept_and_are_the_processors_own(streams: Streams, start: StartConsumer) -> None:
    """One is used again; asyncio's default executor, in which names are resolved, has nothing of a handler."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1, thread_name_prefix="default"))
    probe, names = Processor("probe", concurrency=3), set[str]()

    @probe.on(Scanned)
    def scan(event: Scanned) -> None:
        names.add(threading.current_thread().name)
        assert threading.current_thread().daemon
        time.sleep(0.002)

    consumer = await start(probe)
    await streams.publish_many(Scanned(n=n) for n in range(60))
    await all_settled(streams)
    assert len(names) <= 3
    assert all(name.startswith("probe-") for name in names)
    await consumer.stop()
    await wait_until(lambda: not [t for t in threading.enumerate() if t.name in names])


async def test_names_are_resolved_while_every_handler_is_busy(streams: Streams, start: StartConsumer) -> None:
    """A consumer reconnects while all of its threads work: `getaddrinfo` has threads of asyncio's."""
    probe, gate, begun = Processor("probe", concurrency=40), threading.Event(), list[int]()

    @probe.on(Scanned)
    def scan(event: Scanned) -> None:
        begun.append(event.n)
        assert gate.wait(20)

    await start(probe)
    await streams.publish_many(Scanned(n=n) for n in range(40))
    try:
        await wait_until(lambda: len(begun) == 40)
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    finally:
        gate.set()
    await all_settled(streams)


async def test_a_plain_schedule_function_that_takes_too_long(streams: Streams, start: StartConsumer) -> None:
    """It is not called again while it still runs, and holds up no other schedule."""
    probe = Processor("probe", timeout=0.2)
    overlap, others = Overlap(), list[int]()

    @probe.every(1)
    def slow() -> None:
        overlap.during("slow", 0.6)

    @probe.every(0.2)
    def quick() -> None:
        others.append(1)

    await start(probe)
    await wait_until(lambda: len(overlap.begun) >= 3)
    assert overlap.most["slow"] == 1
    assert len(others) >= 4


async def test_the_harness_is_no_different() -> None:
    """Threads, their failures and their timeouts, in a unit test."""
    probe = Processor("probe", retry=Backoff(attempts=2, first=1.0), concurrency=4)
    seen: Counter[int] = Counter()

    @probe.on(Scanned, timeout=0.1)
    def scan(event: Scanned) -> None:
        seen[event.n] += 1
        assert threading.current_thread().name.startswith("probe-")
        if event.n == 0:
            next(stop_iteration())
        if event.n == 1:
            time.sleep(0.3)

    async with Harness(probe) as streams:
        for n in range(4):
            await streams.publish(Scanned(n=n))
        await streams.run()
        await streams.advance(minutes=1)
        assert seen == {0: 2, 1: 1, 2: 1, 3: 1}
        (letter,) = [letter async for letter in streams.dead_letters("probe").ls()]
        assert "StopIteration" in letter.error


@pytest.mark.newest_redis
@pytest.mark.parametrize("kind", [TimeoutError, SystemExit])
async def test_an_exception_that_comes_when_its_call_is_over_costs_no_thread(
    streams: Streams, start: StartConsumer, kind: type[BaseException]
) -> None:
    """Limits of time for threads raise one from outside, and may be late: it hits the thread when it does nothing, or
    in the next call. Everything is handled, and no slot waits for a thread that is gone.
    """
    probe = Processor("probe", concurrency=2, retry=Backoff(attempts=5, first=0.05))
    done, late = set[int](), list[threading.Thread]()

    def strike(thread: int) -> None:
        for _ in range(20):
            time.sleep(0.02)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))

    @probe.on(Scanned)
    def scan(event: Scanned) -> None:
        if event.n < 2:
            late.append(threading.Thread(target=strike, args=(threading.get_ident(),)))
            late[-1].start()
        done.add(event.n)

    await start(probe)
    for n in range(60):
        await streams.publish(Scanned(n=n))
        await asyncio.sleep(0.01)  # a rate: some are idle when they are struck, and some are not
    await wait_until(lambda: done == set(range(60)))
    await all_settled(streams)
    assert await dead(streams) == []
    for thread in late:
        thread.join()
