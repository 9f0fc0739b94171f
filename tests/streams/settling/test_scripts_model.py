"""Lines: the scripts that order and limit, driven at random against a model of what they promise.

Consumers read, ask, settle in every way, die, take over from each other and come back from the dead, all by a seed. The
model knows what is in whose hands, and fails at the step at which a promise is broken.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
import redis.asyncio

from streams.admin import scripts as admin_scripts
from streams.consuming import scripts as consuming_scripts
from streams.messages.message import FIELDS, ID, KEY, Carried, Message
from streams.publishing import scripts as publishing_scripts
from streams.redis import script
from streams.redis.keys import Keys, came_back
from streams.settling import limits as settling_limits
from streams.settling import scripts as settling_scripts
from streams.settling.limits import LimitSpec, PermitRequest
from streams.settling.ordering import Ordering, waiting_id

GROUP = "g"
CONSUMERS = ("a", "b", "c")
LIMIT = LimitSpec("l", "a limit", 0.0, 1, 2)
RATED = LimitSpec("r", "a rate", 2.0, 1, 0)


@dataclass(eq=False)
class Held:
    """A delivery in somebody's hands."""

    source: str
    entry_id: bytes
    count: int
    message: Message
    zombie: bool = False  # somebody else has taken it over
    admitted: bool = False

    @property
    def head_id(self) -> str:
        carried = self.message.carried
        if carried is None:
            return f"{self.source} {self.entry_id.decode()}"
        return carried.origin + (f"#{carried.replays}" if carried.replays else "")

    @property
    def limit(self) -> LimitSpec | None:
        return {b"0": LIMIT, b"1": RATED}.get(self.message.values[ID].rpartition(b"-")[2])


