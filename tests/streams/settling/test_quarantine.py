"""Outcomes that Redis refuses: found in a batch by halving it, kept beside the others, and how much goes together."""

from __future__ import annotations

from itertools import chain

import pytest

from streams.messages.delivery import Delivery
from streams.messages.message import Message
from streams.messages.outcome import ACKED, SKIPPED, Acked, Outcome, Retried
from streams.settling import quarantine
from streams.settling.quarantine import Aside, first_of, halves
from tests.support.events import Noted
from tests.support.holders import Held
from tests.support.waiting import wait_until

HELD = Held("probe")


def delivered(size: int = 1) -> Delivery:
    """A delivery whose data is so large, and a little more."""
    message = Message.for_event(Noted(n=1, text="x" * size), source="/t", target="t")
    return Delivery(message, HELD, source="s", entry_id=b"1-0", count=1)


def batch(*outcomes: Outcome) -> list[tuple[Delivery, Outcome]]:
    """A delivery for each outcome."""
    return [(delivered(), outcome) for outcome in outcomes]


def test_a_batch_is_halved_until_one_is_alone() -> None:
    """Nothing is left out, and the order is kept."""
    whole = batch(ACKED, Retried(1.0, "no"), ACKED, Acked(), Retried(1.0, "no"))
    first, second = halves(whole)
    assert first + second == whole
    assert [len(first), len(second)] == [2, 3]
    assert list(halves(whole[:1])) == []
    assert list(halves([])) == []


def test_what_shares_an_outcome_stays_together() -> None:
    """Its follow-ups are published once: in two calls they would be published twice."""
    shared, other = Acked(shared=True), Acked(shared=True)
    whole = batch(shared, ACKED, shared, other, shared, other)
    parts = list(halves(whole))
    assert sorted(map(id, chain.from_iterable(parts))) == sorted(map(id, whole))
    for outcome in (shared, other):
        assert sum(any(each[1] is outcome for each in part) for part in parts) == 1
    assert list(halves(batch(shared, shared))) == [], "they cannot be told apart"
    equal = batch(Acked(), Acked())
    assert len(list(halves(equal))) == 2, "equal is not the same"


def test_so_many_go_together_and_so_many_bytes() -> None:
    """What is written again counts with its data: acks do not. One that is too large goes alone."""
    many = batch(*[ACKED] * 10)
    assert [len(part) for part in first_of(many, 4, 10)] == [4, 6]
    assert [len(part) for part in first_of(many, 20, 10)] == [10, 0]
    retried = Retried(1.0, "no")
    large = [(delivered(1_000), retried) for _ in range(5)]
    size = len(large[0][0].message.data)
    assert [len(part) for part in first_of(large, 20, 3 * size)] == [3, 2]
    assert [len(part) for part in first_of(large, 20, 3 * size - 1)] == [2, 3]
    assert [len(part) for part in first_of(large, 20, 1)] == [1, 4]
    mixed = [*large[:2], *batch(ACKED, SKIPPED), large[2]]
    assert [len(part) for part in first_of(mixed, 20, 2 * size)] == [4, 1]
    following = Acked((large[0][0].message, large[1][0].message))
    assert [len(part) for part in first_of([(delivered(), following)] * 2, 20, 3 * size)] == [1, 1]


async def test_what_is_refused_is_given_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is settled; the holder is told when it is first refused, and when it is not any more."""
    told: list[tuple[int, bool]] = []

    class Told(Held):
        def on_refused(self, deliveries: object, on: bool) -> None:
            told.append((len(deliveries), on))  # type: ignore[arg-type]

    holder = Told("probe")
    aside = Aside(holder)
    refused = batch(Retried(1.0, "no"), ACKED)
    monkeypatch.setattr(quarantine, "_AGAIN", 0.01)
    assert not aside
    aside.put(refused, {delivery: "WRONGTYPE" for delivery, _ in refused}, [])
    assert aside
    await wait_until(lambda: holder.outcomes == refused)
    aside.put(refused[:1], {refused[0][0]: "WRONGTYPE"}, [refused[1][0]])
    assert told == [(2, True), (1, False)]
    await wait_until(lambda: holder.outcomes[2:] == refused[:1])
    aside.put([], {}, [refused[0][0], delivered()])
    assert not aside
    assert told == [(2, True), (1, False), (1, False)]
    aside.stop()
