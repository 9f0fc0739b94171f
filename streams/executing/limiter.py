"""Limiter: asks for permits for the deliveries of limited handlers before they start, and releases those that wait.

A delivery with a permit returns to the handler pool. One without waits in Redis, out of this consumer's hands. A batch
of deliveries asks in one call. Only a processor that has a limit has a limiter.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from streams.executing.executor import expired
from streams.executing.threads import Contexts
from streams.handlers.limit import BY_KEY, Limit, PartitionQuota
from streams.logs import get_logger
from streams.messages.claims import MARK
from streams.messages.error_text import name_of_class, passes
from streams.messages.message import DATA, EXPIRES, KEY, TYPE
from streams.messages.outcome import RELEASED, Snoozed
from streams.redis.refusal import LOST, is_denied, is_of_script
from streams.settling import limits
from streams.settling.limits import GOOD_FOR, LimitSpec, PermitRequest
from streams.settling.ticker import Ticker

if TYPE_CHECKING:
    from streams.executing.executor import Executor
    from streams.handlers.processor import Processor, Subscription
    from streams.messages.delivery import Delivery, Holder
    from streams.redis.partition import Member

log = get_logger("streams.gate")

_BATCH: Final = 200
_TICK: Final = 0.5  # seconds: the longest a line that another consumer has made is not looked at
_PAUSE: Final = 0.005  # seconds between two looks: what became free meanwhile is let in together
_REFUSALS: Final = 3  # of a whole call, after which its deliveries ask one by one
_DAMAGED_FOR: Final = 30.0  # seconds until a delivery asks again whose limit cannot be read
_DENIED_FOR: Final = 5.0  # where it is this user that may not, and the limit is well

_GONE: Final = "limited: its entry was deleted; it asks again"


class Permit:
    """That a delivery was let in: by which limit, when (monotonic), for how long that is good, and whether it holds a
    place there until it is settled.
    """

    __slots__ = ("at", "good_for", "holds", "name")

    def __init__(self, name: str, share: PartitionQuota) -> None:
        self.name = name
        self.at = monotonic()
        self.good_for = max(GOOD_FOR, share.interval / 1000) if share.interval else float("inf")
        self.holds = share.most > 0


_UNLIMITED: Final = Permit("", PartitionQuota(0, 1, 0))
"""Of what no handler will run for."""


class Limiter:
    """The limiter of one consumer in one partition."""

    def __init__(
        self,
        member: Member,
        holder: Holder,
        processor: Processor,
        executor: Executor,
        *,
        partition: int,
        partitions: int,
    ) -> None:
        self._limited: dict[bytes, tuple[Subscription, Limit, PartitionQuota]] = {
            type.encode(): (subscription, subscription.limit, subscription.limit.share(partition, partitions))
            for type, subscription in processor.subscriptions.items()
            if subscription.limit is not None
        }
        self._keys, self._group, self._consumer = member.keys, member.group, member.consumer
        self._holder = holder
        self._executor = executor
        self._reconnect = member.reconnect
        self._connection = member.connections.direct(timeout=10.0)
        self._serving = member.connections.direct(timeout=10.0)
        self._before: list[Delivery] = []
        self._work = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._ticker = Ticker()
        self._closing = False

    def needs_permit(self, delivery: Delivery) -> bool:
        """Says whether a delivery may not start now; then it has been asked for, and comes back when it may."""
        if delivery.message.values[TYPE] not in self._limited:
            return False
        let_in = delivery.admitted
        if let_in is not None and monotonic() - let_in.at <= let_in.good_for:
            return False
        self._before.append(delivery)
        self._work.set()
        return True

    def drop(self, deliveries: Collection[Delivery]) -> bool:
        """Takes deliveries away that have not asked yet; says whether there were any."""
        before = len(self._before)
        self._before = [delivery for delivery in self._before if delivery not in deliveries]
        return len(self._before) < before

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is asking."""
        return not self._before and self._quiet.is_set()

    async def ask(self) -> None:
        """Asks for as long as the consumer lives."""
        self._contexts = Contexts()
        while True:
            if not self._before:
                self._quiet.set()
                self._work.clear()
                await self._work.wait()
            self._quiet.clear()
            batch, self._before = self._before[:_BATCH], self._before[_BATCH:]
            if self._closing:
                for delivery in batch:
                    self._holder.settle(delivery, RELEASED)
                continue
            asks = [ask for delivery in batch if (ask := await self._ask_of(delivery)) is not None]
            if asks:
                await self._answer(asks)

    async def _ask_of(self, delivery: Delivery) -> tuple[Delivery, PermitRequest, LimitSpec, PartitionQuota] | None:
        """What it asks; None when it need not, because no handler will run, or when that cannot be known."""
        message = delivery.message
        subscription, limit, share = self._limited[message.values[TYPE]]
        if message.problem or message.size:
            self._let_in([(delivery, _UNLIMITED)])
            return None
        if len(message.values) > EXPIRES and expired(message) is not None:
            self._let_in([(delivery, _UNLIMITED)])
            return None
        value = message.values[KEY] if limit.by == BY_KEY else b""
        if limit.by is not None and limit.by != BY_KEY:
            try:
                data = message.values[DATA]
                if self._executor.claims is not None and data.startswith(MARK):
                    data = await self._executor.claims.fetch(message)
                run = self._contexts.new().run  # an upcaster and `by` are the user's, as a handler is
                try:
                    event = run(subscription.event.decode, data, message.version)
                except BaseException as error:  # the executor finds it too, and says what becomes of it
                    if passes(error) is not None:
                        raise
                    log.debug("limiter.not_decoded", group=self._group, id=message.id, error=name_of_class(error))
                    self._let_in([(delivery, _UNLIMITED)])
                    return None
                value = str(run(limit.by, event)).encode()
            except BaseException as error:  # a store that is away, and what the user's function raises
                if passes(error) is not None:
                    raise
                self._executor.assign_route(delivery)
                self._holder.settle(delivery, self._executor.failed(delivery, error))
                return None
        # One NUL after a type, two after a name: neither has one, so that they are never taken for each other.
        whose = limit.name.encode() + b"\0" if limit.name else message.values[TYPE]
        name = hashlib.blake2b(whose + b"\0" + value, digest_size=12).hexdigest()
        asked = LimitSpec(name, f"{limit.name or message.type}: {limit}", *share)
        entry_id, deliveries = delivery.entry_id, delivery.deliveries_before
        ask = PermitRequest(delivery.source, entry_id, delivery.count, name, message.values[KEY], deliveries)
        return delivery, ask, asked, share

    async def _answer(self, asks: Sequence[tuple[Delivery, PermitRequest, LimitSpec, PartitionQuota]]) -> None:
        repeated, refusals = False, 0
        for delivery, _, _, _ in asks:
            delivery.settling = True  # what goes to stand in line is not pending any more, and is not lost
        while True:
            try:
                wait, answers = await limits.admit(
                    self._connection.call, self._keys, group=self._group, consumer=self._consumer,
                    limits=[asked for _, _, asked, _ in asks], asks=[ask for _, ask, _, _ in asks],
                )  # fmt: skip
                break
            except LOST as error:
                repeated = repeated or self._connection.sent
                await self._reconnect.failed(error)
            except RedisError as error:
                self._reconnect.refused(log, "limiter.refused", error, group=self._group)
                refusals += is_of_script(error)
                if refusals >= _REFUSALS and len(asks) > 1:
                    for ask in asks:
                        await self._answer([ask])
                    return
                if refusals >= _REFUSALS:
                    wait, answers = -1, [str(error)]
                    break
                await self._reconnect.failed(error)
        self._reconnect.succeeded()
        let_in, parked, lost = [], [], set()
        for (delivery, _, asked, share), answer in zip(asks, answers, strict=True):
            delivery.settling = False
            match answer:
                case 1:
                    let_in.append((delivery, Permit(asked.name, share)))
                case 0:
                    parked.append(delivery)
                case -1 if not repeated:
                    lost.add(delivery)
                case -1:  # the call before went through, and it stands in line
                    parked.append(delivery)
                case -2:
                    self._holder.settle(delivery, Snoozed(1.0, _GONE))
                case str(why):
                    log.error("limiter.refused", group=self._group, id=delivery.message.id, error=why[:300])
                    problem = f"limited: its limit cannot be read: {why[:300]}"
                    after = _DENIED_FOR if is_denied(why) else _DAMAGED_FOR
                    self._holder.settle(delivery, Snoozed(after, problem))
        if parked:
            self._holder.queued(parked)
        if lost:
            self._holder.lost(lost)
        self._let_in(let_in)
        if wait >= 0:
            self._nudge(wait / 1000)

    def _let_in(self, admitted: list[tuple[Delivery, Permit]]) -> None:
        for delivery, admission_of in admitted:
            delivery.admitted = admission_of
        if admitted:
            self._holder.admit([delivery for delivery, _ in admitted])

    async def serve(self) -> None:
        """Serves the lines where time has to pass, for as long as the consumer lives; any number of consumers may."""
        await self._ticker.run(self._serve)

    def _nudge(self, after: float) -> None:
        self._ticker.wake_within(max(_PAUSE, after))

    async def _serve(self) -> float:
        if not self._executor.breaker.closed:  # nothing would be started
            return _TICK
        try:
            wait, damaged = await limits.serve(self._serving.call, self._keys, group=self._group)
        except LOST as error:
            await self._reconnect.failed(error)
            return 0.0
        except RedisError as error:
            self._reconnect.refused(log, "limiter.refused", error, group=self._group)
            return 5.0
        if damaged:
            log.error("limiter.refused", group=self._group, error=damaged[:300])
        return _TICK if wait < 0 else min(_TICK, max(_PAUSE, wait / 1000))

    async def close(self, within: float) -> None:
        """Hands back what has not asked yet, and waits for the answers to what has."""
        self._closing = True
        for delivery in self._before:
            self._holder.settle(delivery, RELEASED)
        self._before.clear()
        try:
            async with asyncio.timeout(within):
                await self._quiet.wait()
        except TimeoutError:
            log.warning("limiter.not_answered", group=self._group)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._connection.aclose()
        await self._serving.aclose()
