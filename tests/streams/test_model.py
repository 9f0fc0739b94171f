"""Machine: the engine against a small model, step by step, on a real Redis.

hypothesis chooses what happens: events are published, read, settled in every way, called off, replayed and trimmed;
consumers die, take over from each other and come back from the dead; replies are lost. After every step each count
that the loss accounting tells is the model's, and at the end every event has come to its end, once.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Coroutine
from typing import Any, ClassVar, Final, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from streams import Settings, Streams
from streams.consuming import scripts as consuming_scripts
from streams.inspecting.reconciliation import _Look
from streams.messages.delivery import Delivery
from streams.messages.message import Message
from streams.messages.outcome import ACKED, RELEASED, Acked, Cancelled, DeadLettered, Expired, Outcome, Retried, Snoozed
from streams.publishing.pending_publish import PendingPublish
from streams.redis.entries import position
from streams.redis.keys import came_back
from streams.redis.partition import Member
from streams.settling import scripts as settling_scripts
from streams.settling.settlement import Settlement
from tests.streams.inspecting.test_reconciliation import adds_up, make_group
from tests.support.events import Noted, Other
from tests.support.holders import Held
from tests.support.redis_server import RedisServer

T = TypeVar("T")

GROUP: Final = "g"
OUTCOMES: Final[dict[str, Outcome]] = {
    "acked": ACKED,
    "retried": Retried(60.0, "E: not yet"),
    "snoozed": Snoozed(60.0, "not now"),
    "dead": DeadLettered("failed", "E: never"),
    "released": RELEASED,
    "expired": Expired("2026-01-01T00:00:00Z"),
}
GOES_TO: Final = {
    "acked": "acked", "followed": "acked", "retried": "waiting", "snoozed": "waiting", "dead": "dead",
    "released": "unread", "expired": "expired", "cancelled": "cancelled",
}  # fmt: skip
COUNTS: Final = (
    "published", "replayed", "acked", "dead", "discarded", "cancelled", "expired", "waiting", "pending", "unread",
)  # fmt: skip


def _by_place(waiting_id: bytes) -> tuple[bytes, tuple[int, int]]:
    _, source, entry_id = waiting_id.split()
    return source, position(entry_id.partition(b"#")[0])  # of a replay: `#N`


HANDS: Final = st.sampled_from(["first", "second"])


class Machine(RuleBasedStateMachine):
    """One stream, one group, two consumers; `server` is set by the test."""

    server: ClassVar[RedisServer]
    app: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.server.cli("FLUSHALL")
        self.runner = asyncio.Runner()
        self.streams = Streams(settings=Settings(redis_url=self.server.url, app=self.app, park_after=1000))
        self.redis: Any = self.streams.redis
        self.keys = self.streams.keys
        self.sources = [self.keys.inbox(GROUP), *self.keys.by_priority("notes")]
        self.counts = Counter[str]()
        self.ends = Counter[str]()  # by event id: how many ends it must still come to
        self.delayed: dict[str, None] = {}  # event ids, in the order they were published
        self.open = Counter[tuple[str, int]]()  # (event id, failures) of all that is unread, pending or waiting
        self.hands: dict[str, list[Delivery]] = {"first": [], "second": []}
        self.zombies = set[Delivery]()
        self.holders: dict[str, Held] = {}
        self.settlements: dict[str, Settlement] = {}
        self.lives = self.n = 0
        for hand in self.hands:
            self._new_life(hand)
        self.run(make_group(self.streams, GROUP, "notes"))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Does one thing to its end."""
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._drain()
        finally:
            for settlement in self.settlements.values():
                self.run(settlement.aclose())
            self.run(self.streams.aclose())
            self.runner.close()

    def _new_life(self, hand: str) -> None:
        self.lives += 1
        self.zombies |= set(self.hands[hand])
        self.hands[hand] = []
        if hand in self.settlements:
            self.run(self.settlements[hand].aclose())
        self.holders[hand] = holder = Held(GROUP, f"{hand}-{self.lives}")
        self.settlements[hand] = Settlement(Member.of(self.streams.partitions[0], GROUP, holder.consumer), holder)

    def _consumer(self, hand: str) -> str:
        return self.holders[hand].consumer

    def _move(self, what: str, to: str, count: int = 1) -> None:
        self.counts[what] -= count
        self.counts[to] += count

    # Publishing --------------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 4), priority=st.sampled_from(["high", "normal", "low"]))
    def publish(self, count: int, priority: Any) -> None:
        events = [Noted(n=self.n + at) for at in range(count)]
        self.n += count
        for receipt in self.run(self.streams.publish_many(events, priority=priority)):
            self._published(receipt.id)

    def _published(self, id: str, where: str = "published") -> None:
        self.ends[id] += 1
        self.open[id, 0] += 1
        self.counts.update({where: 1, "unread": 1})

    @rule()
    def publish_later(self) -> None:
        self.n += 1
        receipt = self.run(self.streams.publish(Noted(n=self.n), delay=3600))
        self.delayed[receipt.id] = None

    @rule(name=st.sampled_from(["a", "b"]))
    def publish_once(self, name: str) -> None:
        taken = self.run(self.redis.exists(self.keys.once(name)))
        self.n += 1
        receipt = self.run(self.streams.publish(Noted(n=self.n), once=name))
        if not taken:
            self._published(receipt.id)
        assert receipt.id in self.ends

    @rule()
    def publish_and_lose_the_reply(self) -> None:
        """The publisher asks again with the number of the batch; it was there already."""
        self.n += 1
        message = Message.for_event(Noted(n=self.n), source="/m", target=self.keys.stream("notes"))
        publisher = self.streams._router.publishers[0]
        self.run(self.streams.append([message]))
        again = PendingPublish([message], deadline=float("inf"))
        self.run(publisher._send_until_answered([again], publisher._sequence))
        self._published(message.id)

    # Consuming ---------------------------------------------------------------------------------------------------

    @rule(hand=HANDS, count=st.integers(1, 3))
    def read(self, hand: str, count: int) -> None:
        """So many of each source."""
        sources = dict.fromkeys(self.sources, ">")
        for name, entries in self.run(self.redis.xreadgroup(GROUP, self._consumer(hand), sources, count=count)):
            for entry_id, fields in entries:
                flat = [part for pair in fields.items() for part in pair]
                self._take(hand, name.decode(), entry_id, 1, flat)
            self._move("unread", "pending", len(entries))

    @rule(hand=HANDS, outcome=st.sampled_from(list(GOES_TO)))
    def work(self, hand: str, outcome: str) -> None:
        """Reads, and settles all that it has in one way."""
        self.read(hand, 2)
        if self.hands[hand]:
            self._settle(hand, list(self.hands[hand]), outcome)

    @precondition(lambda self: self.counts["waiting"])
    @rule(hand=HANDS, outcome=st.sampled_from(list(GOES_TO)))
    def work_on_what_waited(self, hand: str, outcome: str) -> None:
        """It becomes due, comes back, and is settled."""
        self.time_passes()
        self.work(hand, outcome)

    def _take(self, hand: str, source: str, entry_id: bytes, count: int, fields: list[bytes]) -> None:
        delivery = Delivery(
            Message.decode(entry_id, fields, came_back=came_back(source)),
            self.holders[hand], source=source, entry_id=entry_id, count=count,
        )  # fmt: skip
        assert self.open[delivery.message.id, delivery.failures], "an attempt was forgotten, or made up"
        self.hands[hand].append(delivery)

    @precondition(lambda self: any(self.hands.values()))
    @rule(data=st.data(), outcome=st.sampled_from(list(GOES_TO)), twice=st.booleans())
    def settle(self, data: st.DataObject, outcome: str, twice: bool) -> None:
        """Some of what one consumer has; `twice`: the reply was lost, and it asks again."""
        hand = data.draw(st.sampled_from([hand for hand, held in self.hands.items() if held]))
        batch = data.draw(st.lists(st.sampled_from(self.hands[hand]), min_size=1, unique=True))
        self._settle(hand, batch, outcome)
        if twice:
            self.run(self.settlements[hand]._settle([(delivery, self._outcome(outcome)) for delivery in batch]))
            assert self.holders[hand].settled[1] == set(batch), "settled a second time"

    def _outcome(self, outcome: str) -> Outcome:
        if outcome == "followed":
            follow_up = Message.for_event(Other(n=self.n), source="/m", target=self.keys.stream("others"))
            return Acked((follow_up,))
        return Cancelled() if outcome == "cancelled" else OUTCOMES[outcome]

    def _settle(self, hand: str, batch: list[Delivery], outcome: str) -> None:
        followed = self.run(self.redis.xlen(self.keys.stream("others")))
        self.run(self.settlements[hand]._settle([(delivery, self._outcome(outcome)) for delivery in batch]))
        assert self.holders[hand].settled[1] == self.zombies & set(batch), "the fence"
        for delivery in batch:
            self.hands[hand].remove(delivery)
            if delivery in self.zombies:
                continue
            self._move("pending", GOES_TO[outcome])
            id, failures = delivery.message.id, delivery.failures
            self.open[id, failures] -= 1
            if GOES_TO[outcome] in ("waiting", "unread"):
                self.open[id, failures + (outcome == "retried")] += 1
            elif outcome != "dead":
                self._end(id)
        more = (len(batch) - len(self.holders[hand].settled[1])) * (outcome == "followed")
        assert self.run(self.redis.xlen(self.keys.stream("others"))) == followed + more, "a follow-up without an ack"

    def _end(self, id: str) -> None:
        self.ends[id] -= 1
        assert self.ends[id] >= 0, f"{id} came to an end twice"

    @rule(hand=HANDS)
    def crash(self, hand: str) -> None:
        """It is gone, and another one comes. What it had is pending until somebody takes it over."""
        self._new_life(hand)

    @rule(hand=HANDS)
    def take_over(self, hand: str) -> None:
        """All that is pending, from the living and the dead: what they have is worth nothing now."""
        self.zombies |= {delivery for held in self.hands.values() for delivery in held}
        taken = 0
        for source in self.sources:
            cursor = b"0-0"
            while True:
                cursor, vanished, page = self.run(
                    consuming_scripts.reclaim(
                        self.redis.execute_command,
                        source,
                        group=GROUP,
                        consumer=self._consumer(hand),
                        lease_ms=0,
                        cursor=cursor,
                        most=3,
                        suspect=10**6,
                    )
                )
                assert not vanished
                taken += len(page)
                for entry_id, count, _, fields in page:
                    self._take(hand, source, entry_id, count, fields)
                if cursor == b"0-0":
                    break
        assert taken == self.counts["pending"], "not all that was pending was taken over"

    @rule()
    def time_passes(self) -> None:
        """All that waits is due."""
        ids = self.run(self.redis.zrange(self.keys.due(), 0, -1))
        assert len(ids) == self.counts["waiting"] + len(self.delayed)
        if ids:
            # In an order that is the same again when hypothesis does it again: ids of events are not.
            ordered = [id.encode() for id in self.delayed]
            ordered += sorted(set(ids) - set(ordered), key=_by_place)
            self.run(self.redis.zadd(self.keys.due(), {id: at for at, id in enumerate(ordered, 1)}, xx=True))
        moved, _, broken, _, _ = self.run(
            settling_scripts.release_due(self.redis.execute_command, self.keys, most=1000)
        )
        assert (moved, broken) == (len(ids), 0)
        self._move("waiting", "unread", self.counts["waiting"])
        for id in self.delayed:
            self._published(id)
        self.delayed.clear()

    # Operating ---------------------------------------------------------------------------------------------------

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """One that is nowhere else as well: a replay of history is beside its original."""
        single = [id for id, left in self.ends.items() if left == 1]
        if not single and not self.delayed:
            return
        id = data.draw(st.sampled_from([*single, *self.delayed]))
        waits = self.run(self.redis.zcard(self.keys.due()))
        ((_, state),) = self.run(self.streams.cancel(id)).groups.items()
        waited = waits - self.run(self.redis.zcard(self.keys.due()))
        if id in self.delayed:
            assert (state, waited) == ("cancelled", 1)
            del self.delayed[id]
            return
        place = [key for key in +self.open if key[0] == id]
        if not place:
            assert (state, waited) == ("dead", 0)
        elif state == "cancelled":
            self.open -= Counter(place)
            self._move("waiting" if waited else "unread", "cancelled")
            self._end(id)
        else:
            assert (state, waited) == ("running", 0)
            assert self.counts["pending"]

    @rule(on=st.booleans())
    def pause(self, on: bool) -> None:
        was = bool(self.run(self.redis.sismember(self.keys.paused(), GROUP)))
        assert self.run(self.streams.pause(GROUP) if on else self.streams.resume(GROUP)) is (was is not on)

    @precondition(lambda self: self.counts["dead"])
    @rule(data=st.data(), replay=st.booleans())
    def repair(self, data: st.DataObject, replay: bool) -> None:
        """Replays or discards dead letters, and is told to do it twice."""
        letters = self.streams.dead_letters(GROUP)

        async def ls() -> list[Any]:
            return [letter async for letter in letters.ls()]

        chosen = data.draw(st.lists(st.sampled_from(self.run(ls())), min_size=1, unique_by=lambda letter: letter.id))
        ids = [letter.id for letter in chosen]
        assert self.run((letters.replay if replay else letters.discard)(ids)).done == len(ids)
        assert self.run((letters.replay if replay else letters.discard)(limit=0)).done == 0
        self._move("dead", "unread" if replay else "discarded", len(ids))
        for letter in chosen:
            if replay:
                self.open[letter.message.id, 0] += 1
            else:
                self._end(letter.message.id)

    @rule(data=st.data())
    def replay_history(self, data: st.DataObject) -> None:
        """Once more for the group, beside whatever there is of it."""
        entries = self.run(self.redis.xrange(self.keys.stream("notes")))
        if not entries:
            return
        _, fields = data.draw(st.sampled_from(entries))
        id = fields[b"id"].decode()
        self.run(self.streams.replay("notes", group=GROUP, ids=[id]))
        self._published(id, "replayed")

    @rule(keep=st.integers(0, 3))
    def trim(self, keep: int) -> None:
        """What is settled goes, and nothing else: no count changes."""
        self.run(self.streams.trim("notes", keep=keep))

    # What always holds -------------------------------------------------------------------------------------------

    @invariant()
    def the_books_are_the_models(self) -> None:
        accounts = self.run(_Look(self.streams.partitions[0]).take())
        (account,) = accounts.groups
        assert list(accounts.gaps()) == []
        assert adds_up(account)
        assert {name: getattr(account, name) for name in COUNTS} == {name: self.counts[name] for name in COUNTS}

    @invariant()
    def what_waits_is_there(self) -> None:
        assert self.run(self.redis.zcard(self.keys.due())) == self.run(self.redis.hlen(self.keys.waiting()))

    def _drain(self) -> None:
        """Nothing but what consumers do, and everything comes to its end."""
        for _ in range(3):
            self.time_passes()
            for hand in self.hands:
                self._new_life(hand)
            self.take_over("first")
            self.read("first", 10**6)
            if self.hands["first"]:
                self._settle("first", list(self.hands["first"]), "acked")
        self.the_books_are_the_models()
        assert (self.counts["unread"], self.counts["pending"], self.counts["waiting"]) == (0, 0, 0)
        assert sum(self.ends.values()) == self.counts["dead"]
        assert not +self.open


def run_machine(server: RedisServer, app: str, *, examples: int, steps: int) -> None:
    """As many sequences of so many steps."""
    machine = type("OnThisServer", (Machine,), {"server": server, "app": app})
    how = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), print_blob=True,
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=how)


@pytest.mark.timeout(120)  # a failure is made smaller for a while
@pytest.mark.single("it empties its server before each sequence")
def test_the_engine_does_what_the_model_does(redis_server: RedisServer, app: str) -> None:
    run_machine(redis_server, app, examples=15, steps=30)


@pytest.mark.slow
@pytest.mark.single("it empties its server before each sequence")
@pytest.mark.timeout(1200)
def test_the_engine_does_what_the_model_does_over_many_sequences(redis_server: RedisServer, app: str) -> None:
    run_machine(redis_server, app, examples=500, steps=50)
