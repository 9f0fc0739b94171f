"""The wire format: fixed fields, foreign entries, and what a message carries when it comes back."""

from __future__ import annotations

import multiprocessing
import random
import uuid

from hypothesis import given
from hypothesis import strategies as st

from streams.messages.event_ids import new_id
from streams.messages.message import CARRIED, FIELDS, Carried, Message
from tests.support.events import Noted


def test_ids_are_uuid7_unique_and_in_order() -> None:
    """The first 48 bits are the time in ms; equal seeds or a fork do not give equal ids."""
    random.seed(0)
    ids = [new_id() for _ in range(20_000)]
    assert len(set(ids)) == len(ids)
    assert {uuid.UUID(id_).version for id_ in ids} == {7}
    assert {uuid.UUID(id_).variant for id_ in ids} == {uuid.RFC_4122}
    assert [id_[:13] for id_ in ids] == sorted(id_[:13] for id_ in ids)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        forked = [id_ for chunk in pool.map(_ids, range(2)) for id_ in chunk]
    assert len(set(forked)) == len(forked)


def _ids(_: int) -> list[str]:
    return [new_id()[14:] for _ in range(100)]


def test_a_message_is_its_fields_in_the_documented_order() -> None:
    """Redis stores the names once when they are always the same."""
    message = Message.for_event(Noted(n=1), source="/app", target="t", key="k")
    fields = message.encode()
    assert fields[::2] == FIELDS
    assert dict(zip(fields[::2], fields[1::2], strict=True))[b"specversion"] == b"1.0"
    again = Message.decode(b"1-0", fields)
    assert again.values == message.values
    assert again.correlation_id == again.id
    assert again.causation_id == ""


def test_a_follow_up_joins_the_conversation() -> None:
    """The correlation id is the first event's, the causation id the last one's."""
    first = Message.for_event(Noted(n=1), source="/", target="t")
    second = Message.for_event(Noted(n=2), source="/", target="t", cause=first)
    third = Message.for_event(Noted(n=3), source="/", target="t", cause=second)
    assert {message.correlation_id for message in (second, third)} == {first.id}
    assert (second.causation_id, third.causation_id) == (first.id, second.id)


def test_the_sampled_flag_is_the_last_bit() -> None:
    """Level 2 of the standard has a second flag; it does not matter here."""
    for flags, sampled in ((b"00", False), (b"01", True), (b"02", False), (b"03", True), (b"", False), (b"zz", False)):
        message = Message.decode(
            b"1-0", [b"type", b"T", b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-" + flags]
        )
        assert message.sampled is sampled, flags


@given(
    st.text(max_size=50), st.integers(0, 999), st.integers(0, 999), st.lists(st.text(max_size=20), max_size=8),
)  # fmt: skip
def test_what_is_carried_comes_back(origin: str, failures: int, deliveries: int, errors: list[str]) -> None:
    """Through the inbox and the dead letters: both counters, and the last five errors."""
    carried = Carried(origin=origin, failures=failures, deliveries=deliveries)
    for error in errors:
        carried = carried.failed(error, "2026-01-01T00:00:00+00:00")
    message = Message.for_event(Noted(n=1), source="/", target="t")
    fields = message.encode_back(carried)
    assert fields[::2] == FIELDS + CARRIED
    again = Message.decode(b"1-0", fields, came_back=True)
    assert again.values == message.values
    assert again.carried is not None
    assert Message.decode(b"1-0", fields).carried is None, "believed where anybody may write"
    assert again.carried.failures == failures + len(errors)
    assert again.carried.deliveries == deliveries
    assert [error["error"] for error in again.carried.errors] == errors[-5:]
    assert again.carried.origin == origin


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=8), st.binary(max_size=25))
def test_no_entry_crashes_the_reader(fields: list[tuple[bytes, bytes]], entry_id: bytes) -> None:
    """Whoever can XADD chooses names, values and the id."""
    for extra in ([], [(b"origin", b"\xff"), (b"errors", b"{"), (b"failures", b"-1")]):
        message = Message.decode(
            entry_id, [part for field in [*fields, *extra] for part in field], came_back=bool(extra)
        )
        for name in ("id", "type", "source", "time", "version", "key", "correlation_id", "causation_id", "sampled"):
            getattr(message, name)
