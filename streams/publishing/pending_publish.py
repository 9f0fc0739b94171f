"""PendingPublish: what one caller has asked to publish, while it is not in Redis yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from streams.messages.message import DATA

if TYPE_CHECKING:
    from streams.messages.message import Message


class PendingPublish:
    """The messages of one caller of `publish()`, until when it waits (loop time, seconds), and what came of it."""

    __slots__ = ("deadline", "error", "first", "future", "has_ended", "messages", "replicated", "size")

    def __init__(self, messages: Sequence[Message], deadline: float) -> None:
        self.messages = messages
        self.deadline = deadline
        self.replicated = bool(messages) and messages[0].replicated
        self.future: asyncio.Future[None] | None = None
        self.error: BaseException | None = None
        self.has_ended = False
        self.size = sum([len(message.values[DATA]) for message in messages])  # bytes of data
        self.first = 0  # the position of its first message in the script call

    def end(self, error: BaseException | None) -> None:
        """Gives the caller its result, once: None when the messages are in Redis."""
        if self.has_ended:
            return
        self.error, self.has_ended = error, True
        if self.future is not None and not self.future.done():
            if error is None:
                self.future.set_result(None)
            else:
                self.future.set_exception(error)


def in_order(batch: Sequence[PendingPublish]) -> list[Message]:
    """The messages of one script call, and where in it those of each caller are."""
    messages: list[Message] = []
    for waiting in batch:
        waiting.first = len(messages)
        messages += waiting.messages
    return messages
