"""Processor: a named set of handlers, which is one consumer group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from uncalled_for import get_dependency_parameters

from streams.durations import Duration
from streams.errors import StreamsError
from streams.events.event import Event, Priority
from streams.handlers.backoff import Backoff
from streams.handlers.batch import Batch
from streams.handlers.callables import is_coroutine_function, name_of, parameters_of, shown
from streams.handlers.declaration import check_dead_letter_function, check_handler, check_schedule
from streams.handlers.limit import Limit
from streams.handlers.policies import (
    checked_batch,
    checked_limit,
    checked_number,
    checked_retry,
    checked_timeout,
    checked_transaction,
)
from streams.handlers.transaction import Transaction
from streams.messages.outcome import DeadLettered
from streams.redis.keys import checked_name
from streams.scheduling.schedule import Cron, Every, Misfire, Schedule, Slot

Handler = Callable[..., Any]
_H = TypeVar("_H", bound=Handler)

_NOT_AN_EVENT: Final = "@{processor}.on(...) takes an Event class, not {given}"


@dataclass(frozen=True, slots=True)
class Subscription:
    """One event type, its handler and its policy; None means the processor's, then the settings' default."""

    event: type[Event]
    handler: Handler
    retry: Backoff | None
    timeout: float | None
    transaction: Transaction | None
    is_async: bool
    has_dependencies: bool
    batch: Batch | None = None
    limit: Limit | None = None

    @property
    def name(self) -> str:
        """The handler's name for people: `processors.email.handlers.send_welcome`."""
        return name_of(self.handler)


@dataclass(frozen=True, slots=True)
class DeadLetterFunction:
    """The function that runs before an event becomes a dead letter, and the names of its first two arguments."""

    function: Handler
    arguments: tuple[str, str]

    def given(self, event: Event, letter: DeadLettered) -> dict[str, Any]:
        """Those arguments, by name."""
        return dict(zip(self.arguments, (event, letter), strict=True))


