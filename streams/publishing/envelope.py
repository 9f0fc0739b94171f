"""Envelope: from an event to its message: its id, its cause, its partition and its stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.errors import TooLarge
from streams.events.event import Event, Priority
from streams.messages.delivery import current_delivery
from streams.messages.message import Message
from streams.messages.publishable import checked_event, checked_key, checked_once
from streams.redis.keys import checked_priority

if TYPE_CHECKING:
    from streams.app import App


class Envelope:
    """Makes the messages of one app."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._targets: dict[tuple[int, type[Event], Priority | None], str] = {}
        self._source = app.settings.source or f"/{app.settings.app}"

    def wrap(
        self,
        event: Event,
        *,
        when: str = "",
        key: str = "",
        priority: Priority | None = None,
        once: str = "",
        cause: Message | None = None,
        id: str = "",
        partition: int | None = None,
        expires: str = "",
    ) -> Message:
        """Wraps an event for its stream; inside a handler it names the handled event as its cause.

        Its partition is that of its key; of its `once` name, so that the same name always meets; or of its id.
        """
        if cause is None:
            delivery = current_delivery.get(None)  # None in a batch too: which event of it would be the cause?
            cause = delivery.message if delivery is not None else None
        if key != "":
            checked_key(key)
        if once != "":
            checked_once(once)
        if partition is None:
            id = id or self._app.new_id()
            partition = self._app.partition_for(key or once or id)
        kind = type(event)
        if priority is not None:
            checked_priority(priority)
        target = self._targets.get((partition, kind, priority))
        if target is None:  # the first of its class
            checked_event(event)
            keys = self._app.partitions[partition].keys
            target = self._targets[partition, kind, priority] = keys.stream(
                kind.stream, priority or kind.usual_priority
            )
        message = Message.for_event(
            event, source=self._source, target=target, when=when, key=key, cause=cause, id=id, expires=expires
        )
        message.once = self._app.partitions[partition].keys.once(once) if once else ""
        most = self._app.settings.max_bytes if self._app.claims is None else self._app.claims.most
        if len(message.data) > most:
            raise TooLarge(
                f"{kind.type}: {len(message.data)} bytes are over the cap of {most}; set STORAGE_URL, or store "
                "the large part elsewhere and publish a reference (or raise STREAMS_MAX_BYTES here and at consumers)"
            )
        return message

    def address(self, message: Message, stream: str, *, priority: Priority = "normal", once: str = "") -> None:
        """Gives a message that was made elsewhere its `target`, and the key of its `once`."""
        partition = self._app.partitions[self._app.partition_for(message.key or once or message.id)]
        message.target = partition.keys.stream(stream, priority)
        message.once = partition.keys.once(once) if once else ""
