"""History: the record that a group keeps of a delivery that was not a plain success (see `Keys.history`), and its line
in the log.
"""

from __future__ import annotations

import getpass
import socket
from itertools import chain
from typing import TYPE_CHECKING

from streams import clock
from streams.logs import get_logger
from streams.messages.message import ID, TYPE
from streams.messages.outcome import DeadLettered, Expired, Outcome, Retried, Snoozed

if TYPE_CHECKING:
    from streams.messages.delivery import Delivery
    from streams.messages.message import Message


log = get_logger("streams.settlement")


def operator() -> str:
    """The operator's name for the history: user@host, or the host alone for a user without a name (many containers)."""
    try:
        user = f"{getpass.getuser()}@"
    except (OSError, KeyError):
        user = ""
    return f"{user}{socket.gethostname()}".encode("utf-8", "backslashreplace").decode()  # LOGNAME may be any bytes


def record(
    message: Message,
    outcome: str,
    *,
    attempt: int,
    deliveries: int,
    by: str,
    reason: str = "",
    error: str = "",
    after: float = 0.0,
    at: str = "",
) -> list[bytes]:
    """The entry's names and values, flat: event, outcome, reason, consumer (or operator), and time (RFC 3339, UTC, now
    unless given). `after` is in seconds.
    """
    values = {
        b"id": message.values[ID],
        b"type": message.values[TYPE],
        b"outcome": outcome.encode(),
        b"attempt": b"%d" % attempt,
        b"deliveries": b"%d" % deliveries,
        b"reason": reason.encode(),
        b"error": error.encode(),
        b"after": b"%.3f" % after,
        b"consumer": by.encode(),
        b"at": (at or clock.now().isoformat(timespec="milliseconds")).encode(),
    }
    return list(chain.from_iterable(values.items()))


def log_outcome(delivery: Delivery, outcome: Outcome) -> None:
    """Logs the outcome of a delivery: one line for each that was not a plain success."""
    about = {"group": delivery.group, "id": delivery.message.id, "type": delivery.message.type}
    match outcome:
        case Retried(after=after, error=error):
            log.warning("delivery.retried", **about, attempt=delivery.attempt, after=round(after, 2), error=error)
        case DeadLettered(reason=reason, error=error):
            log.error("delivery.dead_lettered", **about, attempt=delivery.attempt, reason=reason, error=error)
        case Snoozed(after=after, reason=reason, noted=True):
            log.info("delivery.snoozed", **about, after=round(after, 2), reason=reason)
        case Expired(at=at):
            log.warning("delivery.expired", **about, expired_at=at)
        case _:
            log.debug("delivery.ended", **about, outcome=type(outcome).__name__)
