"""Moments: what an option takes for a time, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streams.cli.exit import Usage
from streams.cli.times import parse_moment


def test_what_is_taken_for_a_time() -> None:
    assert parse_moment("", "--from") is parse_moment("now", "--from") is None
    assert parse_moment("1763960000000-0", "--from") == "1763960000000-0"
    assert parse_moment("2026-11-24T09:00:00+01:00", "--from") == datetime(2026, 11, 24, 8, tzinfo=UTC)
    ago = parse_moment("-1h", "--from")
    assert isinstance(ago, datetime)
    assert timedelta(minutes=59) < datetime.now(UTC) - ago < timedelta(minutes=61)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-11-24T09:00:00", "has no time zone"),
        ("2026-11-24", "has no time zone"),
        ("soon", "is neither"),
        ("-1", "-"),
    ],
)
def test_what_is_no_time_is_refused_by_the_name_of_its_option(text: str, says: str) -> None:
    with pytest.raises(Usage, match=f"--from.*{says}"):
        parse_moment(text, "--from")
