"""Delivery: one delivery of a message to a handler, and the lease under which it is held."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from streams.messages.message import Carried, Message

if TYPE_CHECKING:
    from streams.messages.outcome import Outcome

current_delivery: ContextVar[Delivery | None] = ContextVar("current_delivery")  # None while a batch is handled
current_batch: ContextVar[Sequence[Delivery]] = ContextVar("current_batch")


class Permit(Protocol):
    """That a limit let a delivery start: which limit, when (monotonic), for how many seconds that is good, and whether
    the delivery holds a place there until it is settled.
    """

    name: str
    at: float
    good_for: float
    holds: bool


class Holder(Protocol):
    """What has deliveries in hand until they are settled: one consumer's part in the partition they were read from."""

    @property
    def group(self) -> str:
        """The group that they are delivered to."""

    @property
    def consumer(self) -> str:
        """The consumer's name in the group."""

    def settle(self, delivery: Delivery, outcome: Outcome, /) -> None:
        """Queues the outcome of one, to be made durable."""

    def settle_batch(self, settled: list[tuple[Delivery, Outcome]], /) -> None:
        """Queues the outcomes of a batch, which are made durable in one call."""

    async def count_suspect(self, delivery: Delivery, /) -> bool:
        """Waits until everything else is settled, then makes the delivery of a suspect count; False when it is not
        this consumer's any more.
        """

    def needs_permit(self, delivery: Delivery, /) -> bool:
        """Whether a limit lets it not start now. Then a permit has been asked for, and it comes back with one."""

    def admit(self, deliveries: list[Delivery], /) -> None:
        """Lets the pool run those that have a permit."""

    def queued(self, deliveries: list[Delivery], /) -> None:
        """Ends the holding of those that wait in Redis for their permit."""

    def lost(self, deliveries: set[Delivery], /) -> None:
        """Stops work on those that another consumer has now; nothing of them is settled."""

    def on_settled(self, settled: Sequence[tuple[Delivery, Outcome]], lost: set[Delivery], /) -> None:
        """Ends the holding of those whose outcome is durable, or of which it turned out that they were `lost`."""

    def on_refused(self, deliveries: Sequence[Delivery], on: bool, /) -> None:
        """Notes those whose outcome Redis refuses (`on`), or no longer refuses."""

    def batch_began(self) -> None:
        """Notes that a batch of its deliveries runs: as many more may be read meanwhile."""


def begin_by(known_at: float, lease: float) -> float:
    """Until when (monotonic) a delivery may begin that is known to have been this consumer's at a time: half a lease
    before another may have it. So it never begins with a lease that is over, and seldom with one that ends before the
    next renewal.
    """
    return known_at + lease / 2


def suspect_from(limit: int) -> int:
    """The number of crashes from which a message runs alone; `limit` of them make it a dead letter."""
    return min(3, limit)


class Delivery:
    """A message in this consumer's hands, which are its `holder`.

    `source` is the key of the stream it was read from (of a domain, or the group's inbox), `entry_id` its entry there.
    `count` is Redis' delivery count for this consumer's ownership: with the consumer's name it is the fence that
    renewal and settlement check. `begin_by` is until when it may begin without another renewal; what has no lease to
    lose has no such time. `attempt` counts handler failures from 1, `deliveries` all deliveries.
    """

    __slots__ = (
        "admitted",
        "begin_by",
        "count",
        "counted",
        "deadline",
        "entry_id",
        "failures",
        "holder",
        "message",
        "route",
        "settling",
        "source",
        "thread",
        "uncounted",
    )  # fmt: skip

    def __init__(
        self,
        message: Message,
        holder: Holder,
        *,
        source: str,
        entry_id: bytes,
        count: int,
        counted: bool = True,
        begin_by: float = inf,
    ) -> None:
        self.message = message
        self.holder = holder
        self.begin_by = begin_by
        self.source = source
        self.entry_id = entry_id
        self.count = count
        self.counted = counted  # False: a suspect that has not been started (reclaim.lua, count_delivery.lua)
        self.uncounted = 0  # 1: Redis counted when it was read, and a suspect is counted when it starts
        self.failures = message.carried.failures if message.carried else 0
        self.route: Any = None  # an `executor.Route`: its handler and policy; set when the executor begins with it
        self.admitted: Permit | None = None  # by the limit of its handler
        self.settling = False  # on its way to Redis: whether it was still ours, the settlement will say
        self.deadline = 0.0  # monotonic; 0 while no handler runs. After it the lease is not renewed any more, unless:
        self.thread = (
            0  # its handler is in a thread, which cannot be interrupted: the thread's ident, -1 before it begins
        )

    @property
    def group(self) -> str:
        """The group that it is delivered to."""
        return self.holder.group

    @property
    def consumer(self) -> str:
        """The name of the consumer that has it."""
        return self.holder.consumer

    @property
    def deliveries(self) -> int:
        """How often Redis has delivered the event to this group, over every time it came back."""
        return self.count - self.uncounted + (self.message.carried.deliveries if self.message.carried else 0)

    @property
    def attempt(self) -> int:
        """Which try of its handler this is, from 1."""
        return self.failures + 1

    @property
    def deliveries_before(self) -> int:
        """The number of deliveries before this one."""
        return self.deliveries - 1 if self.counted else self.deliveries

    @property
    def crashes(self) -> int:
        """The number of earlier deliveries without any outcome: their process died."""
        return max(0, self.deliveries_before - self.failures)

    def suspected(self, limit: int) -> bool:
        """Says whether `limit` or more of its deliveries ended with their process. When a suspect comes back to the
        inbox, reading it there is not counted: many wait there to run alone, and only the one that ran has crashed.
        """
        carried = self.message.carried
        if carried is not None and carried.deliveries - carried.failures >= limit and not self.uncounted:
            self.uncounted, self.counted = 1, False
        return self.crashes >= limit

    @property
    def replays(self) -> int:
        """How often the event was replayed from this group's dead letters."""
        return self.message.carried.replays if self.message.carried else 0

    @property
    def origin(self) -> str:
        """Where the message was first: the stream's key and the entry id, with a space between."""
        carried = self.message.carried
        return carried.origin if carried else f"{self.source} {self.entry_id.decode()}"

    @property
    def head_id(self) -> str:
        """The id under which it is the head of its key's queue: a replay may exist beside its original."""
        return f"{self.origin}#{self.replays}" if self.replays else self.origin

    def carried(self, *, ran: bool) -> Carried:
        """The counters that the message keeps if it comes back. Unless its handler ran to an outcome, this delivery is
        not counted: a graceful release costs neither an attempt nor a delivery.
        """
        known = self.message.carried or Carried()
        return Carried(
            self.origin,
            known.failures,
            self.deliveries if ran else self.deliveries_before,
            known.first_failed,
            known.last_failed,
            known.errors,
            known.replays,
        )

    def __repr__(self) -> str:
        return f"<Delivery {self.message.type} {self.message.id} to {self.group}, attempt {self.attempt}>"
