"""Status reporter: answers questions about an event for one consumer (see `Report`)."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Protocol

from redis.exceptions import RedisError

from streams.consuming import scripts
from streams.executing.priority_queue import HIGH, lane_of
from streams.inspecting.consumer_report import Phase, Question, Report
from streams.logs import get_logger

if TYPE_CHECKING:
    from streams.consuming.leases import Leases
    from streams.executing.circuit_breaker import Breaker
    from streams.executing.handler_pool import HandlerPool
    from streams.handlers.processor import Processor
    from streams.messages.delivery import Delivery
    from streams.redis.partition import Partition

log = get_logger("streams.reporter")


class Holder(Protocol):
    """What holds the deliveries: a partition consumer."""

    leases: Leases
    pool: HandlerPool
    moved: float


class StatusReporter:
    """The reporter of one consumer in one partition."""

    def __init__(
        self, processor: Processor, partition: Partition, consumer: str, held_by: Holder, breaker: Breaker
    ) -> None:
        self._processor = processor
        self._partition = partition
        self._consumer = consumer
        self._holder = held_by
        self._breaker = breaker

    async def answer(self, asked: bytes) -> None:
        """Answers a question; what is none is ignored, and so is a Redis that is away: nobody would wait for it."""
        try:
            report = self._report(Question.decode(asked))
        except ValueError:
            return
        try:
            await scripts.report(
                self._partition.redis.execute_command,
                self._partition.keys,
                group=self._processor.name,
                consumer=self._consumer,
                report=report.encode(),
            )
        except (RedisError, OSError) as error:
            log.debug("report.not_written", group=self._processor.name, error=error.__class__.__name__)

    def _report(self, question: Question) -> Report:
        now, held = monotonic(), self._holder.leases.held.copy()
        subscription = self._processor.subscriptions.get(question.type)
        running = {delivery: _ran(delivery, now) for delivery in held if _runs(delivery)}
        phase: Phase = ""
        seconds, limit, in_thread = 0.0, 0.0, False
        is_high = question.source.endswith(":high")
        for delivery in held:
            if delivery.source == question.source and delivery.entry_id == question.entry_id.encode():
                phase = self._phase(delivery)
                is_high = lane_of(delivery) == HIGH
                if phase == "running":
                    seconds, limit = running[delivery], delivery.route.timeout if delivery.route else 0.0
                    in_thread = delivery.thread != 0
        return Report(
            question.token,
            subscription.event.version if subscription else 0,
            self._processor.concurrency or self._partition.settings.concurrency,
            self._holder.pool.running,
            len(held),
            round(max(running.values(), default=0.0), 3),
            self._holder.pool.paused,
            self._breaker.dependency,
            round(self._breaker.opens_in(), 3),
            phase,
            round(seconds, 3),
            limit,
            0 if is_high else self._processor.reserved,
            self._stuck(len(held)),
            round(max(0.0, now - max(self._holder.moved, self._holder.pool.moved)), 3),
            round(max((now - delivery.deadline for delivery in running), default=0.0), 3),
            in_thread,
        )

    def _stuck(self, held: int) -> int:
        """How many could go on. What is collected for a batch waits for more of it, and nothing is late."""
        pool = self._holder.pool
        if pool.running or pool.paused or not self._breaker.closed:
            return 0
        return max(0, held - pool.collected)

    def _phase(self, delivery: Delivery) -> Phase:
        if delivery.settling:
            return "settling"
        if _runs(delivery):
            return "running"
        return "suspect" if delivery.crashes >= self._holder.pool.suspect_from else "ready"


def _runs(delivery: Delivery) -> bool:
    return delivery.deadline > 0 and delivery.route is not None and not delivery.settling


def _ran(delivery: Delivery, now: float) -> float:
    """Seconds since its handler began: the deadline is its time-out after that."""
    timeout: float = delivery.route.timeout
    return max(0.0, timeout - (delivery.deadline - now))
