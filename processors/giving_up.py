"""give_up: the requester hears of a failure that no retry will change. The last try of a delivery ends as an event, and
as a dead letter for the operator.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from streams import DeadLetter, Delivery, Event, Snooze, Streams, Unavailable
from streams.verdict import signal

log = structlog.get_logger(__name__)


def is_last_try(delivery: Delivery, error: Exception) -> bool:
    """Whether what a handler raised makes its delivery a dead letter."""
    decides = signal(error)
    if isinstance(decides, DeadLetter):
        return True
    if isinstance(decides, Snooze | Unavailable):
        return False
    return delivery.route is None or delivery.route.retry.next_delay(delivery.attempt, error) is None


def reason_of(delivery: Delivery, error: Exception) -> str:
    """What the requester is told. What went wrong in the code is for the operator, and may quote data."""
    decides = signal(error)
    if isinstance(decides, DeadLetter):
        return str(decides)[:400]
    tries = "once" if delivery.attempt == 1 else f"{delivery.attempt} times"
    return (
        f"something went wrong at our side ({type(decides).__name__}), and was tried {tries}; "
        f"the operator finds it as event {delivery.message.id}"
    )[:400]


async def give_up(
    streams: Streams, delivery: Delivery, error: Exception, failed: Callable[[str], Awaitable[Event]]
) -> None:
    """Publishes the event that `failed` makes of a reason, once for each time the delivery is given up. What keeps it
    from being published is logged: the error itself is what counts.
    """
    try:
        event = await failed(reason_of(delivery, error))
        await streams.publish(event, once=f"gave-up:{delivery.group}:{delivery.message.id}:{delivery.replays}")
    except Exception:
        log.exception("delivery.failure_not_published", group=delivery.group, id=delivery.message.id)
