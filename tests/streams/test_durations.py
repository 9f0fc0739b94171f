"""Durations: as people read them, and what is taken for one."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from streams.durations import format_duration, seconds

HOUR, DAY = 3_600.0, 86_400.0


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (None, "-"), (0.0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (10.0, "10 s"), (119.4, "119 s"),
        (120.0, "2 min"), (179.9, "2 min"), (2 * HOUR - 1, "119 min"), (2 * HOUR, "2 h"), (2 * HOUR + 300, "2 h 5 min"),
        (2 * DAY - 60, "47 h 59 min"), (2 * DAY, "2 d"), (4 * DAY + 3 * HOUR, "4 d 3 h"), (-0.4, "-0.4 s"),
        (-2 * HOUR, "-2 h"),
    ],
)  # fmt: skip
def test_a_duration_as_people_read_it(given: float | None, read: str) -> None:
    """At most two units, the larger one from twice its size on."""
    assert format_duration(given) == read


@pytest.mark.parametrize(
    "given", [1.5, Decimal("1.5"), Fraction(3, 2), timedelta(seconds=1.5), timedelta(milliseconds=1_500)]
)
def test_a_duration_is_seconds_or_a_timedelta(given: Any) -> None:
    assert seconds(given) == 1.5


def test_the_edges_of_a_duration() -> None:
    """None of nothing; up to ten years and not ten years."""
    assert seconds(0) == 0.0
    assert seconds(10 * 365 * DAY - 1) == 10 * 365 * DAY - 1
    for given in (-0.001, 10 * 365 * DAY, timedelta(seconds=-1), float("nan"), float("inf"), Decimal("sNaN"), 10**400):
        with pytest.raises(ValueError, match="between 0 and ten years"):
            seconds(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["5", "5s", True, None, [5], b"6"])
def test_what_is_no_duration_is_said(given: Any) -> None:
    """With how to write it."""
    with pytest.raises(ValueError, match=r"must be seconds, as 5, or a timedelta, as timedelta\(minutes=5\)"):
        seconds(given)
