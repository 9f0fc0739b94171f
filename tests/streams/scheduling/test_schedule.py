"""Schedules without Redis and without a clock: slots, time zones, the hours that are left out or come twice."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uncalled_for import Dependency

from streams import Depends, Processor, Slot, StreamsError
from streams.executing.calls import slot_parameter
from streams.scheduling.schedule import ON_TIME, Cron, Due, Every, Schedule, event_id, timing_of

PAGE: Final = Path(__file__).parents[3] / "docs" / "concepts" / "schedules.md"
MINUTE: Final = 60_000


def ms(text: str, zone: str = "UTC") -> int:
    """A local time in ms since 1970."""
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def shown(found: list[int], zone: str) -> list[str]:
    """Slots as local times with their offset."""
    return [f"{datetime.fromtimestamp(at / 1000, ZoneInfo(zone)):%H:%M%z}" for at in found]


def day(zone: str, when: str) -> tuple[int, int]:
    """The moments just before a local day and its end, which need not be 24 h apart."""
    begin, end = (
        datetime.combine(date.fromisoformat(when) + timedelta(days), time(), ZoneInfo(zone)) for days in (0, 1)
    )
    return round(begin.timestamp() * 1000) - 1, round(end.timestamp() * 1000) - 1


def documented() -> list[Any]:
    """The rows of the table of clock changes: zone, day, hours, and the slots of each schedule in the head."""
    section = PAGE.read_text(encoding="utf-8").split("## When the clocks change\n")[1].split("\n## ")[0]
    head, _, *rows = [
        [cell.strip().strip("`") for cell in line.strip("| \n").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    assert len({row[0] for row in rows}) == 6
    assert len(rows) == 12
    return [pytest.param(head[3:], row, id=f"{row[0]}-{row[1]}") for row in rows]


@pytest.mark.parametrize(("schedules", "row"), documented())
def test_two_clock_changes_in_six_zones_give_the_documented_counts(schedules: list[str], row: list[str]) -> None:
    zone, when, hours, *counts = row
    begin, end = day(zone, when)
    assert f"{(end - begin) / 3_600_000:g}" == hours, "the day is one on which the clocks change"
    assert hours != "24"
    found = {text: (Every.of(3600) if text == "every hour" else Cron(text, zone)) for text in schedules}
    assert [str(len(timing.slots_between(begin, end, 1000))) for timing in found.values()] == counts
    for text, timing in found.items():
        if "*/" in text or text.startswith("0 *"):  # counted again, by asking each minute of the day
            minute, hour = text.split()[:2]
            matches = [
                at
                for at in range(begin + 1, end + 1, MINUTE)
                if _matches(minute, (local := datetime.fromtimestamp(at / 1000, ZoneInfo(zone))).minute)
                and _matches(hour, local.hour)
            ]
            assert timing.slots_between(begin, end, 1000) == matches, text


def _matches(field: str, value: int) -> bool:
    if field.startswith("*/"):
        return value % int(field[2:]) == 0
    return field == "*" or int(field) == value


@pytest.mark.parametrize(
    ("zone", "expression", "when", "expected"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-03-29", ["03:00+0200"]),  # left out: right after the gap
        ("Europe/Berlin", "30 2 * * *", "2026-10-25", ["02:30+0200"]),  # repeated: the first time only
        ("Europe/Berlin", "0,30 2,3 * * *", "2026-03-29", ["03:00+0200", "03:30+0200"]),  # two fall together
        ("Europe/London", "15 1 * * *", "2026-03-29", ["02:00+0100"]),
        ("America/Santiago", "0 0 * * *", "2026-09-06", ["01:00-0300"]),  # midnight itself is left out
        ("America/Santiago", "30 23 * * *", "2026-04-04", ["23:30-0300"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-04", ["02:30+1100"]),  # half an hour is left out
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05", ["01:45+1100"]),
        ("Australia/Lord_Howe", "*/30 9 * * *", "2026-10-04", ["09:00+1100", "09:30+1100"]),  # cronsim alone: 09:30
        ("Australia/Lord_Howe", "*/30 2 * * *", "2026-04-05", ["02:00+1030", "02:30+1030"]),
        ("Europe/Berlin", "*/30 2 * * *", "2026-03-29", []),  # every so often: there is no such hour
        ("Europe/Berlin", "*/30 2 * * *", "2026-10-25", ["02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100"]),
    ],
)
def test_what_becomes_of_a_time_that_is_left_out_or_comes_twice(
    zone: str, expression: str, when: str, expected: list[str]
) -> None:
    begin, end = day(zone, when)
    assert shown(Cron(expression, zone).slots_between(begin, end, 100), zone) == expected


def test_a_scheduler_that_starts_in_the_repeated_hour_does_not_go_back() -> None:
    """At 02:10 for the second time, cronsim's next 02:30 is the first one, which is over."""
    second = datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
    moment = round(second.timestamp() * 1000)
    following = Cron("30 2 * * *", "Europe/Berlin").next_after(moment)
    assert following == ms("2026-10-26 02:30", "Europe/Berlin")


