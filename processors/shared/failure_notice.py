"""The notice of an event that was dead-lettered, for its requester: the reason in words, and a note in the database."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeVar

import structlog

from streams import DeadLettered, Delivery, Retry, Unavailable

log = structlog.get_logger(__name__)

_T = TypeVar("_T")
_LONGEST: Final = 400  # characters


def reason_of(delivery: Delivery, letter: DeadLettered) -> str:
    """Why it was dead-lettered, for the requester. An error of the code is for the operator, and may quote data."""
    what, _, why = letter.error.partition(": ")
    if letter.reason == "rejected" or what == Retry.__name__:  # words of our own
        return (why or letter.error)[:_LONGEST]
    if letter.reason == "crashed":
        found = f": each of {delivery.crashes} processes ended while it worked on this"
    else:
        found = f" ({what}), and was tried {'once' if delivery.attempt == 1 else f'{delivery.attempt} times'}"
    where = f"the operator finds it as event {delivery.message.id}"
    return f"something went wrong at our side{found}; {where}"[:_LONGEST]


async def noted(note: Awaitable[_T]) -> _T | None:
    """What a note in the database returns; None when it cannot be made, which is logged: the requester hears all the
    same. Raises `Unavailable` while the database is away.
    """
    try:
        return await note
    except Unavailable:
        raise
    except Exception:
        log.exception("delivery.failure_not_noted")
        return None
