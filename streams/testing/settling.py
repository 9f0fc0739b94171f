"""Settling: makes an outcome durable in memory. What is written is packed by the engine's own settlement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streams.message import KEY
from streams.middleware import settle_chain
from streams.outcome import Outcome, Released, Retried, Snoozed
from streams.settlement import Settled, Settlement

if TYPE_CHECKING:
    from streams.client import Streams
    from streams.delivery import Delivery
    from streams.middleware import Middleware
    from streams.testing.memory import Memory

_GOES_ON = (Retried, Snoozed, Released)


class Settling(Settlement):
    """settle.lua for one delivery at a time."""

    def __init__(
        self, client: Streams, memory: Memory, group: str, consumer: str, layers: Sequence[Middleware]
    ) -> None:
        nothing: Any = None
        super().__init__(
            client.connections, memory.keys, group=group, consumer=consumer, reconnect=nothing, middleware=(),
            settled=lambda *_: None,
        )  # fmt: skip
        self._memory = memory
        self.settle = settle_chain(layers, self._move)

    async def _move(self, batch: Sequence[Settled]) -> None:
        for delivery, outcome in batch:
            self._move_one(delivery, outcome)

    def _move_one(self, delivery: Delivery, outcome: Outcome) -> None:
        memory, index = self._memory, {delivery.source: 1}
        packed = iter(self._operation(delivery, outcome, index, set()))
        keys = list(index)

        def take() -> Any:
            return next(packed)

        def take_fields() -> list[Any]:
            return [take() for _ in range(take())]

        match take():
            case b"f":
                for _ in range(take()):
                    memory.append(keys[take() - 1], take_fields())
            case b"w":
                due, waiting_id = memory.now() + take(), take()
                target, *fields = take_fields()
                memory.wait(waiting_id, due, target.decode(), fields)
            case b"d":
                memory.append(memory.keys.dead(delivery.group), take_fields())
            case b"b":
                memory.append(keys[take() - 1], take_fields())
        record = take_fields()
        if record:
            memory.append(memory.keys.history(delivery.group), record)
        if not isinstance(outcome, _GOES_ON) and delivery.group in memory.ordered:
            memory.pass_turn(delivery.group, delivery.message.values[KEY], delivery.origin)
        memory.ack(delivery.group, delivery.source, delivery.entry_id)
