"""The renewal of leases against what happens to a delivery at the same moment."""

from __future__ import annotations

from streams import Streams, scripts
from streams.delivery import Delivery
from streams.leases import Leases
from streams.message import Message
from tests.events import Noted


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
        Message.decode(entry_id, fields), group=group, consumer=consumer, source=source, entry_id=entry_id, count=1,
        counted=False,
    )  # fmt: skip
    leases = Leases(
        connections, consumers_key=streams.keys.consumers(group), group=group, consumer=consumer, lease=2.0,
        lost=lambda _: None, patience=60.0,
    )  # fmt: skip
    leases.hold([delivery])
    client = connections.blocking()
    assert leases._renew(client, 1.0) == set()
    assert await scripts.begin(connection.call, source, group=group, consumer=consumer, entry_id=entry_id, count=1)
    assert leases._renew(client, 1.0) == set(), "it is counted, and this process has not heard of it"
    delivery.count, delivery.counted = 2, True
    assert leases._renew(client, 1.0) == set()
    delivery.count = 3
    assert leases._renew(client, 1.0) == {delivery}
    client.close()
    await connection.aclose()
