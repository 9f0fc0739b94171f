"""What was given up: list, show, replay, discard."""

from __future__ import annotations

import pytest

from streams import Backoff, CurrentDelivery, DeadLetter, Delivery, NotFound, Processor, Streams
from streams.dead_letters.dead_letters import Tally
from streams.dead_letters.search import Filter
from tests.guide.shop import OrderPlaced, becomes, dead
from tests.streams.conftest import StartConsumer


class Office:
    """A processor `billing` that refuses orders over 100 and cannot print the others, until it is mended."""

    def __init__(self) -> None:
        self.mended = False
        self.seen: list[tuple[int, int]] = []
        self.processor = Processor("billing", retry=Backoff(attempts=2, first=0.05))
        self.processor.on(OrderPlaced)(self.write_invoice)

    async def write_invoice(self, event: OrderPlaced, delivery: Delivery = CurrentDelivery()) -> None:
        """Writes an invoice, or does not."""
        self.seen.append((event.order_id, delivery.attempt))
        if self.mended:
            return
        if event.total > 100:
            raise DeadLetter("somebody must sign this")
        raise OSError("no paper")


async def test_a_dead_letter_is_the_whole_message_and_why(streams: Streams, start: StartConsumer) -> None:
    """Given up after two attempts: the reason, each error, how often, when, and the event itself."""
    await start(Office().processor)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    (letter,) = await dead(streams, "billing", 1)
    assert (letter.event_id, letter.reason, letter.error) == (receipt.id, "failed", "OSError: no paper")
    assert (letter.attempts, letter.deliveries) == (2, 2)
    assert [failure["attempt"] for failure in letter.carried.errors] == [1, 2]
    assert "write_invoice" in letter.traceback
    assert OrderPlaced.decode(letter.data, version=1) == OrderPlaced(order_id=1)


async def test_a_handler_gives_up_at_once(streams: Streams, start: StartConsumer) -> None:
    """With `DeadLetter`, when trying again cannot help."""
    office = Office()
    await start(office.processor)
    await streams.publish(OrderPlaced(order_id=1, total=500))

    (letter,) = await dead(streams, "billing", 1)
    assert (letter.reason, letter.error) == ("rejected", "DeadLetter: somebody must sign this")
    assert office.seen == [(1, 1)]


async def test_a_replay_delivers_it_again_with_all_its_attempts(streams: Streams, start: StartConsumer) -> None:
    """Mend the cause, then replay: attempts begin at 1 again, and the event ends as if nothing had been."""
    office = Office()
    await start(office.processor)
    receipt = await streams.publish(OrderPlaced(order_id=1))
    (letter,) = await dead(streams, "billing", 1)

    office.mended = True
    assert await streams.dead_letters("billing").replay([letter.id]) == Tally(matched=1, done=1)

    trail = await becomes(streams, receipt, "billing", "acked")
    assert office.seen == [(1, 1), (1, 2), (1, 1)]
    assert trail.replays == 1
    assert await streams.dead_letters("billing").count() == 0


async def test_a_filter_says_which(streams: Streams, start: StartConsumer) -> None:
    """By type, error, reason or age. A dry run counts and changes nothing."""
    await start(Office().processor)
    await streams.publish_many(OrderPlaced(order_id=n, total=500 if n < 3 else 5) for n in range(10))
    await dead(streams, "billing", 10)
    letters = streams.dead_letters("billing")

    assert await letters.replay(only=Filter(error="NO PAPER"), dry_run=True) == Tally(matched=7, done=0)
    assert await letters.discard(only=Filter(reason="rejected")) == Tally(matched=3, done=3)
    assert await letters.count() == 7


async def test_a_discard_leaves_a_line(streams: Streams, start: StartConsumer) -> None:
    """Nobody has to wonder where an event went: its history says who dropped it."""
    await start(Office().processor)
    receipt = await streams.publish(OrderPlaced(order_id=1, total=500))
    (letter,) = await dead(streams, "billing", 1)

    await streams.dead_letters("billing").discard([letter.id], by="ada")

    trail = await becomes(streams, receipt, "billing", "dead")
    assert trail.history[-1]["consumer"] == "ada"
    with pytest.raises(NotFound):
        await streams.dead_letters("billing").show(letter.id)
