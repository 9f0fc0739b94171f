"""The queue of what was read and has not begun: which of it is next."""

from __future__ import annotations

from collections import Counter

import pytest

from streams.executing.priority_queue import HIGH, WEIGHTS, PriorityQueue, lane_of
from streams.messages.delivery import Delivery
from streams.messages.message import Carried, Message
from tests.support.events import Noted
from tests.support.holders import Held


def read(lane: str = "normal", *, origin: str = "") -> Delivery:
    """A delivery that was read from a lane, or from the inbox if it has an origin."""
    source = "{t}:inbox:g" if origin else "{t}:stream:notes" + ("" if lane == "normal" else f":{lane}")
    message = Message.for_event(Noted(n=1), source="/t", target="t")
    message.carried = Carried(origin, 1, 1) if origin else None
    return Delivery(message, Held("g", "c"), source=source, entry_id=b"1-0", count=1)


def taken(queue: PriorityQueue, count: int) -> list[str]:
    """The lanes of what is next."""
    lanes = ("high", "normal", "low")
    found = [queue.take() for _ in range(count)]
    return [lanes[lane_of(delivery)] for delivery in found if delivery is not None]


def test_under_full_load_lanes_start_by_their_weights() -> None:
    """16 : 4 : 1, spread, and not one lane after the other."""
    queue = PriorityQueue()
    for lane in WEIGHTS:
        for _ in range(100):
            queue.put(read(lane))
    first = taken(queue, 21)
    assert Counter(first) == WEIGHTS
    assert first[0] == "high"
    assert "normal" in first[:5]
    assert Counter(taken(queue, 42)) == {lane: 2 * weight for lane, weight in WEIGHTS.items()}


@pytest.mark.parametrize("many", [False, True])
def test_a_lane_that_was_empty_has_saved_nothing(many: bool) -> None:
    """It joins where the others are: a new high message is next, and a hundred of them do not keep the others away."""
    queue = PriorityQueue()
    for _ in range(200):
        queue.put(read("normal"))
        queue.put(read("low"))
    taken(queue, 100)
    high = [read("high") for _ in range(100)]
    if many:
        queue.put_all(high)
    else:
        for delivery in high:
            queue.put(delivery)
    after = taken(queue, 21)
    assert after[0] == "high"
    assert 3 <= Counter(after)["normal"] <= 5


def test_each_lane_is_in_its_order() -> None:
    queue = PriorityQueue()
    one, two, three = read("low"), read("low"), read("low")
    queue.put(one)
    queue.put_all([two, three])
    assert [queue.take(), queue.take(), queue.take(), queue.take()] == [one, two, three, None]


def test_what_was_admitted_is_before_all_lanes() -> None:
    """In the order in which it was."""
    queue = PriorityQueue()
    lane, first, second = read("high"), read("low"), read("normal")
    queue.put(lane)
    queue.put_first(first)
    queue.put_first(second)
    assert [queue.take(), queue.take(), queue.take()] == [first, second, lane]


def test_only_high_ones_are_taken_where_only_they_may_begin() -> None:
    """Those that were admitted before those of the lane; the others stay, and are not counted against it."""
    queue = PriorityQueue()
    low, admitted, high = read("low"), read("high"), read("high")
    assert (queue.has_high, queue.take_high()) == (False, None)
    queue.put(read("normal"))
    queue.put_first(low)
    assert (queue.has_high, queue.take_high()) == (False, None)
    queue.put(high)
    assert queue.has_high
    queue.put_first(admitted)
    assert [queue.take_high(), queue.take_high(), queue.take_high()] == [admitted, high, None]
    assert queue.take() is low
    queue.put_first(admitted)
    assert queue.has_high


def test_what_waits_below_a_lane() -> None:
    """What was admitted waits for no lane."""
    queue = PriorityQueue()
    queue.put_first(read("low"))
    assert not queue.waits_below(HIGH)
    queue.put(read("normal"))
    assert queue.waits_below(HIGH)
    assert not queue.waits_below(1)
    queue.put(read("low"))
    assert queue.waits_below(1)
    assert not queue.waits_below(2)


def test_some_or_all_are_taken_out() -> None:
    """Wherever they are: of what is left nothing changes."""
    queue = PriorityQueue()
    assert not queue
    deliveries = [read("high"), read("normal"), read("low"), read("normal")]
    for delivery in deliveries[:3]:
        queue.put(delivery)
    queue.put_first(deliveries[3])
    assert (len(queue), bool(queue)) == (4, True)
    queue.drop({deliveries[0], deliveries[3]})
    assert len(queue) == 2
    assert set(queue.take_all()) == {deliveries[1], deliveries[2]}
    assert (len(queue), bool(queue), queue.take_all()) == (0, False, [])


@pytest.mark.parametrize(
    ("delivery", "lane"),
    [
        (read("high"), 0), (read("normal"), 1), (read("low"), 2), (read(origin="{t}:stream:notes:high 5-0"), 0),
        (read(origin="{t}:stream:notes 5-0"), 1), (read(origin="{t}:stream:notes:low 5-0"), 2),
    ],
)  # fmt: skip
def test_what_comes_back_keeps_its_lane(delivery: Delivery, lane: int) -> None:
    assert lane_of(delivery) == lane
