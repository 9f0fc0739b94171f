"""Failure policy: the outcome of a delivery whose handler raised, whatever it raised.

A group of exceptions is looked into, however deep: one signal or error in it decides as it does alone. Where there are
several kinds, the first of these that is there decides:

1. `DeadLetter`: the handler's own last word. Waiting cannot change it.
2. `Unavailable`: an outage is often why the others failed. Waiting costs no attempt, and loses nothing.
3. What a policy gives up on (`Backoff(give_up_on=...)`), and a follow-up that cannot be published.
4. Any other error, `Retry` among them: an attempt. It comes again after the longest time that was asked for.
5. `Snooze`, when there is nothing else: after the longest time that was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import UnionType
from typing import TYPE_CHECKING, Any, Final

from streams.durations import seconds
from streams.errors import TooLarge, Unpublishable
from streams.handlers.backoff import Backoff
from streams.logs import get_logger
from streams.messages.error_text import Failure, is_group, leaves
from streams.messages.outcome import DeadLetter, DeadLettered, Outcome, Retried, Retry, Snooze, Snoozed, Unavailable
from streams.redaction import one_line

if TYPE_CHECKING:
    from streams.messages.delivery import Delivery

log = get_logger("streams.verdict")

_DEPENDENCY: Final = 100  # characters
_WITHOUT_POLICY: Final = Backoff(attempts=1)


def signal(error: BaseException) -> BaseException:
    """What decides in a group of exceptions, and any other exception itself."""
    if not is_group(error):
        return error
    inside = leaves(error)
    for kind in (DeadLetter, Unavailable):
        if (found := _first(inside, kind)) is not None:
            return found
    errors = [each for each in inside if not issubclass(type(each), asyncio.CancelledError | Snooze)]
    plain = [each for each in errors if not issubclass(type(each), Retry)]
    if not errors:
        snoozes = [each for each in inside if issubclass(type(each), Snooze)]
        return max(snoozes, key=lambda each: _read(each, "after", seconds) or 0.0, default=inside[0])
    refused = _refused(plain)
    return refused if refused is not None else (*plain, *errors)[0]


def judge(
    delivery: Delivery,
    error: BaseException,
    *,
    opened: Callable[[str], float],
    random: Callable[[], float],
) -> Outcome:
    """The outcome of a delivery whose handler raised `error`; `opened` opens the breaker. Never raises."""
    inside = leaves(error)
    decides = signal(error)
    failure = Failure(error, decides)
    kind = type(decides)
    if issubclass(kind, DeadLetter):
        return DeadLettered("rejected", failure.text, failure.traceback)
    if issubclass(kind, Unavailable):
        dependency = _read(decides, "dependency", lambda given: one_line(str(given), _DEPENDENCY)) or "a dependency"
        return Snoozed(opened(dependency), f"unavailable: {failure.text}")
    if issubclass(kind, Snooze) and (after := _read(decides, "after", seconds)) is not None:
        return Snoozed(after, Failure(decides).message)
    if _refused(inside) is not None:
        return DeadLettered("failed", failure.text, failure.traceback)
    delay = _delay(delivery, error, random)
    if delay is None:
        return DeadLettered("failed", failure.text, failure.traceback)
    asked = [
        after
        for each in inside
        if issubclass(type(each), Retry | Snooze) and (after := _read(each, "after", seconds)) is not None
    ]
    if asked:
        is_asked_by_all = all(issubclass(type(each), Retry | Snooze) for each in inside)
        delay = max(asked) if is_asked_by_all else max(delay, *asked)
    return Retried(delay, failure.text)


def _delay(delivery: Delivery, error: BaseException, random: Callable[[], float]) -> float | None:
    policy: Backoff = delivery.route.retry if delivery.route else _WITHOUT_POLICY
    try:
        delay = policy.next_delay(delivery.attempt, error, random)
        return None if delay is None else seconds(delay)
    except Exception as wrong:  # noqa: BLE001 - a policy of the application
        log.error("retry.policy_failed", group=delivery.group, id=delivery.message.id, error=Failure(wrong).text)
        return Backoff().next_delay(delivery.attempt, error, random)


def _refused(inside: Sequence[BaseException]) -> BaseException | None:
    return _first(inside, TooLarge | Unpublishable)


def _first(inside: Sequence[BaseException], kind: type | UnionType) -> BaseException | None:
    return next((each for each in inside if issubclass(type(each), kind)), None)


def _read(error: BaseException, name: str, by: Callable[[Any], Any]) -> Any:
    """An attribute of a signal, or None where a subclass has none, or nonsense."""
    try:
        given = getattr(error, name)
        return None if given is None else by(given)
    except Exception:  # noqa: BLE001 - a property of a subclass
        return None