@dataclass
class Model:
    """What was published, what became of it, who holds what."""

    client: redis.asyncio.Redis
    keys: Keys
    dice: random.Random
    published: dict[bytes, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    ended: dict[bytes, list[bytes]] = field(default_factory=lambda: defaultdict(list))  # by key, in the order of ends
    settled: dict[bytes, list[bytes]] = field(default_factory=lambda: defaultdict(list))  # those that ended in hand
    replayed: set[bytes] = field(default_factory=set)
    hands: dict[str, list[Held]] = field(default_factory=lambda: {name: [] for name in CONSUMERS})
    sequence: int = 0

    def __post_init__(self) -> None:
        self.inbox, self.stream = self.keys.inbox(GROUP), self.keys.stream("notes")
        self.sources = [self.inbox, self.stream]
        self.call = self.client.execute_command

    def in_hand(self) -> list[Held]:
        """What is really somebody's."""
        return [held for hands in self.hands.values() for held in hands if not held.zombie]

    async def check(self) -> None:
        """One message of a key at a time, no more let in than the limit says, no place free while somebody waits."""
        keyed = [held.message.values[KEY] for held in self.in_hand() if held.message.values[KEY]]
        assert len(keyed) == len(set(keyed)), "two messages of a key are in hand"
        assert sum(held.admitted and held.limit is LIMIT for held in self.in_hand()) <= LIMIT.most, "too many at once"
        place = f"{self.keys.limits(GROUP)}:{LIMIT.name}"
        if await self.client.zcard(f"{place}:held") < LIMIT.most:
            for hashed in await self.client.lrange(f"{place}:ring", 0, -1):
                line = await self.client.lrange(f"{place}:line:{hashed.decode()}", 0, -1)
                waiting = [await self.client.hexists(self.keys.waiting(), id) for id in line]
                assert not any(waiting), "a place is free, and somebody stands in line"

    async def publish(self) -> None:
        key = self.dice.choice([b"", b"k1", b"k2", b"k3"])
        number = sum(map(len, self.published.values()))  # replays count as well: no number twice
        values = [b"v"] * len(FIELDS)
        values[KEY], values[ID] = key, b"%d-%d" % (number, self.dice.randrange(3))
        self.published[key].append(values[ID])
        self.sequence += 1
        await publishing_scripts.publish(
            self.call,
            self.keys,
            producer=self.keys.producer("p"),
            streams=[self.stream],
            sequence=self.sequence,
            messages=[Message(values, target=self.stream)],
        )

    async def read(self, consumer: str) -> None:
        _, found, _ = await settling_scripts.read_in_turn(
            self.call, self.keys, streams=self.sources, group=GROUP, consumer=consumer, most=self.dice.randrange(1, 5)
        )
        for name, entries in found:
            for entry_id, fields in entries:
                self.hands[consumer].append(
                    Held(name.decode(), entry_id, 1, Message.decode(entry_id, fields, came_back=came_back(name)))
                )

    async def ask(self, consumer: str) -> None:
        some = [held for held in self.hands[consumer] if held.limit and not held.admitted]
        if not some:
            return
        asks = [
            PermitRequest(held.source, held.entry_id, held.count, held.limit.name, held.message.values[KEY], 0)
            for held in some
            if held.limit
        ]
        limits = [held.limit for held in some if held.limit]
        before = {limit.name: await self.let_in(limit) for limit in limits}
        _, answers = await settling_limits.admit(
            self.call, self.keys, group=GROUP, consumer=consumer, limits=limits, asks=asks
        )
        for held, answer in zip(some, answers, strict=True):
            assert (answer == -1) is held.zombie, "the fence of admit"
            line, let_in = before[held.limit.name] if held.limit else (0, [])
            own = f"{held.source} {held.entry_id.decode()}".encode()
            assert answer != 1 or not line or own in let_in, "it has overtaken the line"
            held.admitted = answer == 1
            if answer != 1:
                self.hands[consumer].remove(held)

    async def let_in(self, limit: LimitSpec) -> tuple[int, list[bytes]]:
        """How many keys stand in line, and who has been let in."""
        place = f"{self.keys.limits(GROUP)}:{limit.name}"
        return await self.client.llen(f"{place}:ring"), await self.client.zrange(f"{place}:held", 0, -1)

    async def settle(self, consumer: str, operation: str = "") -> None:
        ready = [held for held in self.hands[consumer] if held.admitted or not held.limit]
        if not ready:
            return
        held = self.dice.choice(ready)
        operation = operation or self.dice.choice("fffdcwwb")
        values, key = held.message.values, held.message.values[KEY]
        carried = held.message.encode_back(held.message.carried or Carried(held.head_id))
        more: list[script.Value] = []
        match operation:
            case "f":
                more = [0]
            case "d":
                more = [0, 2, "id", values[ID]]
            case "w":
                name = waiting_id(self.keys, GROUP, held.head_id)
                more = [self.dice.choice([0, 0, 5]), name, len(carried) + 1, self.inbox, *carried]
            case "b":
                more = [2, len(carried), *carried]
        source = 1 if held.source == self.stream else 2
        lost, _ = await settling_scripts.settle(
            self.call, self.keys, streams=[self.stream, self.inbox], group=GROUP, consumer=consumer,
            turns=self.keys.turns(GROUP), limits=self.keys.limits(GROUP), operations=[
                source, source - 1, "-", "+", 0, 1, held.entry_id, held.count, key, held.head_id,
                held.limit.name if held.limit else "", operation, *more, 0,
            ])  # fmt: skip
        self.hands[consumer].remove(held)
        assert bool(lost) is held.zombie, "the fence of settle"
        if not lost and operation in "fdc":
            self.ended[key].append(values[ID])
            if held.message.carried is None or not held.message.carried.replays:
                self.settled[key].append(values[ID])

    async def replay(self) -> None:
        """What was published, once more for the group, wherever the first one is."""
        entries = await self.client.xrange(self.stream)
        fresh = [entry for entry in entries if entry[1][b"id"] not in self.replayed]
        if not fresh:
            return
        entry_id, fields = self.dice.choice(fresh)
        self.replayed.add(fields[b"id"])
        self.published[fields[b"partitionkey"]].append(fields[b"id"])
        origin = {b"origin": f"{self.stream} {entry_id.decode()}".encode(), b"replays": b"1"}
        await self.client.xadd(self.inbox, fields | origin)

    async def take_over(self, consumer: str) -> None:
        """Everything that is pending, from the living and the dead: what they have is worth nothing now."""
        before = self.in_hand()
        for source in self.sources:
            cursor = b"0-0"
            while True:
                cursor, vanished, taken = await consuming_scripts.reclaim(
                    self.call, source, group=GROUP, consumer=consumer, lease_ms=0, cursor=cursor, most=100, suspect=99,
                    order=Ordering(self.keys, GROUP).order,
                )  # fmt: skip
                assert not vanished
                for entry_id, count, _, fields in taken:
                    self.hands[consumer].append(
                        Held(
                            source,
                            entry_id,
                            count,
                            Message.decode(entry_id, fields, came_back=came_back(source)),
                        )
                    )
                if cursor == b"0-0":
                    break
        for held in before:
            held.zombie = True

    async def call_off(self) -> None:
        """One that stands in line, or waits for its next try."""
        waiting = await self.client.zrange(self.keys.due(), 0, -1)
        if not waiting:
            return
        ((_, _, _, fields),) = await settling_scripts.peek_waiting(
            self.call, self.keys, ids=[chosen := self.dice.choice(waiting)]
        )
        assert await admin_scripts.cancel_waiting(self.call, self.keys, waiting_id=chosen.decode(), records=[])
        message = Message.decode(b"0-0", fields)
        self.ended[message.values[KEY]].append(message.values[ID])

    async def call_off_unread(self) -> None:
        """One that is on its way back."""
        for entry_id, fields in await self.client.xrange(self.inbox):
            call = (GROUP, self.keys.cancelled(GROUP), self.keys.control(GROUP), self.keys.history(GROUP), [b"a", b"b"])
            states = await admin_scripts.cancel(
                self.call, self.inbox, self.keys, entry_id=entry_id.decode(), groups=[call]
            )
            if states == {GROUP: "cancelled"}:
                self.ended[fields[b"partitionkey"]].append(fields[b"id"])
                return
            await self.client.delete(self.keys.cancelled(GROUP))

    async def move(self) -> None:
        await settling_scripts.release_due(self.call, self.keys, most=100)
        await settling_limits.serve(self.call, self.keys, group=GROUP)

    async def repair(self) -> None:
        """Nothing is lost here, so there is nothing to mend."""
        assert await Ordering(self.keys, GROUP).repair(self.client) == 0, "a turn was lost"
        assert await settling_limits.repair(self.client, self.keys, group=GROUP) == (0, 0), "a place was lost"

    async def step(self) -> None:
        consumer = self.dice.choice(CONSUMERS)
        match self.dice.randrange(40):
            case n if n < 8:
                await self.publish()
            case n if n < 16:
                await self.read(consumer)
            case n if n < 22:
                await self.ask(consumer)
            case n if n < 32:
                await self.settle(consumer)
            case n if n < 35:
                await self.move()
            case 35:
                await self.take_over(consumer)
            case 36:
                await self.call_off()
            case 37:
                await self.call_off_unread()
            case 38:
                await self.replay()
            case _:
                await self.repair()
        await self.check()


@pytest.mark.parametrize("round_", range(3))
async def test_order_and_limits_hold_whatever_happens(redis_client: redis.asyncio.Redis, app: str, round_: int) -> None:
    """Every message ends once, those of a key in the order they were published, and nothing of it is left behind."""
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    model = Model(redis_client, Keys(app), random.Random(seed))
    await consuming_scripts.ensure_groups(redis_client.execute_command, model.keys, group=GROUP, streams=model.sources)
    for _ in range(600):
        await model.step()
    total = sum(map(len, model.published.values()))
    for _ in range(3000):
        if sum(map(len, model.ended.values())) == total:
            break
        for consumer in CONSUMERS:
            await model.move()
            await model.read(consumer)
            await model.ask(consumer)
            await model.settle(consumer, "f")
            await model.check()
    for key, published in model.published.items():
        assert sorted(model.ended[key]) == sorted(published), "each ends once"
        in_order = [id for id in dict.fromkeys(published) if id in model.settled[key]]
        assert not key or model.settled[key] == in_order, "in the order they were published"
    await model.repair()
    assert await redis_client.zcard(model.keys.due()) == 0
    assert await redis_client.hlen(model.keys.waiting()) == 0
    for source in model.sources:
        assert (await redis_client.xpending(source, GROUP))["pending"] == 0
    left = {key async for key in redis_client.scan_iter(f"{model.keys.tag}:*") if await redis_client.ttl(key) < 0}
    kinds = {key.decode().split(":")[2] for key in left}
    assert kinds <= {"stream", "inbox", "groups", "books", "dead", "history", "cancelled"}, kinds
