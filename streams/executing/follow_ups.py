"""Follow-ups: the messages of the events that a handler returned, which the settlement publishes with the ack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from streams.errors import TooLarge, Unpublishable
from streams.logs import get_logger
from streams.messages.error_text import describe
from streams.messages.middleware import Middleware, publish_chain
from streams.publishing.envelope import Envelope
from streams.publishing.returned_events import RETURNS, events_in

if TYPE_CHECKING:
    from streams.app import App
    from streams.events.event import Event
    from streams.messages.delivery import Delivery
    from streams.messages.message import Message

log = get_logger("streams.follow_ups")

_NOTHING: Final[Mapping[int, bytes]] = {}


class FollowUps:
    """Those of one processor."""

    def __init__(self, client: App, middleware: Sequence[Middleware]) -> None:
        self._client = client
        self._envelope = Envelope(client)
        self._stage = publish_chain(middleware, _staged)

    async def of(self, delivery: Delivery, result: Any, carries: Mapping[int, bytes] = _NOTHING) -> tuple[Message, ...]:
        """Makes the messages of the events in what a handler returned. What is none is left out, and logged once for a
        handler: its effect is done, and another try would repeat it. They are made with the
        attributes that `carries` has. Raises `TooLarge` and `Unpublishable`.
        """
        events, other = await events_in(result)
        route, client = delivery.route, self._client
        if other and route is not None and not route.returned:
            route.returned = True
            about = {"id": delivery.message.id, "handler": route.subscription.name, "returned": other}
            log.warning("handler.returned_ignored", group=delivery.group, **about, remedy=RETURNS)
        if not events:
            return ()
        # In the partition of their cause: they and its ack are one script, which touches one slot.
        partition = client.partition_of(delivery.source)
        messages = tuple(self._message(event, delivery.message, partition) for event in events)
        for message in messages if carries else ():
            for attribute, value in carries.items():
                message.values[attribute] = value
        if client.claims is not None:
            await client.claims.check_in(messages, client.settings.max_bytes)
        await self._stage(messages)
        return messages

    def _message(self, event: Event, cause: Message, partition: int) -> Message:
        try:
            return self._envelope.wrap(event, cause=cause, partition=partition)
        except TooLarge:
            raise
        except Unpublishable as error:  # its text begins with the event's type
            raise Unpublishable(f"the follow-up {error}") from error
        except Exception as error:
            raise Unpublishable(f"the follow-up {type(event).type} cannot be published: {describe(error)}") from error


async def _staged(messages: Sequence[Message]) -> None:
    """The end of the publish chain for follow-ups: the settlement publishes them."""