moments = st.integers(ms("2025-01-01"), ms("2028-01-01"))
expressions = st.builds(
    "{} {} * * {}".format,
    st.sampled_from(["0", "30", "15,45", "*/20", "59"]),
    st.sampled_from(["*", "0", "1", "2", "2,3", "23", "*/6"]),
    st.sampled_from(["*", "sun", "mon-fri"]),
)
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Pacific/Chatham"])


@settings(max_examples=150, deadline=None)
@given(expressions, zones, moments, st.integers(0, 20 * 1440), st.integers(1, 50))
def test_slots_do_not_depend_on_where_one_begins_to_look(
    expression: str, zone: str, begin: int, minutes: int, most: int
) -> None:
    """Processes that started at any time agree: looked for from a slot, or from between two, they are the same."""
    cron, end = Cron(expression, zone), begin + minutes * MINUTE
    found = cron.slots_between(begin, end, 100_000)
    assert found == sorted(set(found))
    assert all(begin < at <= end for at in found)
    assert cron.slots_between(begin, end, most) == found[-most:]
    for one, following in pairwise(found[:20]):
        assert cron.next_after(one) == following
        assert cron.next_after((one + following) // 2) == following
        assert cron.next_after(following - 1) == following


@given(st.integers(100, 10_000_000), moments, st.integers(0, 10_000_000), st.integers(1, 50))
def test_an_interval_is_counted_from_1970(interval: int, begin: int, length: int, most: int) -> None:
    every = Every(interval)
    following = every.next_after(begin)
    assert following is not None
    assert following % interval == 0
    assert begin < following <= begin + interval
    found = every.slots_between(begin, begin + length, most)
    assert len(found) == min(most, (begin + length) // interval - begin // interval)
    assert all(at % interval == 0 and begin < at <= begin + length for at in found)


# Missed slots --------------------------------------------------------------------------------------------------------


def minutely(misfire: str, most: int | None = None) -> Schedule:
    return Schedule("p.f", Every.of(60), lambda: None, misfire, most)  # type: ignore[arg-type]


NOON: Final = ms("2026-01-01 12:00")
LATE: Final = NOON + 45_000  # noon itself is missed as well


@pytest.mark.parametrize(
    ("misfire", "most", "fired", "dropped"),
    [("skip", None, 0, 10), ("once", None, 1, 9), ("all", None, 10, 0), ("all", 3, 3, 7)],
)
def test_ten_minutes_of_nobody_there(misfire: str, most: int | None, fired: int, dropped: int) -> None:
    due = minutely(misfire, most).due(NOON - 10 * MINUTE, LATE)
    assert (len(due.slots), due.dropped) == (fired, dropped)
    assert due.slots == tuple(NOON - MINUTE * back for back in reversed(range(fired)))
    assert due.until == NOON


@pytest.mark.parametrize(("misfire", "expected"), [("skip", [NOON]), ("once", [NOON]), ("all", 2)])
def test_what_is_on_time_is_not_missed(misfire: str, expected: Any) -> None:
    """Five seconds late is on time, whatever was missed before it; `once` covers both with one."""
    due = minutely(misfire, 1 if misfire == "all" else None).due(NOON - 10 * MINUTE, NOON + 5000)
    assert list(due.slots) == expected if isinstance(expected, list) else len(due.slots) == expected


@pytest.mark.parametrize("misfire", ["skip", "once", "all"])
def test_a_hiccup_is_no_missed_slot(misfire: str) -> None:
    """Up to 30 s late, each slot of a schedule by the second is fired."""
    schedule = Schedule("p.f", Every.of(1), lambda: None, misfire)  # type: ignore[arg-type]
    assert len(schedule.due(NOON, NOON + int(ON_TIME) * 1000).slots) == ON_TIME


def test_years_of_missed_seconds_are_not_walked_through() -> None:
    started = datetime.now(UTC)
    for timing in (Every.of(1), Cron("* * * * * *")):
        schedule = Schedule("p.f", timing, lambda: None, "all", 5)
        due = schedule.due(ms("2016-01-01"), NOON + 31_000)
        assert due.until == NOON + 31_000
        assert len(due.slots) == 5 + 31
    assert datetime.now(UTC) - started < timedelta(seconds=3)


def test_nothing_is_due_before_its_time() -> None:
    assert minutely("all").due(NOON, NOON + MINUTE - 1) == Due()
    assert minutely("all").due(NOON, NOON + MINUTE).slots == (NOON + MINUTE,)


# What cannot be meant ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.cron("0 7 * *"), r"processor p: cron '0 7 \* \*': Wrong number of fields; it is `minute hour"),
        (lambda p: p.cron("61 7 * * *"), "Bad minute"),
        (lambda p: p.cron("0 7 * * funday"), "Bad day-of-week"),
        (lambda p: p.cron("0 0 31 2 *"), "Bad day-of-month"),
        (lambda p: p.cron("0 0 30 2 */1#5"), "Bad day-of-week|never comes"),
        (lambda p: p.cron("0," * 150 + "0 7 * * *"), "at most 200"),
        (
            lambda p: p.cron("0 7 * * *", tz="Europe/Berlim"),
            "'Europe/Berlim' is not known; did you mean Europe/Berlin?",
        ),
        (lambda p: p.cron("0 7 * * *", tz="Europe"), "time zone 'Europe' is not known"),
        (lambda p: p.cron("0 7 * * *", tz="../../etc/passwd"), "passwd' is not known"),
        (lambda p: p.cron("0 7 * * *", tz=""), "'' is not known"),
        (lambda p: p.every(0), "an interval of 0 s is too short"),
        (lambda p: p.every(timedelta(microseconds=1)), "too short"),
        (lambda p: p.every(-1), r"every\(-1\): .* between 0 and ten years"),
        (lambda p: p.every(float("nan")), r"every\(nan\): .* between 0 and ten years"),
        (lambda p: p.every("5s"), "every"),
        (lambda p: p.every(5, misfire="twice"), "misfire='twice' must be skip, once or all"),
        (lambda p: p.every(5, most=3), "most=3 goes with misfire='all'"),
        (lambda p: p.every(5, misfire="all", most=0), "most=0"),
        (lambda p: p.every(5, priority="urgent"), "priority='urgent' must be one of high, normal, low"),
        (lambda p: p.every(5, key="k" * 201), "longer than 200 bytes"),
        (lambda p: p.every(5, name="new\nline"), "give name="),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_is_written(make: Any, message: str) -> None:
    """One line that says what, when the module is imported and not at the first slot."""
    processor = Processor("p")
    with pytest.raises(StreamsError, match=message) as refused:
        make(processor)(_nothing)
    assert "\n" not in str(refused.value).replace("'p.new\nline'", "")
    assert processor.schedules == {}


def _nothing() -> None:
    """Publishes nothing."""


def test_the_function_takes_the_slot_and_dependencies() -> None:
    processor = Processor("p")

    @processor.every(60)
    def without() -> None: ...

    @processor.every(60)
    async def with_both(slot: Slot, given: int = Depends(lambda: 1)) -> None: ...

    @processor.every(60, name="again")
    def given_alone(given: int = Depends(lambda: 1)) -> None: ...

    own = [slot_parameter(each.function) for each in processor.schedules.values()]
    assert [each.name if each else "" for each in own] == ["", "slot", ""]
    assert list(processor.schedules) == ["p.without", "p.with_both", "p.again"]
    with pytest.raises(StreamsError, match="takes the slot and dependencies, not slot, other"):
        processor.every(60, name="two")(lambda slot, other: None)
    with pytest.raises(StreamsError, match=re.escape("schedule 'p.<lambda>': give name=")):
        processor.every(60)(lambda: None)
    with pytest.raises(StreamsError, match=r"already has a schedule p\.again"):
        processor.every(60, name="again")(without)


def test_the_slot_is_told_in_the_zone_of_its_schedule() -> None:
    schedule = Schedule("p.f", Cron("0 7 * * mon-fri", "Europe/Berlin"), _nothing)
    at = schedule.timing.next_after(ms("2026-07-03 12:00"))
    assert at is not None
    slot = schedule.slot(at, at + 1500)
    assert slot == Slot("p.f", datetime(2026, 7, 6, 7, tzinfo=ZoneInfo("Europe/Berlin")), timedelta(seconds=1.5))
    assert slot.at.utcoffset() == timedelta(hours=2)
    assert schedule.timing.explain() == "At 07:00 on Monday through Friday"


def test_an_id_is_the_same_wherever_it_is_made() -> None:
    first = event_id("app", "p.f", "slot", NOON, 0)
    assert first == event_id("app", "p.f", "slot", NOON, 0)
    others = [
        ("app2", "p.f", "slot", NOON, 0), ("app", "p.g", "slot", NOON, 0), ("app", "p.f", "run", NOON, 0),
        ("app", "p.f", "slot", NOON + 1, 0), ("app", "p.f", "slot", NOON, 1),
    ]  # fmt: skip
    assert len({first, *(event_id(*other) for other in others)}) == 6
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", first)
    assert int(first.replace("-", "")[:12], 16) == NOON


@pytest.mark.parametrize("timing", [Cron("5 4 * * *", "Asia/Kolkata"), Every.of(90)])
def test_a_definition_is_read_back(timing: Cron | Every) -> None:
    assert timing_of(Schedule("p.f", timing, _nothing).definition("p")) == timing
    for wrong in ({}, {"cron": 5}, {"cron": "x"}, {"every_ms": 0}, {"cron": "0 0 * * *", "tz": "Nowhere"}):
        with pytest.raises(StreamsError):
            timing_of(wrong)


def test_the_last_values_that_a_schedule_takes() -> None:
    """And the first ones that it does not."""

    def made(**given: Any) -> Schedule:
        processor = Processor("edges")
        processor.every(60, **{"name": "n"} | given)(lambda: None)
        (schedule,) = processor.schedules.values()
        return schedule

    longest = "0," * 95 + "00 * * * *"
    assert len(longest) == 200
    assert Cron(longest).expression == longest
    with pytest.raises(StreamsError, match="at most 200 characters"):
        Cron("0," * 95 + "000 * * * *")
    assert made(key="ü" * 100).key == "ü" * 100
    with pytest.raises(StreamsError, match="ordering key is longer than 200 bytes"):
        made(key="ü" * 100 + "k")
    assert made(misfire="all", most=1).most == 1
    assert made(misfire="all", most=1000).most == 1000
    for most in (0, 1001):
        with pytest.raises(StreamsError, match="goes with misfire='all'"):
            made(misfire="all", most=most)


class _Single(Dependency[int]):
    single = True

    async def __aenter__(self) -> int:
        return 1


def test_a_schedule_with_dependencies_that_exclude_each_other_is_refused_where_it_is_declared() -> None:
    def broken(one: int = _Single(), other: int = _Single()) -> None:  # type: ignore[assignment]
        """It may have one of them."""

    with pytest.raises(StreamsError, match=r"schedule edges\.broken: .*_Single"):
        Processor("edges").every(60, name="broken")(broken)