class Processor:
    """A named set of handlers; the name is the consumer group.

    `concurrency` is how many handlers one consumer process runs at once; `reserved` of them are kept free for what was
    published with `priority="high"`, which otherwise waits until a handler is done. `retry` and `timeout` (seconds) are
    the defaults of its handlers, `deliveries` is how often a message may be delivered without any outcome before it
    is dead-lettered as `crashed`. Each of these but `reserved` falls to the settings (`STREAMS_*`) when left out.

    With `ordered`, messages that were published with the same `key=` are handled one at a time, and each succeeds for
    the first time in the order of its stream and priority, whatever fails, crashes or is released meanwhile: a retry
    keeps its key waiting, a dead letter does not. Messages without a key have no order.
    """

    # Eight arguments: each is a keyword of its own in what an author writes, and a group of them would add a name.
    def __init__(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        reserved: int = 0,
        retry: Backoff | None = None,
        timeout: Duration | None = None,
        deliveries: int | None = None,
        transaction: Transaction | None = None,
        ordered: bool = False,
    ) -> None:
        self.name = checked_name("processor", name)
        if not isinstance(ordered, bool):
            raise StreamsError(f"processor {name}: ordered={shown(ordered)} must be True or False")
        try:
            self.concurrency = None if concurrency is None else checked_number("concurrency", concurrency)
            self.reserved = checked_number("reserved", reserved, least=0)
            self.retry = checked_retry(retry)
            self.timeout = checked_timeout(timeout)
            self.deliveries = None if deliveries is None else checked_number("deliveries", deliveries)
        except StreamsError as error:
            raise StreamsError(f"processor {name}: {error}") from None
        self.transaction = transaction
        self.ordered = ordered
        self.subscriptions: dict[str, Subscription] = {}
        self.dead_letter_functions: dict[str, DeadLetterFunction] = {}
        self.schedules: dict[str, Schedule] = {}

    def on(
        self,
        event: type[Event],
        *,
        retry: Backoff | None = None,
        timeout: Duration | None = None,
        transaction: Transaction | None = None,
        batch: Batch | None = None,
        limit: Limit | None = None,
    ) -> Callable[[_H], _H]:
        """Makes the decorated function the handler of `event` in this processor, and returns it unchanged.

        The function takes the event first and may take dependencies as defaults (`Depends`, `Shared`,
        `CurrentDelivery`). A plain `def` runs in a thread of the processor's own, which no timeout can interrupt: what
        it comes to then is the outcome; what it returns is awaited, if it can be. It returns None, an event, or a list
        of events, which are published in the same step as the ack; anything else is left out, and logged once
        (`handler.returned_ignored`). With a `transaction` (see `streams.handlers.transaction`) its effects happen once.
        With a `batch` it takes a list of events, and may raise `BatchFailed`. With a `limit` it starts only so often,
        or runs only so many times at once, over all consumers. Raises `StreamsError` when the processor already handles
        the event, for a function that cannot take it, and for options that are none or cannot work together.
        """
        if not _is_event(event):
            raise StreamsError(_NOT_AN_EVENT.format(processor=self.name, given=shown(event)))
        self._check_unhandled(event)
        try:
            retry, seconds = checked_retry(retry), checked_timeout(timeout)
            batch, limit = checked_batch(batch), checked_limit(limit)
        except StreamsError as error:
            raise StreamsError(f"processor {self.name}, {event.type}: {error}") from None
        transaction = self.transaction if transaction is None else transaction
        if batch is not None and limit is not None:
            raise StreamsError(
                f"processor {self.name}, {event.type}: batch= and limit= exclude each other; a batch is one "
                "start already: set its size, and concurrency="
            )
        if batch is not None and transaction is not None:
            raise StreamsError(
                f"processor {self.name}, {event.type}: batch= and transaction= exclude each other, because what fails "
                "in a batch would take the effects of the others back; handle one event at a time, or make the "
                "effects repeatable (in a processor without a transaction)"
            )

        def subscribe(handler: _H) -> _H:
            self._check_unhandled(event)
            try:
                _ = checked_transaction(transaction)
                check_handler(handler, event, is_batch=batch is not None)
            except StreamsError as error:
                raise StreamsError(f"processor {self.name}, {event.type}: {error}") from error
            self.subscriptions[event.type] = Subscription(
                event,
                handler,
                retry,
                seconds,
                transaction,
                is_coroutine_function(handler),
                parameters_of(handler) is not None and bool(get_dependency_parameters(handler)),
                batch,
                limit,
            )
            return handler

        return subscribe

    def on_dead_letter(self, event: type[Event]) -> Callable[[_H], _H]:
        """Makes the decorated coroutine function what runs before `event` becomes a dead letter of this processor.

        It takes the event and the letter (`streams.DeadLettered`: its `reason` and `error`), then dependencies. What it
        returns, None, an event or a list of events, is published in the same step in which the dead letter is written.
        It runs in whichever process writes the letter, whatever the reason is: the last try has failed or took too
        long, a dependency cannot be made, or each process that handled the event was killed. Only an event that cannot
        be read (`invalid`, `too_large`, `unsupported`) has none. It may run more than once, and has 60 s. `Unavailable`
        lets the event wait; anything else that it raises is logged, and the dead letter is written without it.
        Raises `StreamsError` when the processor does not handle the event, or in batches, and for a function that
        cannot take both.
        """
        if not _is_event(event):
            raise StreamsError(_NOT_AN_EVENT.format(processor=f"{self.name}", given=shown(event)))
        about = f"processor {self.name}, {event.type}"
        subscription = self.subscriptions.get(event.type)
        if subscription is None:
            raise StreamsError(f"{about}: on_dead_letter needs a handler; declare it below the function with @on(...)")
        if subscription.batch is not None:
            raise StreamsError(f"{about}: batch= and on_dead_letter exclude each other")
        if event.type in self.dead_letter_functions:
            raise StreamsError(f"{about}: there is a function for its dead letters already")

        def declare(function: _H) -> _H:
            try:
                names = check_dead_letter_function(function, event, DeadLettered)
            except StreamsError as error:
                raise StreamsError(f"{about}: {error}") from error
            self.dead_letter_functions[event.type] = DeadLetterFunction(function, names)
            return function

        return declare

    def _check_unhandled(self, event: type[Event]) -> None:
        if event.type in self.subscriptions:
            raise StreamsError(f"processor {self.name} already handles {event.type}: one handler per event type")

    def cron(
        self,
        expression: str,
        *,
        tz: str = "UTC",
        name: str = "",
        misfire: Misfire = "once",
        most: int | None = None,
        priority: Priority | None = None,
        key: str = "",
    ) -> Callable[[_H], _H]:
        """Makes the decorated function publish at the slots of a cron expression in a time zone, and returns it.

        `minute hour day month weekday`, or six fields beginning with seconds. The function, a plain one or a coroutine
        function, may take the `Slot` first and dependencies as defaults; it returns the event of the slot, a list of
        events, or None. Each slot is published once, however many consumers run. The schedule's name is
        `processor.function`, or `processor.NAME` with `name=`. `misfire` says what to do with slots that were missed
        because no consumer ran: see `Schedule.due`. Raises `StreamsError` for an invalid value.
        """
        return self._scheduled(lambda: Cron(expression, tz), name, misfire, most, priority, key)

    def every(
        self,
        interval: Duration,
        *,
        name: str = "",
        misfire: Misfire = "once",
        most: int | None = None,
        priority: Priority | None = None,
        key: str = "",
    ) -> Callable[[_H], _H]:
        """The same at a fixed distance (seconds or timedelta), counted from 1970-01-01T00:00Z; else as `cron`."""
        return self._scheduled(lambda: Every.of(interval), name, misfire, most, priority, key)

    def _scheduled(
        self,
        timing: Callable[[], Cron | Every],
        name: str,
        misfire: Misfire,
        most: int | None,
        priority: Priority | None,
        key: str,
    ) -> Callable[[_H], _H]:
        try:
            made = timing()
        except StreamsError as error:
            raise StreamsError(f"processor {self.name}: {error}") from None

        def schedule(function: _H) -> _H:
            full = f"{self.name}.{name or getattr(function, '__name__', '')}"
            if full in self.schedules:
                raise StreamsError(f"processor {self.name} already has a schedule {full}: give name=")
            try:
                check_schedule(function, Slot)
            except StreamsError as error:
                raise StreamsError(f"schedule {full}: {error}") from error
            self.schedules[full] = Schedule(full, made, function, misfire, most, priority, key)
            return function

        return schedule

    @property
    def limited(self) -> bool:
        """Whether any of its handlers has a limit."""
        return any(subscription.limit is not None for subscription in self.subscriptions.values())

    @property
    def streams(self) -> list[str]:
        """The domain streams its events live in, sorted."""
        return sorted({subscription.event.stream for subscription in self.subscriptions.values()})

    def __repr__(self) -> str:
        return f"<Processor {self.name}: {', '.join(sorted(self.subscriptions)) or 'no handlers'}>"


def _is_event(given: Any) -> bool:
    return isinstance(given, type) and issubclass(given, Event) and bool(given.type)
