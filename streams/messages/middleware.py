"""Middleware: the one extension seam. It wraps publishing, delivering and settling; tracing and metrics hang here.

Every method is given `call_next` and must call it exactly once and return what it returned. A middleware that
raises before `call_next` fails that publish or delivery, so instrumentation must guard itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from streams.messages.error_text import name_of_class

if TYPE_CHECKING:
    from streams.messages.delivery import Delivery
    from streams.messages.message import Message
    from streams.messages.outcome import Outcome

Publish = Callable[[Sequence["Message"]], Awaitable[None]]
Deliver = Callable[["Delivery"], Coroutine[Any, Any, "Outcome"]]
DeliverBatch = Callable[[Sequence["Delivery"]], Awaitable[Sequence["Outcome"]]]
Settle = Callable[[Sequence[tuple["Delivery", "Outcome"]]], Awaitable[None]]


class NoOutcome(Exception):
    """A middleware returned something else than the outcome that `call_next` gave it."""

    def __init__(self, returned: object) -> None:
        name = name_of_class(returned)
        super().__init__(f"a middleware returned {name} in the place of an outcome; write return await call_next(...)")


class Middleware:
    """Override what you need; the defaults pass through and cost nothing, because they are left out of the chain."""

    def wants(self, delivery: Delivery) -> bool:
        """Says whether `deliver` shall wrap this delivery. Called for every message: keep it to a look at a flag."""
        return True

    async def publish(self, messages: Sequence[Message], call_next: Publish) -> None:
        """Wraps the publishing of new messages (by a service, or as follow-ups of a handler, before the ack).

        It may set `message.values[TRACEPARENT]` and `[TRACESTATE]` before `call_next`, and nothing else.
        """
        await call_next(messages)

    async def deliver(self, delivery: Delivery, call_next: Deliver) -> Outcome:
        """Wraps one delivery from decoding to its outcome."""
        return await call_next(delivery)

    async def deliver_batch(self, deliveries: Sequence[Delivery], call_next: DeliverBatch) -> Sequence[Outcome]:
        """Wraps one call of a batch handler, from its events (decoded already) to their outcomes, in the same order.

        It is called when `wants` says so of one of them. What cannot be decoded, or is handled alone, goes through
        `deliver`. When the batch fails as a whole, `call_next` raises, and each of its events is handled alone next.
        """
        return await call_next(deliveries)

    async def settle(self, settled: Sequence[tuple[Delivery, Outcome]], call_next: Settle) -> None:
        """Wraps the settling of a batch; after `call_next` the outcomes are durable."""
        await call_next(settled)


def publish_chain(middleware: Sequence[Middleware], last: Publish) -> Publish:
    """Builds the publish chain, the first middleware outermost; those that do not override it are left out."""
    chain = last
    for layer in reversed(middleware):
        if type(layer).publish is not Middleware.publish:
            chain = _PublishLink(layer, chain)
    return chain


def settle_chain(middleware: Sequence[Middleware], last: Settle) -> Settle:
    """Builds the settle chain likewise."""
    chain = last
    for layer in reversed(middleware):
        if type(layer).settle is not Middleware.settle:
            chain = _SettleLink(layer, chain)
    return chain


def deliver_chain(middleware: Sequence[Middleware], last: Deliver) -> Deliver:
    """Builds the deliver chain; each link asks `wants` first, so an unsampled delivery costs one look a layer."""
    chain = last
    for layer in reversed(middleware):
        if type(layer).deliver is not Middleware.deliver:
            chain = _DeliverLink(layer, chain)
    return chain if all(iscoroutinefunction(layer.deliver) for layer in middleware) else _awaited(chain)


def _awaited(chain: Deliver) -> Deliver:
    """A chain that returns a coroutine, whatever a plain `def deliver` of a middleware returns."""

    async def deliver(delivery: Delivery) -> Outcome:
        return await chain(delivery)

    return deliver


def batch_chain(middleware: Sequence[Middleware], last: DeliverBatch) -> DeliverBatch:
    """Builds the chain around one call of a batch handler likewise."""
    chain = last
    for layer in reversed(middleware):
        if type(layer).deliver_batch is not Middleware.deliver_batch:
            chain = _BatchLink(layer, chain)
    return chain


class _PublishLink:
    def __init__(self, layer: Middleware, call_next: Publish) -> None:
        self._layer, self._next = layer, call_next

    def __call__(self, messages: Sequence[Message]) -> Awaitable[None]:
        return self._layer.publish(messages, self._next)


class _SettleLink:
    def __init__(self, layer: Middleware, call_next: Settle) -> None:
        self._layer, self._next = layer, call_next

    def __call__(self, settled: Sequence[tuple[Delivery, Outcome]]) -> Awaitable[None]:
        return self._layer.settle(settled, self._next)


class _DeliverLink:
    def __init__(self, layer: Middleware, call_next: Deliver) -> None:
        self._layer, self._next = layer, call_next

    def __call__(self, delivery: Delivery) -> Coroutine[Any, Any, Outcome]:
        if self._layer.wants(delivery):
            return self._layer.deliver(delivery, self._next)
        return self._next(delivery)


class _BatchLink:
    def __init__(self, layer: Middleware, call_next: DeliverBatch) -> None:
        self._layer, self._next = layer, call_next

    def __call__(self, deliveries: Sequence[Delivery]) -> Awaitable[Sequence[Outcome]]:
        if any(map(self._layer.wants, deliveries)):
            return self._layer.deliver_batch(deliveries, self._next)
        return self._next(deliveries)
