"""Executor: one delivery from its bytes to its outcome: decode, dependencies, handler, outcome.

It never raises for what a message or a handler does; one bad message never stops a batch.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, Protocol

from streams import clock
from streams.events.event import Event, registered
from streams.executing.calls import Route
from streams.executing.failure_policy import judge
from streams.executing.follow_ups import FollowUps
from streams.executing.threads import Threads
from streams.handlers.backoff import Backoff
from streams.handlers.child_processes import end_child
from streams.logs import get_logger
from streams.messages.claims import MARK
from streams.messages.delivery import Delivery, current_delivery
from streams.messages.error_text import Failure, describe, passes
from streams.messages.message import DATA, EXPIRES, TYPE, VERSION, Message
from streams.messages.middleware import Middleware, deliver_chain
from streams.messages.outcome import ACKED, SKIPPED, Acked, DeadLettered, Expired, Outcome, Snoozed
from streams.redis.untrusted import written

if TYPE_CHECKING:
    from streams.app import App
    from streams.executing.circuit_breaker import Breaker
    from streams.handlers.processor import Processor

log = get_logger("streams.executor")

_VERSIONS: Final = 20  # newer than the code, of one type, that are reported
_NOTED: Final = 100  # messages of one of them that have a line in log and history
_LONGEST_LOOK: Final = 3600.0  # seconds between two looks whether such a message can be handled


class HandlerTimeout(Exception):
    """A handler took longer than its timeout and was cancelled."""


class Undeliverable(Exception):
    """A message that cannot be given to its handler; it ends as `outcome`."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


class HandlerCancelled(Exception):
    """What a handler waited for was cancelled, or the task it ran in, and the handler let it through."""


class Watchdog(Protocol):
    """What ends this process when a handler holds the interpreter for longer than it may."""

    longest: float

    def expect(self, timeout: float, /) -> None:
        """Notes that a handler begins which may take `timeout` seconds."""


