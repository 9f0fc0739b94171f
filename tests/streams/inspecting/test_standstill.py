"""Consumers that are alive and do nothing with what they hold: `doctor` and `why` notice."""

from __future__ import annotations

import asyncio

from streams import Batch, Processor, Streams
from streams.inspecting.consumer_report import Report, ask_holders
from streams.inspecting.doctor import Finding, check_standstill
from streams.inspecting.snapshot_reader import snapshot_each
from tests.streams.conftest import StartConsumer
from tests.support.events import Noted
from tests.support.waiting import wait_until


async def findings(streams: Streams, lease: float) -> list[Finding]:
    """What `doctor` finds."""
    return list(check_standstill(await ask_holders(streams, await snapshot_each(streams)), lease))


async def test_what_is_held_and_not_begun(streams: Streams, start: StartConsumer) -> None:
    """A consumer that renews what it has read and begins nothing: after a lease both say so, and what to do."""
    probe = Processor("probe")

    @probe.on(Noted)
    async def note(event: Noted) -> None: ...

    consumer = await start(probe)
    consumer._pool._taking = False  # whatever fault of the engine it may be
    receipt = await streams.publish(Noted(n=1))

    async def found() -> list[Finding]:
        return await findings(streams, 1.0)

    (finding,) = await wait_until(found)
    assert finding.status == "fail"
    assert finding.text.startswith(f"{consumer.name} of probe holds 1 message, runs nothing, and has begun and settled")
    assert "restart it" in finding.remedy

    async def stuck() -> bool:
        (reason,) = await streams.why(receipt.id)
        return reason.cause == "stuck" and consumer.name in reason.remedy

    consumer._pool.moved -= 60  # `why` compares with the lease of the settings, 30 s unless set
    for part in consumer._parts:
        part.moved -= 60
    await wait_until(stuck)
    consumer._pool._taking = True
    consumer._pool.wake()
    await wait_until(lambda: not consumer._held())
    assert not await findings(streams, 1.0)


async def test_a_handler_that_does_not_end(streams: Streams, start: StartConsumer) -> None:
    """It swallows its cancel: its slot is gone until it ends."""
    probe = Processor("probe", timeout=0.1)
    gate, caught = asyncio.Event(), list[int]()

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                caught.append(1)

    consumer = await start(probe, lease=5.0)
    await streams.publish(Noted(n=1))
    await wait_until(lambda: caught)

    async def found() -> list[Finding]:
        return await findings(streams, 0.3)

    (finding,) = await wait_until(found)
    assert finding.status == "warn"
    assert f"a handler of {consumer.name} of probe is" in finding.text
    gate.set()


async def test_what_waits_with_reason_is_no_standstill(streams: Streams, start: StartConsumer) -> None:
    """A batch that fills, handlers that take long, nothing at all."""
    probe, gate = Processor("probe"), asyncio.Event()
    begun: list[int] = []

    @probe.on(Noted, batch=Batch(size=100, within=60))
    async def note(events: list[Noted]) -> None: ...

    slow = Processor("slow")

    @slow.on(Noted)
    async def wait(event: Noted) -> None:
        begun.append(event.n)
        await gate.wait()

    batched = await start(probe)
    await start(slow)
    assert not await findings(streams, 0.0)
    await streams.publish_many(Noted(n=n) for n in range(3))
    await wait_until(lambda: batched._held() == 3 and len(begun) == 3)
    assert not await findings(streams, 0.0)
    gate.set()


async def test_one_that_does_not_answer(streams: Streams, start: StartConsumer) -> None:
    """Its heartbeat goes on, and nothing comes back over the channel."""
    probe, gate = Processor("probe"), asyncio.Event()

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        await gate.wait()

    consumer = await start(probe)
    await streams.publish(Noted(n=1))
    await wait_until(consumer._held)

    async def silence(words: bytes) -> None: ...

    for part in consumer._parts:
        part.control.handle = silence  # type: ignore[method-assign]
    (finding,) = await findings(streams, 1.0)
    assert finding.status == "fail"
    assert "does not answer" in finding.text
    gate.set()


def test_a_report_of_a_later_version_is_read() -> None:
    """A deploy must not make every consumer look as if it did not answer."""
    report = Report("token", 1, 1, 0, 0, 0.0, paused=False)
    later = report.encode().replace(b"{", b'{"of_tomorrow":1,', 1)
    assert Report.decode(later) == report
