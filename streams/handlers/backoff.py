"""Backoff: when a failed delivery is tried again, and which failures are worth it. Pure: no clock, no Redis."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streams.durations import Duration, seconds
from streams.messages.error_text import leaves


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with jitter and a cap.

    `attempts` is the number of tries in total: 3 means two retries, about 2 s and 4 s later. Attempt n is followed
    by a nominal `min(most, first * factor ** (n - 1))` seconds, spread evenly over a width of `jitter` times itself
    around itself: with the default 1.0 a nominal 2 s becomes 1 to 3 s. The spread keeps failures that began
    together from coming back together; centring it keeps the documented 2 s and 4 s true on average, which a spread
    from 0 would not.

    `give_up_on` names the classes of exceptions that go to the dead letters at once, also inside an `ExceptionGroup`:
    `give_up_on=(PermissionError, TypeError)`. None unless given: most errors of a handler pass, or are gone with the
    next deploy. Raises `ValueError` for an invalid value.
    """

    attempts: int = 3
    first: Duration = 2.0
    factor: float = 2.0
    most: Duration = 600.0
    jitter: float = 1.0
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            raise ValueError(f"attempts={self.attempts!r} must be a whole number")
        for name, given in (("factor", self.factor), ("jitter", self.jitter)):
            if isinstance(given, bool) or not isinstance(given, int | float):
                raise ValueError(f"{name}={given!r} must be a number")
        object.__setattr__(self, "give_up_on", _classes(self.give_up_on))
        if self.attempts < 1:
            raise ValueError(f"attempts={self.attempts} must be at least 1 (1 = no retry)")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter={self.jitter} must be between 0 and 1")
        if self.factor < 1:
            raise ValueError(f"factor={self.factor} must be at least 1")
        seconds(self.first), seconds(self.most)

    def next_delay(
        self, failures: int, error: BaseException, random: Callable[[], float] = random_module.random
    ) -> float | None:
        """Seconds until the next try after `failures` failed ones, or None for no further try.

        `random` returns a float in [0, 1); exponents that overflow meet the cap.
        """
        if failures >= self.attempts:
            return None
        if self.give_up_on and any(issubclass(type(each), self.give_up_on) for each in (error, *leaves(error))):
            return None
        most = seconds(self.most)
        try:
            nominal = min(most, seconds(self.first) * self.factor ** (failures - 1))
        except (OverflowError, ValueError):
            nominal = most
        return nominal * (1 - self.jitter / 2 + self.jitter * random())


def _classes(given: Any) -> tuple[type[BaseException], ...]:
    """The classes in `give_up_on`, which may be one class, or any collection of them."""
    classes = (given,) if isinstance(given, type) else given
    if not isinstance(classes, tuple | list | set | frozenset) or not all(
        isinstance(each, type) and issubclass(each, BaseException) for each in classes
    ):
        raise ValueError(f"give_up_on={given!r} must be classes of exceptions: give_up_on=(PermissionError,)")
    return tuple(classes)
