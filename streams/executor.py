"""Executor: one delivery from its bytes to its outcome: decode, dependencies, handler, outcome.

It never raises for what a message or a handler does; one bad message never stops a batch.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from uncalled_for import FailedDependency, resolved_dependencies

from schemas.event import Event, registered
from streams.claims import MARK
from streams.dependencies import current_delivery
from streams.errors import TooLarge
from streams.failure import describe, describe_traceback
from streams.message import DATA, TYPE, VERSION, Message
from streams.middleware import Middleware, deliver_chain, publish_chain
from streams.outcome import (
    ACKED,
    SKIPPED,
    Acked,
    DeadLetter,
    DeadLettered,
    Outcome,
    Retried,
    Retry,
    Snooze,
    Snoozed,
    Unavailable,
)
from streams.retry import Backoff

if TYPE_CHECKING:
    from streams.breaker import Breaker
    from streams.client import Streams
    from streams.delivery import Delivery
    from streams.processor import Processor, Subscription

_RETURNS: Final = "a handler returns None, an event, or a list of events, not {given}"


class HandlerTimeout(Exception):
    """A handler took longer than its timeout and was cancelled."""


class HandlerCancelled(Exception):
    """Something a handler awaited was cancelled by somebody else, and the handler let it through."""


class Route:
    """A subscription with its policy filled in, ready for the hot path."""

    __slots__ = ("call", "decode", "retry", "subscription", "timeout", "transaction", "version")

    def __init__(self, subscription: Subscription, retry: Backoff, timeout: float) -> None:
        self.subscription = subscription
        self.retry = retry
        self.timeout = timeout
        self.transaction = subscription.transaction
        self.version = b"%d" % subscription.event.version
        self.decode = subscription.event.decode
        self.call = _call_of(subscription)


class Executor:
    """Executes the deliveries of one processor."""

    def __init__(
        self, processor: Processor, client: Streams, breaker: Breaker, middleware: Sequence[Middleware] = ()
    ) -> None:
        settings = client.settings
        retry = processor.retry or Backoff(attempts=settings.attempts, first=settings.backoff / 1000)
        timeout = processor.timeout or settings.timeout
        self._routes = {
            type.encode(): Route(subscription, subscription.retry or retry, subscription.timeout or timeout)
            for type, subscription in processor.subscriptions.items()
        }
        self._unrouted = Backoff(attempts=1)
        self._timeout = timeout
        self._settings = settings
        self._client = client
        self.claims = client.claims
        self._breaker = breaker
        self._stage = publish_chain(middleware, _staged)
        self.execute = deliver_chain(middleware, self._deliver)

    def route(self, delivery: Delivery) -> float:
        """Finds the handler of a delivery whose turn has come; returns the seconds it may take."""
        route = delivery.route = self._routes.get(delivery.message.values[TYPE])
        return route.timeout if route is not None else self._timeout

    async def _deliver(self, delivery: Delivery) -> Outcome:
        message, route = delivery.message, delivery.route
        if route is None:
            return _without_handler(message)
        data = message.values[DATA]
        if len(data) > self._settings.max_bytes:
            size = len(data)
            return DeadLettered("too_large", f"{size} bytes of data are over the cap of {self._settings.max_bytes}")
        if self.claims is not None and data.startswith(MARK):
            try:
                data = await self.claims.fetch(message)
            except ValueError as error:
                return DeadLettered("invalid", describe(error))
            except Exception as error:  # noqa: BLE001 - a store that is away, or an object that is not there
                return self.failed(delivery, error)
        try:
            if message.values[VERSION] == route.version:
                event = route.decode(data, route.subscription.event.version)
            elif message.version > route.subscription.event.version:
                return self._newer(delivery, route.subscription.event.version)
            elif message.version == 0:
                return DeadLettered("invalid", "dataversion is not a positive number")
            else:
                event = route.decode(data, message.version)
        except Exception as error:  # noqa: BLE001 - an upcaster is user code: what it raises, the message caused
            if self.claims is None and data.startswith(MARK):
                return DeadLettered("invalid", "the data is in a claim store; set STORAGE_URL and replay")
            return DeadLettered("invalid", describe(error))
        current_delivery.set(delivery)
        try:
            if route.transaction is not None:
                handle = partial(self._handle, route, event, delivery)
                follow_ups = tuple(await route.transaction.run(delivery, handle))
                return Acked(follow_ups) if follow_ups else ACKED
            result = await route.call(event)
            if result is None:
                return ACKED
            follow_ups = await self._follow_ups(delivery, result)
            return Acked(follow_ups) if follow_ups else ACKED
        except (Exception, SystemExit) as error:  # noqa: BLE001 - what a handler raises is an outcome
            return self.failed(delivery, error)

    async def _handle(self, route: Route, event: Event, delivery: Delivery) -> tuple[Message, ...]:
        result = await route.call(event)
        return await self._follow_ups(delivery, result) if result is not None else ()

    def _newer(self, delivery: Delivery, known: int) -> Outcome:
        """A message newer than this code waits for the deploy that knows it; it is nobody's failure yet."""
        version = delivery.message.version
        now = datetime.now(UTC)
        carried = delivery.message.carried
        first_seen = carried.first_failed if carried and carried.first_failed else now.isoformat()
        reason = f"version {version} is newer than this code, which knows {known}"
        if now - datetime.fromisoformat(first_seen) >= timedelta(seconds=self._settings.unsupported_for):
            return DeadLettered("unsupported", f"{reason}; it waited since {first_seen}")
        return Snoozed(self._settings.unsupported_every, f"unsupported: {reason}", first_seen)

    async def _follow_ups(self, delivery: Delivery, result: Any) -> tuple[Message, ...]:
        events = [result] if isinstance(result, Event) else result
        if not isinstance(events, list | tuple) or not all(isinstance(event, Event) for event in events):
            raise TypeError(_RETURNS.format(given=type(result).__name__))
        # In the partition of their cause: they and its ack are one script, which touches one slot.
        partition = self._client.partition_of(delivery.source)
        messages = tuple(self._client.message(event, cause=delivery.message, partition=partition) for event in events)
        if messages:
            if self.claims is not None:
                await self.claims.check_in(messages, self._settings.max_bytes)
            await self._stage(messages)
        return messages

    def failed(self, delivery: Delivery, error: BaseException) -> Outcome:
        """Decides what becomes of a delivery whose handler raised `error`."""
        match error:
            case Snooze():
                return Snoozed(error.after, str(error))
            case Unavailable():
                return Snoozed(self._breaker.opened(error.dependency), f"unavailable: {describe(error)}")
            case DeadLetter():
                return DeadLettered("rejected", describe(error), describe_traceback(error))
            case TooLarge():
                return DeadLettered("failed", describe(error), describe_traceback(error))
        retry = delivery.route.retry if delivery.route else self._unrouted
        delay = retry.next_delay(delivery.attempt, error)
        if delay is None:
            return DeadLettered("failed", describe(error), describe_traceback(error))
        if isinstance(error, Retry) and error.after is not None:
            delay = error.after
        return Retried(delay, describe(error))


def _without_handler(message: Message) -> Outcome:
    if registered(message.type) is None:
        name = message.type or "(none)"
        return DeadLettered("unknown_type", f"no event is registered under the type {name[:128]}")
    return SKIPPED


async def _staged(messages: Sequence[Message]) -> None:
    """The end of the publish chain for follow-ups: the settlement publishes them."""


def _call_of(subscription: Subscription) -> Callable[[Event], Awaitable[Any]]:
    handler = subscription.handler
    if subscription.is_async and not subscription.has_dependencies:
        return handler
    first = next(iter(inspect.signature(handler).parameters))

    async def call(event: Event) -> Any:
        async with resolved_dependencies(handler, {first: event}) as dependencies:
            for dependency in dependencies.values():
                if isinstance(dependency, FailedDependency):
                    raise dependency.error
            if subscription.is_async:
                return await handler(event, **dependencies)
            return await asyncio.to_thread(handler, event, **dependencies)

    return call
