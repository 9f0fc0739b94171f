"""History again, to one group; dead letters corrected and in stages; what is accounted for."""

from __future__ import annotations

from streams import Backoff, Processor, Streams
from streams.dead_letters.canary import canary
from tests.guide.shop import OrderPlaced, becomes, dead
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


class Desk:
    """A processor that notes the orders it is given; it refuses those over 100 until it is mended."""

    def __init__(self, name: str) -> None:
        self.seen: list[int] = []
        self.mended = False
        self.processor = Processor(name, retry=Backoff(attempts=1))
        self.processor.on(OrderPlaced)(self.handle)

    async def handle(self, event: OrderPlaced) -> None:
        """Notes one order."""
        if event.total > 100 and not self.mended:
            raise ValueError(f"order {event.order_id} is too large")
        self.seen.append(event.order_id)


async def test_history_is_delivered_again_to_one_group(streams: Streams, start: StartConsumer) -> None:
    """The stream keeps what was handled. Others see nothing of a replay."""
    billing, shipping = Desk("billing"), Desk("shipping")
    await start(billing.processor)
    await start(shipping.processor)
    receipts = await streams.publish_many(OrderPlaced(order_id=n) for n in range(5))
    await wait_until(lambda: len(billing.seen) == len(shipping.seen) == 5)

    job = await streams.replay("orders", group="billing", ids=[receipts[1].id, receipts[3].id])

    assert (job.state, job.matched, job.replayed) == ("done", 2, 2)
    await wait_until(lambda: billing.seen == [0, 1, 2, 3, 4, 1, 3])
    assert shipping.seen == [0, 1, 2, 3, 4]


async def test_a_replay_is_planned_before_it_is_begun(streams: Streams, start: StartConsumer) -> None:
    """A plan counts, and changes nothing."""
    billing = Desk("billing")
    await start(billing.processor)
    await streams.publish_many(OrderPlaced(order_id=n) for n in range(5))
    await wait_until(lambda: len(billing.seen) == 5)

    planned = await streams.replays.plan("orders", group="billing", types=["OrderPlaced"])

    assert planned.matched == 5
    assert (await streams.replays.begin(planned, rate=1000)).replayed == 5
    await wait_until(lambda: len(billing.seen) == 10)


async def test_a_dead_letter_is_corrected(streams: Streams, start: StartConsumer) -> None:
    """The event id stays, the corrected event is what is delivered."""
    billing = Desk("billing")
    await start(billing.processor)
    receipt = await streams.publish(OrderPlaced(order_id=1, total=1000))
    (letter,) = await dead(streams, "billing", 1)

    corrected = await streams.dead_letters("billing").edit(letter.id, OrderPlaced(order_id=1, total=10), by="ada")
    await streams.dead_letters("billing").replay([corrected.id])

    trail = await becomes(streams, receipt, "billing", "acked")
    assert billing.seen == [1]
    assert [line["outcome"] for line in trail.history] == ["dead_lettered", "edited", "replayed"]


async def test_letters_that_failed_alike_are_one_kind(streams: Streams, start: StartConsumer) -> None:
    """Whatever numbers stand in their errors."""
    await start(Desk("billing").processor)
    await streams.publish_many(OrderPlaced(order_id=n, total=1000) for n in range(7))
    await dead(streams, "billing", 7)

    (kind,) = await streams.dead_letters("billing").groups()

    assert (kind.type, kind.count) == ("OrderPlaced", 7)


async def test_a_canary_stops_when_they_fail_as_before(streams: Streams, start: StartConsumer) -> None:
    """One, then ten, then the rest: what is not mended costs one more failure, not hundreds."""
    billing = Desk("billing")
    await start(billing.processor)
    await streams.publish_many(OrderPlaced(order_id=n, total=1000) for n in range(20))
    await dead(streams, "billing", 20)

    (stopped,) = await canary(streams, "billing")
    assert (stopped.ending, stopped.replayed, stopped.left) == ("came_back", 1, 19)

    billing.mended = True
    assert [stage.replayed for stage in await canary(streams, "billing")] == [1, 10, 9]
    assert len(billing.seen) == 20


async def test_what_every_group_has_settled_can_go(streams: Streams, start: StartConsumer) -> None:
    """And nothing else."""
    billing = Desk("billing")
    await start(billing.processor)
    await streams.publish_many(OrderPlaced(order_id=n) for n in range(10))
    await wait_until(lambda: len(billing.seen) == 10)

    async def trimmed() -> bool:
        return {found.stream: found.kept for found in await streams.trim("orders", keep=3)} == {
            "orders:high": 0, "orders": 3, "orders:low": 0,
        }  # fmt: skip

    await wait_until(trimmed)


async def test_every_event_is_accounted_for(streams: Streams, start: StartConsumer) -> None:
    """Published is what became of it; what a stranger removes is a gap."""
    billing = Desk("billing")
    consumer = await start(billing.processor)
    await streams.publish_many(OrderPlaced(order_id=n, total=1000 if n < 2 else 9) for n in range(10))
    await dead(streams, "billing", 2)
    await wait_until(lambda: len(billing.seen) == 8)
    await consumer.stop()
    await streams.publish_many(OrderPlaced(order_id=n) for n in range(10, 15))

    (billing_account,) = (await streams.accounts()).groups
    counts = (billing_account.published, billing_account.acked, billing_account.dead, billing_account.unread)
    assert (counts, billing_account.gap) == ((15, 8, 2, 5), 0)

    await streams.redis.xtrim(streams.keys.stream("orders"), maxlen=1, approximate=False)

    (gap,) = (await streams.accounts()).gaps()
    assert (gap.group, gap.where, gap.count) == ("billing", "orders", 4)
