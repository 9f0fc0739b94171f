"""Settlement: makes outcomes durable, a batch at a time, in one fenced script call.

It is the one step that must survive a flickering Redis: it tries until Redis has answered. A batch that was settled
although its reply was lost is refused by the fence the second time, so trying again is safe.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from streams import clock
from streams.logs import get_logger
from streams.messages.error_text import Failure, passes
from streams.messages.history import log_outcome, record
from streams.messages.letter import reason_fields
from streams.messages.message import BYTES, DATA, KEY, Carried, Message
from streams.messages.middleware import Middleware, settle_chain
from streams.messages.outcome import (
    ACKED,
    SKIPPED,
    Acked,
    Cancelled,
    DeadLettered,
    Expired,
    Outcome,
    Released,
    Retried,
    Snoozed,
)
from streams.messages.size_limits import whole_up_to
from streams.redis.refusal import LOST, is_of_script
from streams.settling import scripts
from streams.settling.ordering import waiting_id
from streams.settling.quarantine import Aside, first_of, halves

if TYPE_CHECKING:
    from streams.messages.delivery import Delivery, Holder
    from streams.redis.partition import Member
    from streams.redis.script import Value

log = get_logger("streams.settlement")

_BATCH: Final = 500
_BATCH_BYTES: Final = 4 * 1024 * 1024  # of what is written again, in one script call
_REFUSALS: Final = 3  # of a whole call, after which its outcomes are settled in halves
Settled = tuple["Delivery", Outcome]


class Settlement:
    """Collects outcomes and settles them; what arrives while one call is on its way goes with the next."""

    def __init__(
        self,
        member: Member,
        holder: Holder,
        middleware: Sequence[Middleware] = (),
        *,
        ordered: bool = False,
        limited: bool = False,
    ) -> None:
        self._keys, self._group, self._consumer = member.keys, member.group, member.consumer
        self._inbox, self._ordered = self._keys.inbox(self._group), ordered
        self._turns = self._keys.turns(self._group) if ordered else ""
        self._limits = self._keys.limits(self._group) if limited else ""
        self._reconnect = member.reconnect
        self._holder = holder
        self._aside, self._whole = Aside(holder), whole_up_to(member.settings)
        self._connection = member.connections.direct(timeout=10.0)
        self._chain = settle_chain(middleware, self._settle)
        self._waiting: list[Settled] = []
        self._together: deque[list[Settled]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._durable = False
        self._flushed = asyncio.Event()
        self._flushed.set()

    def add(self, delivery: Delivery, outcome: Outcome) -> None:
        """Queues an outcome; it is durable when the holder is given it back (`on_settled`)."""
        self._waiting.append((delivery, outcome))
        if self._wake is not None:
            self._wake_up()

    def add_together(self, settled: list[Settled]) -> None:
        """Queues the outcomes of a batch, which are settled in one call."""
        self._together.append(settled)
        if self._wake is not None:
            self._wake_up()

    def _wake_up(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)

    async def run(self) -> None:
        """Settles for as long as the consumer lives."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting and not self._together:
                self._flushed.set()
                self._wake = loop.create_future()
                await self._wake
            self._flushed.clear()
            batch, self._waiting = first_of(self._waiting, _BATCH, _BATCH_BYTES)
            if self._together:
                batch = self._together.popleft() + batch
            self._durable = False
            for delivery, _ in batch:
                delivery.settling = True
            try:
                await self._chain(batch)
            except BaseException as error:
                if passes(error) is not None:
                    raise
                # A middleware of the application: it must not cost a settlement, or the process.
                failure = Failure(error)
                about = {"error": failure.text, "exception": failure.traceback}
                log.error("settlement.middleware_failed", group=self._group, **about)
                if not self._durable:
                    await self._settle(batch)

    async def flush(self) -> None:
        """Returns when everything added so far is durable."""
        while self._waiting or self._together or not self._flushed.is_set():
            await asyncio.sleep(0)
            await self._flushed.wait()

    async def _settle(self, batch: Sequence[Settled]) -> None:
        streams, operations, ordered = self._operations(batch)
        repeated, refusals = False, 0
        while True:
            try:
                positions, refused = await scripts.settle(
                    self._connection.call, self._keys, streams=streams, group=self._group, consumer=self._consumer,
                    turns=self._turns, limits=self._limits, operations=operations,
                )  # fmt: skip
                break
            except LOST as error:
                repeated = repeated or self._connection.sent
                await self._reconnect.failed(error)
            except RedisError as error:
                self._reconnect.refused(log, "settlement.refused", error, group=self._group, count=len(batch))
                refusals += 1
                if refusals < _REFUSALS or not is_of_script(error):
                    await self._reconnect.failed(error)
                    continue
                # Something in it is what Redis refuses: the others are not to wait for it.
                for half in (parts := list(halves(batch))):
                    await self._settle(half)
                if not parts:
                    self._durable = True
                    self._aside.put(batch, {delivery: str(error) for delivery, _ in batch}, ())
                return
        self._durable = True
        self._reconnect.succeeded()
        told = {ordered[position - 1]: why for position, why in refused.items()}
        # After a repetition the fence also refuses what the first call settled: that is no loss.
        lost = set() if repeated else {ordered[position - 1] for position in positions}
        settled = [each for each in batch if each[0] not in told] if told else batch
        for delivery, outcome in settled:
            if outcome is not ACKED and not isinstance(outcome, Acked) and delivery not in lost:
                log_outcome(delivery, outcome)
        if told or self._aside:
            self._aside.put([each for each in batch if each[0] in told], told, [each[0] for each in settled])
        if settled:
            self._holder.on_settled(settled, lost)

    def _operations(self, batch: Sequence[Settled]) -> tuple[list[str], list[Value], list[Delivery]]:
        """Packs a batch for the script; returns its streams, its arguments, the deliveries in the script's order."""
        plain: dict[str, dict[int, list[Delivery]]] = {}
        other: dict[str, list[Settled]] = {}
        looks = self._ordered or bool(self._limits)
        for settled in batch:
            delivery, outcome = settled
            plain_ack = outcome is ACKED or outcome is SKIPPED
            if plain_ack and not (delivery.failures or (looks and self._holds_others(delivery))):
                plain.setdefault(delivery.source, {}).setdefault(delivery.count, []).append(delivery)
            else:
                other.setdefault(delivery.source, []).append(settled)
        index = {key: number for number, key in enumerate(plain | other, 1)}
        operations: list[Value] = []
        ordered: list[Delivery] = []
        told: set[int] = set()  # shared outcomes whose follow-ups are in the operations already
        for source in list(index):
            runs, rest = plain.get(source, {}), other.get(source, [])
            deliveries = [delivery for run in runs.values() for delivery in run] + [delivery for delivery, _ in rest]
            ordered += deliveries
            ids = [delivery.entry_id for delivery in deliveries]
            # A range by milliseconds is hint enough: the script asks for an id alone that it does not find in it.
            delete = int(source == self._inbox)
            operations += (index[source], delete, min(ids).partition(b"-")[0], max(ids).partition(b"-")[0], len(runs))
            for count, run in runs.items():
                operations += (count, len(run))
                operations += [delivery.entry_id for delivery in run]
            operations.append(len(rest))
            for delivery, outcome in rest:
                operations += (delivery.entry_id, delivery.count)
                if self._ordered:
                    operations += (delivery.message.values[KEY], delivery.head_id)
                if self._limits:
                    operations.append(delivery.admitted.name if delivery.admitted is not None else "")
                operations += self._operation(delivery, outcome, index, told)
        return list(index), operations, ordered

    def _holds_others(self, delivery: Delivery) -> bool:
        """Whether others wait for it: those of its key, or of its limit."""
        permit = delivery.admitted
        return bool(self._ordered and delivery.message.values[KEY]) or (permit is not None and permit.holds)

    def _operation(self, delivery: Delivery, outcome: Outcome, index: dict[str, int], told: set[int]) -> list[Value]:
        """The operation of one outcome that is more than an ack; a match over the closed set."""
        now = clock.now().isoformat(timespec="milliseconds")
        message, inbox = delivery.message, self._inbox
        operation: list[Value]
        match outcome:
            case Acked(follow_ups=follow_ups, shared=shared):
                if id(outcome) in told:
                    follow_ups = ()
                elif shared:
                    told.add(id(outcome))
                operation = [b"g" if shared else b"f", *_published(follow_ups, index)]
                return [*operation, *self._record(delivery, "acked", now)] if delivery.failures else [*operation, 0]
            case Retried(after=after, error=error):
                carried = delivery.carried(ran=True).failed(error, now)
                operation = [b"w", round(after * 1000), self._waiting_id(delivery)]
                operation += _counted([inbox.encode(), *message.encode_back(carried)])
                return [*operation, *self._record(delivery, "retried", now, error=error, after=after)]
            case Snoozed(after=after, reason=reason, first_seen=first_seen, noted=noted):
                carried = delivery.carried(ran=False)
                if first_seen:
                    carried.first_failed = first_seen
                operation = [b"w", round(after * 1000), self._waiting_id(delivery)]
                operation += _counted([inbox.encode(), *message.encode_back(carried)])
                return [
                    *operation,
                    *(self._record(delivery, "snoozed", now, reason=reason, after=after) if noted else [0]),
                ]
            case DeadLettered(follow_ups=follow_ups):
                return [b"d", *_published(follow_ups, index), *_counted(self._letter(delivery, outcome, now)),
                        *self._record(delivery, "dead_lettered", now, outcome.reason, outcome.error)]  # fmt: skip
            case Released():
                target = index.setdefault(inbox, len(index) + 1)
                return [b"b", target, *_counted(message.encode_back(delivery.carried(ran=False))), 0]
            case Cancelled():
                return [b"c", *self._record(delivery, "cancelled", now)]
            case Expired(at=at):
                return [b"x", *self._record(delivery, "expired", now, reason=f"it had to be handled before {at}")]

    def _waiting_id(self, delivery: Delivery) -> str:
        # Not the event id: two foreign entries may carry the same one, and one must not overwrite the other.
        return waiting_id(self._keys, self._group, delivery.head_id)

    def _letter(self, delivery: Delivery, outcome: DeadLettered, now: str) -> list[bytes]:
        carried = delivery.carried(ran=outcome.reason != "crashed")
        if outcome.reason in ("failed", "rejected"):
            carried = carried.failed(outcome.error, now)
        return [
            *self._kept(delivery, carried),
            *reason_fields(self._group, outcome.reason, outcome.error, outcome.traceback, carried.failures, now),
        ]

    def _kept(self, delivery: Delivery, carried: Carried) -> list[bytes]:
        """The message as its dead letter has it; very large data stay where they are."""
        message, values = delivery.message, [*delivery.message.values]
        size, values[DATA] = message.size or len(values[DATA]), b""
        if not message.size and size <= self._whole:
            return message.encode_back(carried)
        return [*Message(values).encode_back(carried), BYTES, b"%d" % size]

    def _record(
        self, delivery: Delivery, outcome: str, at: str, reason: str = "", error: str = "", after: float = 0.0
    ) -> list[Value]:
        """The line of a delivery in the group's history (see `Keys.history`)."""
        return _counted(record(
            delivery.message, outcome, attempt=delivery.attempt, deliveries=delivery.deliveries, by=self._consumer,
            reason=reason, error=error, after=after, at=at,
        ))  # fmt: skip

    async def aclose(self) -> None:
        """Closes the connection."""
        self._aside.stop()
        await self._connection.aclose()


def _published(follow_ups: Sequence[Message], index: dict[str, int]) -> list[Value]:
    published: list[Value] = [len(follow_ups)]
    for follow_up in follow_ups:
        published += (index.setdefault(follow_up.target, len(index) + 1), *_counted(follow_up.encode()))
    return published


def _counted(fields: list[bytes]) -> list[Value]:
    return [len(fields), *fields]
