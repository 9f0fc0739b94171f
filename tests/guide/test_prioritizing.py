"""Priority: three lanes a stream; who is in a hurry goes first, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from streams import Event, Processor, Streams, StreamsError
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


class LetterWritten(Event, stream="letters", version=1):
    """Somebody has written a letter."""

    to: str


class LetterLost(Event, stream="letters", version=1, priority="high"):
    """A letter is gone: somebody should look at once."""

    to: str


async def test_high_goes_first_and_low_is_not_forgotten(streams: Streams, start: StartConsumer) -> None:
    """Of what waits, 16 high ones are begun for 4 normal ones and 1 low one. An event that names no priority is
    normal. Within a lane, who came first is first.
    """
    post = Processor("post", concurrency=1)
    sent: list[str] = []

    @post.on(LetterWritten)
    async def send(event: LetterWritten) -> None:
        sent.append(event.to)
        await asyncio.sleep(0.005)

    for number in range(200):
        for lane in ("low", "normal", "high"):
            await streams.publish(LetterWritten(to=f"{lane} {number}"), priority=lane)  # type: ignore[arg-type]
    await start(post)
    await wait_until(lambda: len(sent) == 600, timeout=25)
    for lane in ("high", "normal", "low"):
        assert [to for to in sent if to.startswith(lane)] == [f"{lane} {number}" for number in range(200)]
    assert sent.index("high 199") < sent.index("normal 99") < sent.index("low 99")
    assert sent.index("low 5") < sent.index("high 199")


async def test_an_event_has_a_priority_of_its_own(streams: Streams, start: StartConsumer) -> None:
    """`class LetterLost(Event, ..., priority="high")`: so it is published by everyone who does not say another, a
    handler that returns it among them.
    """
    post = Processor("post")

    @post.on(LetterWritten)
    async def send(event: LetterWritten) -> LetterLost:
        return LetterLost(to=event.to)

    await start(post)
    await streams.publish(LetterWritten(to="Ada"))
    await streams.publish(LetterLost(to="Bea"))
    await streams.publish(LetterLost(to="Cyd"), priority="normal")
    lost = streams.keys.stream("letters", "high")

    async def both() -> bool:
        entries = await streams.redis.xrange(lost)
        return sorted(fields[b"data"] for _, fields in entries) == [b'{"to":"Ada"}', b'{"to":"Bea"}']

    await wait_until(both)
    assert [fields[b"type"] for _, fields in await streams.redis.xrange(streams.keys.stream("letters"))] == [
        b"LetterWritten",
        b"LetterLost",
    ]


async def test_a_slot_is_reserved_for_who_is_in_a_hurry(streams: Streams, start: StartConsumer) -> None:
    """A handler is not interrupted: with every slot busy, a high event waits until one is done. Where handlers take
    long, keep a slot free for it. What is not high never takes that one.
    """
    post = Processor("post", concurrency=3, reserved=1)
    begun: list[str] = []
    open_again = asyncio.Event()

    @post.on(LetterWritten)
    async def send(event: LetterWritten) -> None:
        begun.append(event.to)
        if event.to == "parcel":
            await open_again.wait()

    await start(post)
    for _ in range(5):
        await streams.publish(LetterWritten(to="parcel"))
    await wait_until(lambda: begun)
    for number in range(5):
        await streams.publish(LetterWritten(to=f"telegram {number}"), priority="high")
        await wait_until(lambda number=number: begun[-1] == f"telegram {number}")  # type: ignore[misc]
    assert begun.count("parcel") == 2
    open_again.set()
    await wait_until(lambda: begun.count("parcel") == 5)


async def test_what_cannot_be_is_refused(streams: Streams, start: StartConsumer) -> None:
    """A priority that there is not, and a processor that would have no slot for the rest."""
    with pytest.raises(StreamsError, match="priority"):
        await streams.publish(LetterWritten(to="Ada"), priority="urgent")  # type: ignore[arg-type]
    with pytest.raises(StreamsError, match="reserved=-1 must not be negative"):
        Processor("post", reserved=-1)
    post = Processor("post", concurrency=2, reserved=2)
    post.on(LetterWritten)(lambda event: None)
    with pytest.raises(StreamsError, match="leaves no handler for what is not high"):
        await start(post)
