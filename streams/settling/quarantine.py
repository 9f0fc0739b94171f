"""Quarantine: outcomes that Redis refuses (a dead-letter stream that takes no entry any more, a key of another type).

Their handlers have run, so they are kept, beside all others, and tried again until the key is repaired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from streams.logs import get_logger
from streams.messages.outcome import ACKED, SKIPPED, Acked, Outcome

if TYPE_CHECKING:
    from streams.messages.delivery import Delivery, Holder

log = get_logger("streams.settlement")

_AGAIN: Final = 5.0  # seconds until they are tried again


class Aside:
    """Those of one consumer in one partition, which their holder is given again when it is time."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._refused: dict[Delivery, Outcome] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return bool(self._refused)

    def put(
        self, refused: Sequence[tuple[Delivery, Outcome]], why: dict[Delivery, str], settled: Sequence[Delivery]
    ) -> None:
        """Takes what was refused, and lets go of what is settled."""
        back = [delivery for delivery in settled if self._refused.pop(delivery, None) is not None]
        if back:
            self._holder.on_refused(back, False)
        fresh = [delivery for delivery, _ in refused if delivery not in self._refused]
        self._refused.update(refused)
        if fresh:
            self._holder.on_refused(fresh, True)
        if refused:
            ids = [delivery.message.id for delivery, _ in refused][:5]
            error = min(why.values())[:300]
            log.error("settlement.refused", group=self._holder.group, count=len(self._refused), ids=ids, error=error)
        if self._refused and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_AGAIN, self._again)

    def _again(self) -> None:
        self._timer = None
        for delivery, outcome in self._refused.items():
            self._holder.settle(delivery, outcome)

    def stop(self) -> None:
        """Gives up: what is left is pending, and others take it over."""
        if self._timer is not None:
            self._timer.cancel()


def first_of(
    waiting: list[tuple[Delivery, Outcome]], most: int, size_most: int
) -> tuple[list[tuple[Delivery, Outcome]], list[tuple[Delivery, Outcome]]]:
    """The first outcomes, up to so many, and to so many bytes of messages that are written again; and the rest."""
    count = size = 0
    for delivery, outcome in waiting[:most]:
        if outcome is not ACKED and outcome is not SKIPPED:
            size += _size(delivery, outcome)
            if count and size > size_most:
                break
        count += 1
    return waiting[:count], waiting[count:]


def _size(delivery: Delivery, outcome: Outcome) -> int:
    """The bytes that settling it may write."""
    follow_ups = outcome.follow_ups if isinstance(outcome, Acked) else ()
    return len(delivery.message.data) + sum(len(each.data) for each in follow_ups)


def halves(batch: Sequence[tuple[Delivery, Outcome]]) -> Iterator[list[tuple[Delivery, Outcome]]]:
    """A batch in two; what shares an outcome stays together: its follow-ups are published once. None of one alone."""
    together: dict[int, list[tuple[Delivery, Outcome]]] = {}
    for number, settled in enumerate(batch):
        outcome = settled[1]
        shared = isinstance(outcome, Acked) and outcome.shared
        together.setdefault(id(outcome) if shared else -number - 1, []).append(settled)
    units = list(together.values())
    if len(units) > 1:
        for part in (units[: len(units) // 2], units[len(units) // 2 :]):
            yield [settled for unit in part for settled in unit]
