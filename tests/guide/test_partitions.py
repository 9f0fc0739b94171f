"""More than one partition: what changes, and what does not."""

from __future__ import annotations

import zlib

import pytest

from streams import Processor, Refused, Streams
from tests.guide.shop import InvoiceWritten, OrderPlaced, becomes, dead
from tests.streams.conftest import MakeSettings, StartConsumer

pytestmark = pytest.mark.spread


async def test_one_process_consumes_all_partitions(make_settings: MakeSettings, start: StartConsumer) -> None:
    """With `STREAMS_PARTITIONS=4` a processor is started as ever; what it runs at once is shared by all partitions."""
    billing = Processor("billing")

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced) -> InvoiceWritten:
        return InvoiceWritten(order_id=event.order_id)

    async with Streams(settings=make_settings(partitions=4)) as streams:
        await start(billing, partitions=4)
        receipts = [await streams.publish(OrderPlaced(order_id=n), key=f"customer-{n}") for n in range(20)]

        assert {receipt.partition for receipt in receipts} == {0, 1, 2, 3}
        for receipt in receipts:
            await becomes(streams, receipt, "billing", "acked")
        trail = await streams.event(receipts[0].id)
        assert [follow_up.type for follow_up in trail.follow_ups] == ["InvoiceWritten"]
        assert trail.partition == receipts[0].partition


async def test_a_key_has_its_partition(make_settings: MakeSettings) -> None:
    """CRC-32 of the key, modulo the number of partitions: any language can compute it. Without a key, of the id."""
    async with Streams(settings=make_settings(partitions=4)) as streams:
        keyed = [await streams.publish(OrderPlaced(order_id=n), key="customer-7") for n in range(3)]
        assert {receipt.partition for receipt in keyed} == {zlib.crc32(b"customer-7") % 4}

        loose = await streams.publish(OrderPlaced(order_id=1))
        assert loose.partition == zlib.crc32(loose.id.encode()) % 4


async def test_a_once_name_meets_itself(make_settings: MakeSettings) -> None:
    """Without a key, a `once` name chooses the partition. With a key the key does: give a name the same key always."""
    async with Streams(settings=make_settings(partitions=4)) as streams:
        first = await streams.publish(OrderPlaced(order_id=1), once="order-1")
        again = await streams.publish(OrderPlaced(order_id=1), once="order-1")
        assert again == first


async def test_a_dead_letter_has_its_partition_in_its_id(make_settings: MakeSettings, start: StartConsumer) -> None:
    """Two partitions may give the same entry id: `3:1763960000000-0` is of partition 3."""
    billing = Processor("billing")

    @billing.on(OrderPlaced)
    async def fail(event: OrderPlaced) -> None:
        raise ValueError("no")

    async with Streams(settings=make_settings(partitions=4, attempts=1)) as streams:
        await start(billing, partitions=4, attempts=1)
        receipts = await streams.publish_many(OrderPlaced(order_id=n) for n in range(6))
        letters = await dead(streams, "billing", 6)
        by_event = {letter.event_id: letter for letter in letters}
        for receipt in receipts:
            assert by_event[receipt.id].id.startswith(f"{receipt.partition}:")

        assert (await streams.dead_letters("billing").discard([letters[0].id])).done == 1
        assert (await streams.dead_letters("billing").replay()).done == 5


async def test_all_processes_must_agree(make_settings: MakeSettings) -> None:
    """The first process says how many there are; one that is set otherwise is refused, and told what to set."""
    async with Streams(settings=make_settings(partitions=4)) as streams:
        await streams.publish(OrderPlaced(order_id=1))
    async with Streams(settings=make_settings(partitions=1)) as streams:
        with pytest.raises(Refused, match="set STREAMS_PARTITIONS=4"):
            await streams.publish(OrderPlaced(order_id=2))
