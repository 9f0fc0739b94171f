"""Moments: what an option takes for a time, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streams import Streams
from streams.cli.exit import Usage
from streams.cli.times import parse_age, parse_duration, parse_instant, parse_moment, parse_seconds
from tests.cli.conftest import Cli, Command
from tests.support.events import Noted


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
        ("18446744073709551616-0", "is no entry id"),
        ("\u0661\u0662-0", "is neither"),
        ("0001-01-01T00:00:00+14:00", "is beyond the years"),
    ],
)
def test_what_is_no_time_is_refused_by_the_name_of_its_option(text: str, says: str) -> None:
    with pytest.raises(Usage, match=f"--from.*{says}"):
        parse_moment(text, "--from")


def test_an_age_is_a_duration_or_the_time_since_an_instant() -> None:
    assert parse_age("90m", "--since") == parse_age("1h30m", "--since") == timedelta(minutes=90)
    for text in ("-2h", (datetime.now(UTC) - timedelta(hours=2)).isoformat()):
        assert timedelta(minutes=119) < parse_age(text, "--since") < timedelta(minutes=121)
    for text, says in (("2999-01-01T00:00:00Z", "is in the future"), ("90", "is no duration"), ("soon", "is neither")):
        with pytest.raises(Usage, match=f"--since.*{says}"):
            parse_age(text, "--since")


def test_a_number_alone_is_seconds_only_where_it_cannot_be_days() -> None:
    assert (parse_seconds("5", "--wait"), parse_seconds("500ms", "--wait"), parse_seconds("2m", "--wait")) == (
        5,
        0.5,
        120,
    )
    for text in ("nan", "-1", "inf", "1e99", "soon"):
        with pytest.raises(Usage, match="--wait"):
            parse_seconds(text, "--wait")
    with pytest.raises(Usage, match=r"--every.*at least 0\.2"):
        parse_seconds("0.1", "--every", least=0.2)
    with pytest.raises(Usage, match="--older-than"):
        parse_duration("30", "--older-than")


def test_an_entry_id_is_no_time() -> None:
    assert parse_instant("now", "--at") is None
    with pytest.raises(Usage, match="--at '1763960000000-0' is neither"):
        parse_instant("1763960000000-0", "--at")


async def test_tail_and_replay_take_the_same_times(cli: Cli, client: Streams) -> None:
    """A time ago, a time with its zone, an entry id: what one of them reads from, the other does too."""
    await client.publish(Noted(n=1))
    between = datetime.now(UTC) + timedelta(hours=1)
    for text, count in (("-1h", 1), ("2026-01-01T00:00:00Z", 1), (between.isoformat(), 0), ("now", 0), ("1-0", 1)):
        tailed = await cli("tail", "notes", "--from", text, "--json")
        assert (tailed.code, len(tailed.json())) == (0, count), (text, tailed)
        if count:
            planned = await cli("replay", "notes", "--group", "probe", "--from", text, "--dry-run", "--json")
            assert planned.code in (0, 1), planned  # 1: there is no such group
            assert "neither" not in planned.err, planned


@pytest.mark.parametrize(
    "arguments",
    [
        ("tail", "users", "--from", "soon"), ("replay", "users", "--group", "g", "--to", "soon"),
        ("publish", "UserRegistered", "--at", "soon"), ("publish", "UserRegistered", "--delay", "soon"),
        ("dead", "ls", "email", "--since", "soon"), ("trim", "users", "--older-than", "soon"),
        ("schedules", "run", "a.b", "--wait", "soon"), ("status", "--watch", "--every", "soon"),
    ],
)  # fmt: skip
def test_every_option_refuses_alike(command: Command, arguments: tuple[str, ...]) -> None:
    """By its name, with what it takes, exit code 2."""
    command(*arguments).refused(2, arguments[-2], "'soon'")
