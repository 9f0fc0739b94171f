"""Envelopes: what an event's message says, and which partition it goes to. No Redis is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams import Event, Settings, StreamsError, TooLarge
from streams.app import App
from streams.messages.claims import ClaimStore
from streams.messages.delivery import Delivery, current_delivery
from streams.messages.message import Message
from streams.publishing.envelope import Envelope
from tests.support.events import Noted
from tests.support.holders import Held

PARTITIONS = 8


class Urgent(Event, stream="notes", version=1, priority="high"):
    """One that is high unless its publisher says otherwise."""

    n: int


def made_app(claims: ClaimStore | None = None, **settings: Any) -> App:
    """An app that is never connected."""
    given: dict[str, Any] = {"redis_url": "redis://127.0.0.1:1", "app": "shop", "partitions": PARTITIONS}
    return App(Settings(**given | settings), claims)


@pytest.fixture
def shop() -> App:
    """Of eight partitions."""
    return made_app()


@pytest.fixture
def envelope(shop: App) -> Envelope:
    """Of that app."""
    return Envelope(shop)


def partition(app: App, message: Message) -> int:
    """Where a message goes."""
    return app.partition_of(message.target)


NAMES = [f"order-{number}" for number in range(40)]


def test_the_partition_is_that_of_the_key_else_of_the_once_name_else_of_the_id(shop: App, envelope: Envelope) -> None:
    """So that what has to meet does: all events of a key, and all that are published under one name."""
    for name in NAMES:
        home = shop.partition_for(name)
        assert partition(shop, envelope.wrap(Noted(n=1), key=name)) == home
        assert partition(shop, envelope.wrap(Noted(n=1), key=name, once="x", id="y")) == home
        assert partition(shop, envelope.wrap(Noted(n=1), once=name)) == home
        assert partition(shop, envelope.wrap(Noted(n=1), once=name, id="y")) == home
        assert partition(shop, envelope.wrap(Noted(n=1), id=name)) == home
    assert {shop.partition_for(name) for name in NAMES} == set(range(PARTITIONS))
    made = [envelope.wrap(Noted(n=1)) for _ in range(40)]
    assert all(partition(shop, message) == shop.partition_for(message.id) for message in made)
    assert len({partition(shop, message) for message in made}) > 1
    # A follow-up goes where its cause is settled: one script writes both.
    assert partition(shop, envelope.wrap(Noted(n=1), key="order-1", partition=5)) == 5


def test_a_name_is_kept_in_the_partition_of_its_event(shop: App, envelope: Envelope) -> None:
    for name in NAMES:
        message = envelope.wrap(Noted(n=1), once=name)
        assert message.once == shop.partitions[partition(shop, message)].keys.once(name)
    assert envelope.wrap(Noted(n=1)).once == ""


def test_a_message_that_was_made_elsewhere_gets_the_same_address(shop: App, envelope: Envelope) -> None:
    """As the outbox' relay does, which has the message and its row."""
    for options in ({"key": "order-1"}, {"once": "order-2"}, {"key": "order-1", "once": "order-2"}, {}):
        message = envelope.wrap(Noted(n=1), priority="low", **options)  # type: ignore[arg-type]
        target, once = message.target, message.once
        message.target = message.once = "?"
        envelope.address(message, "notes", priority="low", once=options.get("once", ""))
        assert (message.target, message.once) == (target, once)
    envelope.address(message, "notes")
    assert message.target == shop.partitions[shop.partition_for(message.id)].keys.stream("notes")


def test_the_priority_is_that_of_the_publish_else_of_the_class(shop: App, envelope: Envelope) -> None:
    """Each time: it is no property of the first message of a class."""

    def lane(event: Event, priority: Any = None) -> str:
        return shop.partitions[0].keys.short(envelope.wrap(event, priority=priority, partition=0).target)

    for _ in range(2):
        assert (lane(Noted(n=1)), lane(Noted(n=1), "low"), lane(Noted(n=1), "high")) == (
            "notes", "notes:low", "notes:high",
        )  # fmt: skip
        assert (lane(Urgent(n=1)), lane(Urgent(n=1), "normal")) == ("notes:high", "notes")
    with pytest.raises(StreamsError, match="priority"):
        lane(Noted(n=1), "urgent")


def test_the_source_is_the_setting_or_the_app() -> None:
    assert Envelope(made_app()).wrap(Noted(n=1)).source == "/shop"
    assert Envelope(made_app(source="/till/3")).wrap(Noted(n=1)).source == "/till/3"


@pytest.fixture
def handled() -> Iterator[Message]:
    """A message whose handler is running here."""
    message = Message.for_event(Noted(n=7), source="/t", target="t")
    token = current_delivery.set(Delivery(message, Held("g", "c"), source="s", entry_id=b"1-0", count=1))
    yield message
    current_delivery.reset(token)


def test_the_cause_is_the_event_that_is_handled(envelope: Envelope, handled: Message) -> None:
    """Unless it is given; outside of a handler there is none."""
    assert envelope.wrap(Noted(n=1)).causation_id == handled.id
    other = Message.for_event(Noted(n=8), source="/t", target="t")
    assert envelope.wrap(Noted(n=1), cause=other).causation_id == other.id


def test_outside_of_a_handler_nothing_is_the_cause(envelope: Envelope) -> None:
    message = envelope.wrap(Noted(n=1))
    assert (message.causation_id, message.correlation_id) == ("", message.id)


def test_the_cap_is_the_largest_that_goes(tmp_path: Path) -> None:
    """One byte more is refused, with both numbers; with a claim store its own cap holds."""
    event = Noted(n=1, text="x" * 2_000)
    size = len(event.encode())
    assert Envelope(made_app(max_bytes=size)).wrap(event).data == event.encode()
    with pytest.raises(TooLarge, match=f"Noted: {size} bytes are over the cap of {size - 1}; set STORAGE_URL"):
        Envelope(made_app(max_bytes=size - 1)).wrap(event)
    claims = ClaimStore(f"file://{tmp_path}", most=size)
    assert Envelope(made_app(claims, max_bytes=size - 1)).wrap(event).data == event.encode()
    with pytest.raises(TooLarge, match=f"over the cap of {size}"):
        Envelope(made_app(claims)).wrap(Noted(n=1, text="x" * 2_001))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": 7}, "key=7 must be text"), ({"key": None}, "key=None must be text"), ({"key": "k" * 201}, "200 bytes"),
        ({"key": "é" * 101}, "200 bytes"), ({"once": 0}, "once=0 must be text"), ({"once": "x" * 1_001}, "1000 bytes"),
        ({"key": "\ud800"}, "lone surrogate"),
    ],
)  # fmt: skip
def test_wrong_names_are_refused(envelope: Envelope, options: dict[str, Any], said: str) -> None:
    """The longest ones go."""
    with pytest.raises(StreamsError, match=said):
        envelope.wrap(Noted(n=1), **options)
    assert envelope.wrap(Noted(n=1), key="é" * 100, once="x" * 1_000).key == "é" * 100
