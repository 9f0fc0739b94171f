"""What people give to `publish()` by mistake: one line that says so, for every client, and nothing is published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr
from sqlalchemy import create_engine, func, select

from streams import Backoff, Event, Processor, Settings, StreamsError, SyncStreams, Unpublishable
from streams.sql.outbox import Outbox
from streams.sql.tables import metadata, outbox
from streams.testing import Harness
from tests.support.events import Noted

NAN = float("nan")


class Like(BaseModel):
    """A model that is no event."""

    n: int = 1


class OddPublished(Event, stream="notes"):
    """An event whose values are not known before."""

    n: int = 0
    anything: Any = None


NO_EVENTS: list[tuple[Any, str]] = [
    ({"n": 1}, "a dict is no event"),
    (None, "None is no event"),
    ([Noted(n=1)], "a list is no event"),
    (Noted, r"the class Noted itself \(call it: Noted\(\.\.\.\)\) is no event"),
    (Like(), "a Like is no event"),
    ("Noted", "a str is no event"),
    (Event(), "Event has no stream"),
    (Noted.model_construct(n="x"), r"Noted: n could not be read"),
    (Noted(n=1, text="\udc80"), r"Noted: text cannot be published.*lone surrogate"),
    (OddPublished(anything=NAN), "OddPublished: anything would not arrive.*no NaN"),
    (OddPublished(anything=b"\xff"), "OddPublished: anything cannot be published.*UTF-8"),
    (OddPublished(anything={(1, 2): 3}), "OddPublished: anything has a key"),
    (OddPublished(anything=(1, 2)), "OddPublished: anything would not arrive.*a tuple would be read as a list"),
    (OddPublished(anything=object()), "OddPublished: anything cannot be published"),
]

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"delay": "5s"}, "delay=: duration '5s' must be seconds, as 5, or a timedelta"),
    ({"delay": "5"}, "must be seconds"),
    ({"delay": True}, "must be seconds"),
    ({"delay": [5]}, "must be seconds"),
    ({"delay": NAN}, "between 0 and ten years"),
    ({"delay": float("inf")}, "between 0 and ten years"),
    ({"delay": -1}, "between 0 and ten years"),
    ({"delay": timedelta(seconds=-1)}, "between 0 and ten years"),
    ({"delay": 10**400}, "between 0 and ten years"),
    ({"delay": Decimal("sNaN")}, "between 0 and ten years"),
    ({"key": 7}, r"key=7 must be text, as key=str\(order_id\)"),
    ({"key": None}, "key=None must be text"),
    ({"key": b"k"}, "key=bytes must be text"),
    ({"key": "k" * 201}, "the ordering key is longer than 200 bytes"),
    ({"key": "\udc80"}, "key= has a lone surrogate"),
    ({"priority": "hi"}, "priority='hi' must be one of high, normal, low"),
    ({"priority": ["high"]}, "must be one of high"),
    ({"priority": ""}, "must be one of high"),
]

WRONG_FOR_CLIENTS: list[tuple[dict[str, Any], str]] = [
    ({"at": datetime(2030, 1, 1)}, "at=2030-01-01T00:00:00 has no time zone"),  # noqa: DTZ001 - the mistake
    ({"at": "2030-01-01T00:00:00Z"}, "at='2030-01-01T00:00:00Z' must be an aware datetime"),
    ({"at": date(2030, 1, 1)}, "at=date must be an aware datetime"),
    ({"at": 1_900_000_000}, "at=1900000000 must be an aware datetime"),
    ({"at": datetime(2020, 1, 1, tzinfo=UTC)}, "is in the past"),
    ({"at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))}, "beyond the years 1 to 9999"),
    ({"at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 1}, "give delay= or at=, not both"),
    ({"expires": 5}, "expires=5 must be an aware datetime or a timedelta"),
    ({"expires": "5s"}, "expires='5s' must be"),
    ({"expires": timedelta.max}, "after the year 9999"),
    ({"expires": timedelta(seconds=-1)}, "before the event would be handled"),
    ({"once": 7}, "once=7 must be text"),
    ({"once": None}, "once=None must be text"),
    ({"once": "o" * 1001}, "once= is longer than 1000 bytes"),
    ({"once": "\ud800"}, "once= has a lone surrogate"),
]


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    """A client without a server."""
    async with Harness() as streams:
        yield streams


async def is_empty(streams: Harness) -> bool:
    """Whether nothing was published or waits."""
    keys, redis = streams.keys, streams.redis
    return not await redis.exists(keys.stream("notes"), keys.stream("notes", "high"), keys.due(), keys.waiting())


def one_line(refused: pytest.ExceptionInfo[BaseException]) -> bool:
    """Whether an error is as short as an error should be."""
    return "\n" not in str(refused.value) and len(str(refused.value)) < 500


@pytest.mark.parametrize(("event", "says"), NO_EVENTS)
async def test_what_is_no_event_is_refused(harness: Harness, event: Any, says: str) -> None:
    """By `publish`, and by `publish_many` before anything else of the list is published."""
    with pytest.raises(Unpublishable, match=says) as refused:
        await harness.publish(event)
    assert one_line(refused)
    with pytest.raises(Unpublishable, match=says):
        await harness.publish_many([Noted(n=n) for n in range(600)] + [event])
    assert await is_empty(harness)


@pytest.mark.parametrize(("options", "says"), [*WRONG, *WRONG_FOR_CLIENTS])
async def test_a_wrong_argument_is_refused(harness: Harness, options: dict[str, Any], says: str) -> None:
    """It is named, with what it should be."""
    with pytest.raises(Unpublishable, match=says) as refused:
        await harness.publish(Noted(n=1), **options)
    assert one_line(refused)
    if options.keys() <= {"key", "priority"}:
        with pytest.raises(Unpublishable, match=says):
            await harness.publish_many([Noted(n=1)], **options)
    assert await is_empty(harness)


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (Noted(n=1), "takes many events, not one Noted; use publish"),
        ({"n": 1}, "not a dict"),
        (None, "not None"),
        ("Noted", "not a str"),
        (Noted, "not the class Noted itself"),
        (5, "not a int"),
    ],
)
async def test_many_are_an_iterable_of_events(harness: Harness, events: Any, says: str) -> None:
    """One event is iterable as well, and none of its fields is an event."""
    with pytest.raises(Unpublishable, match=says):
        await harness.publish_many(events)
    assert await is_empty(harness)


async def test_an_iterator_is_published_as_it_goes(harness: Harness) -> None:
    """What it cannot publish ends it; the error has the receipts of those that are in."""

    def numbers() -> Iterator[Any]:
        yield from (Noted(n=n) for n in range(600))
        yield {"n": 600}

    with pytest.raises(Unpublishable, match="a dict is no event") as refused:
        await harness.publish_many(numbers())
    assert len(refused.value.published) == await harness.redis.xlen(harness.keys.stream("notes")) == 500


@pytest.mark.newest_redis
def test_the_client_without_an_event_loop_says_the_same(redis_url: str, app: str) -> None:
    """The refusals are those of `Streams`, and it goes on afterwards."""
    with SyncStreams(settings=Settings(redis_url=SecretStr(redis_url), app=app)) as streams:
        for event, says in NO_EVENTS:
            with pytest.raises(Unpublishable, match=says):
                streams.publish(event)
        for options, says in WRONG:
            with pytest.raises(Unpublishable, match=says):
                streams.publish(Noted(n=1), **options)
        assert streams.publish(Noted(n=1)).stream == "notes"
        assert streams.call(lambda client: client.redis.xlen(client.keys.stream("notes"))) == 1


def test_the_outbox_says_the_same() -> None:
    """Nothing is in the caller's transaction."""
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    box = Outbox(Settings())
    with engine.begin() as connection:
        for event, says in NO_EVENTS:
            with pytest.raises(Unpublishable, match=says):
                box.publish_sync(connection, event)
        for options, says in WRONG:
            with pytest.raises(Unpublishable, match=says):
                box.publish_sync(connection, Noted(n=1), **options)
        assert connection.scalar(select(func.count()).select_from(outbox)) == 0
    engine.dispose()


