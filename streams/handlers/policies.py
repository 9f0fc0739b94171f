"""Policies: checks the options of a processor and its handlers, and refuses a wrong one in one line that says what to
write.
"""

from __future__ import annotations

import math
from datetime import timedelta
from numbers import Real
from typing import Any

from streams.durations import Duration, seconds
from streams.errors import StreamsError
from streams.handlers.backoff import Backoff
from streams.handlers.batch import Batch
from streams.handlers.callables import shown
from streams.handlers.limit import Limit
from streams.handlers.transaction import Transaction


def checked_retry(given: Any) -> Backoff | None:
    """The retry policy; raises `StreamsError` for anything else."""
    if given is None or isinstance(given, Backoff):
        return given
    attempts = given if isinstance(given, int) and not isinstance(given, bool) and given > 0 else 3
    raise StreamsError(f"retry={shown(given)} is no policy; write retry=Backoff(attempts={attempts})")


def checked_timeout(given: Any) -> float | None:
    """The timeout in seconds, or None; raises `StreamsError` unless it is over 0."""
    if given is None:
        return None
    asked = checked_duration("timeout", given)
    if asked <= 0:
        raise StreamsError(f"timeout={shown(given)} must be over 0 seconds; leave it out for the default")
    return asked


def checked_duration(name: str, given: Any) -> float:
    """A duration in seconds; raises `StreamsError` for what is neither a number of seconds nor a timedelta."""
    is_number = not isinstance(given, bool) and isinstance(given, Real) and math.isfinite(given)
    if not is_number and not isinstance(given, timedelta):
        raise StreamsError(f"{name}={shown(given)} must be a number of seconds or a timedelta: {name}=30")
    duration: Duration = given if isinstance(given, timedelta) else float(given)
    try:
        return seconds(duration)
    except ValueError as error:
        raise StreamsError(f"{name}: {error}") from None


def checked_number(name: str, given: Any, *, least: int = 1) -> int:
    """A whole number; raises `StreamsError` for anything else, and for one below `least`."""
    if isinstance(given, bool) or not isinstance(given, int):
        raise StreamsError(f"{name}={shown(given)} must be a whole number: {name}={max(least, 1)}")
    if given < least:
        raise StreamsError(
            f"{name}={given} must be at least {least}" if least else f"{name}={given} must not be negative"
        )
    return given


def checked_transaction(given: Any) -> Transaction | None:
    """The transaction; raises `StreamsError` for what has no `run`."""
    if given is None or (not isinstance(given, type) and callable(getattr(given, "run", None))):
        return given
    hint = f"{given.__name__}()" if isinstance(given, type) else "SqlInbox()"
    raise StreamsError(f"transaction={shown(given)} is no transaction; write transaction={hint}")


def checked_batch(given: Any) -> Batch | None:
    """The batch; raises `StreamsError` for anything else."""
    if given is None or isinstance(given, Batch):
        return given
    size = given if isinstance(given, int) and not isinstance(given, bool) and given > 0 else 500
    raise StreamsError(f"batch={shown(given)} is no batch; write batch=Batch(size={size})")


def checked_limit(given: Any) -> Limit | None:
    """The limit; raises `StreamsError` for anything else."""
    if given is None or isinstance(given, Limit):
        return given
    most = given if isinstance(given, int) and not isinstance(given, bool) and given > 0 else 5
    raise StreamsError(f"limit={shown(given)} is no limit; write limit=Limit(concurrency={most}) or Limit(rate={most})")