class Executor:
    """Executes the deliveries of one processor."""

    def __init__(
        self,
        processor: Processor,
        client: App,
        breaker: Breaker,
        middleware: Sequence[Middleware] = (),
        *,
        watchdog: Watchdog | None = None,
        rng: Random | None = None,
    ) -> None:
        settings = client.settings
        self.threads = Threads(processor.name)  # of `def` handlers: one for each slot that has one
        retry = processor.retry or Backoff(attempts=settings.attempts, first=settings.backoff / 1000)
        timeout = processor.timeout or settings.timeout
        self.routes = {
            type.encode(): Route(
                subscription, subscription.retry or retry, subscription.timeout or timeout, self.threads
            )
            for type, subscription in processor.subscriptions.items()
        }
        for type, function in processor.dead_letter_functions.items():
            self.routes[type.encode()].on_dead_letter = function
        self._timeout, self.max_bytes = timeout, settings.max_bytes
        self._settings, self._client = settings, client
        self.claims = client.claims
        self.breaker = breaker
        self.forked = False  # this is a child, which a handler has forked
        self._rng = rng or Random()  # of back-off
        self.longest = max([timeout, *(route.timeout for route in self.routes.values())])
        self._watchdog = watchdog
        self.follow_ups = FollowUps(client, middleware).of
        self._chain = deliver_chain(middleware, self._deliver)

    def assign_route(self, delivery: Delivery) -> float:
        """Finds the handler of a delivery whose turn has come; returns the seconds it may take."""
        route = delivery.route = self.routes.get(delivery.message.values[TYPE])
        if route is None:
            return self._timeout
        if self._watchdog is not None:
            self.expect(route)
        return route.timeout

    def expect(self, route: Route) -> None:
        """Notes that its handler begins: the watchdog expects the longest timeout where it knows of no shorter one."""
        if self._watchdog is not None and route.timeout < self._watchdog.longest:
            self._watchdog.expect(route.timeout)

    def execute(self, delivery: Delivery) -> Coroutine[Any, Any, Outcome]:
        """Takes a delivery with a route from its bytes to its outcome, through the middleware."""
        return self._chain(delivery)

    async def _deliver(self, delivery: Delivery) -> Outcome:
        message = delivery.message
        route: Route | None = delivery.route
        if message.problem:
            return DeadLettered("invalid", message.problem)
        if len(message.values) > EXPIRES and (late := expired(message)) is not None:
            return late
        if route is None:
            return _without_handler(message)
        data = message.values[DATA]
        if message.size or len(data) > self._settings.max_bytes:
            told = f"{message.size or len(data)} bytes of data are over the cap of {self._settings.max_bytes}"
            return DeadLettered("too_large", told)
        try:
            if self.claims is not None and data.startswith(MARK):
                data = await self.fetch(delivery)
            event = self.decode(delivery, route, data)
        except Undeliverable as error:
            return error.outcome
        current_delivery.set(delivery)
        try:
            if route.transaction is not None:
                handle = partial(self._handle, route, event, delivery)
                follow_ups = tuple(await route.transaction.run(delivery, handle))
                return Acked(follow_ups) if follow_ups else ACKED
            result = await route.call(event)
            if result is None:
                return ACKED
            follow_ups = await self.follow_ups(delivery, result)
            return Acked(follow_ups) if follow_ups else ACKED
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome: a panic, sys.exit()
            if (through := passes(error)) is not None:
                raise through from None
            return self.failed(delivery, error)

    async def _handle(self, route: Route, event: Event, delivery: Delivery) -> tuple[Message, ...]:
        result = await route.call(event)
        return await self.follow_ups(delivery, result) if result is not None else ()

    def is_claimed(self, delivery: Delivery) -> bool:
        """Whether the data of a message must be fetched first."""
        return self.claims is not None and delivery.message.values[DATA].startswith(MARK)

    async def fetch(self, delivery: Delivery) -> bytes:
        """Reads the data that a message has a claim on; raises `Undeliverable`."""
        assert self.claims is not None
        try:
            return await self.claims.fetch(delivery.message)
        except ValueError as error:
            raise Undeliverable(DeadLettered("invalid", describe(error))) from error
        except BaseException as error:  # a store that is away, or an object that is not there
            if passes(error) is not None:
                raise
            raise Undeliverable(self.failed(delivery, error)) from error

    def decode(self, delivery: Delivery, route: Route, data: bytes) -> Event:
        """Makes the event of a message; raises `Undeliverable`."""
        message = delivery.message
        try:
            if message.values[VERSION] == route.version:
                return route.decode(data, route.subscription.event.version)
            if 0 < message.version <= route.subscription.event.version:
                return route.decode(data, message.version)
        except BaseException as error:  # an upcaster is user code: what it raises, the message caused
            if passes(error) is not None:
                raise
            if self.claims is None and data.startswith(MARK):
                told = "the data is in a claim store; set STORAGE_URL and replay"
                raise Undeliverable(DeadLettered("invalid", told)) from error
            raise Undeliverable(DeadLettered("invalid", describe(error))) from error
        if message.version == 0:
            raise Undeliverable(DeadLettered("invalid", "dataversion is not a positive number"))
        raise Undeliverable(self._newer(delivery, route))

    def _newer(self, delivery: Delivery, route: Route) -> Outcome:
        """A message newer than this code waits for the deploy that knows it; it is nobody's failure yet."""
        version, known = delivery.message.version, route.subscription.event.version
        met = route.newer.get(version, 0) if version in route.newer or len(route.newer) < _VERSIONS else _NOTED
        if met < _NOTED:
            route.newer[version] = met + 1
        if not met:
            about = {"id": delivery.message.id, "type": delivery.message.type, "version": version, "known": known}
            log.warning("delivery.newer_than_code", group=delivery.group, **about)
        now = clock.now()
        carried = delivery.message.carried
        first_seen = written(carried.first_failed, now) if carried and carried.first_failed else now
        reason = f"version {version} is newer than this code, which knows {known}"
        waited = max(0.0, (now - first_seen).total_seconds())
        if waited >= self._settings.unsupported_for:
            return DeadLettered("unsupported", f"{reason}; it waited since {first_seen.isoformat()}")
        every = self._settings.unsupported_every  # the longer it waits, the rarer: many must not busy all for a day
        after = max(every, min(waited, _LONGEST_LOOK))
        return Snoozed(after, f"unsupported: {reason}", first_seen.isoformat(), noted=met < _NOTED)

    def failed(self, delivery: Delivery, error: BaseException) -> Outcome:
        """Decides what becomes of a delivery whose handler raised `error`."""
        if self.forked:
            end_child(error)
        return judge(delivery, error, opened=self.breaker.opened, random=self._rng.random)

    def failed_around(self, delivery: Delivery, error: BaseException) -> Outcome:
        """The same for what comes from a middleware; a handler's `GeneratorExit` is left to the slot too."""
        if type(error) is GeneratorExit:
            return self.failed(delivery, error)
        failure = Failure(error)
        about = {"id": delivery.message.id, "error": failure.text, "exception": failure.traceback}
        log.error("delivery.middleware_failed", group=delivery.group, **about)
        return self.failed(delivery, error)


def expired(message: Message) -> Outcome | None:
    """The outcome of a message that is not worth beginning any more, by this machine's clock: the publisher's expiry is
    a time of day, and `doctor` compares the clocks.
    """
    try:
        at = message.expires
    except ValueError as error:
        return DeadLettered("invalid", str(error))
    return Expired(at.isoformat()) if at is not None and clock.now() >= at else None


def _without_handler(message: Message) -> Outcome:
    if registered(message.type) is None:
        name = message.type or "(none)"
        return DeadLettered("unknown_type", f"no event is registered under the type {name[:128]}")
    return SKIPPED