@pytest.mark.parametrize("returned", [OddPublished(n=2, anything=NAN), Noted.model_construct(n="x")])
async def test_a_follow_up_that_cannot_be_published_is_a_dead_letter_at_once(returned: Event) -> None:
    """Trying again would make the same event again, and repeat the effect."""
    handled = []
    probe = Processor("probe", retry=Backoff(attempts=3, first=0.1))

    @probe.on(OddPublished)
    async def answer(event: OddPublished) -> Event | None:
        handled.append(event.n)
        return returned if event.n == 1 else None

    async with Harness(probe) as streams:
        await streams.publish(OddPublished(n=1))
        await streams.advance(minutes=1)
        (letter,) = [letter async for letter in streams.dead_letters("probe").ls()]
        assert handled == [1]
        assert letter.error.startswith(f"Unpublishable: the follow-up {type(returned).__name__}: ")
        assert await streams.redis.xlen(streams.keys.stream("notes")) == 1


async def test_a_refusal_is_an_error_of_the_engine(harness: Harness) -> None:
    """Who catches `StreamsError` around a publish catches it."""
    for mistake in (harness.publish(None), harness.publish(Noted(n=1), delay="soon"), harness.publish_many(None)):  # type: ignore[arg-type]
        (error,) = await asyncio.gather(mistake, return_exceptions=True)
        assert isinstance(error, StreamsError)
