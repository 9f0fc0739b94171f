"""The scripts, one by one, at their edges: the fence, add before remove, and what a stale caller may not do."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis.asyncio

import streams
from streams.consuming import scripts as consuming_scripts
from streams.dead_letters import scripts as dead_letters_scripts
from streams.messages.message import FIELDS, Message
from streams.publishing import scripts as publishing_scripts
from streams.redis import script as redis_script
from streams.redis.keys import Keys
from streams.settling import scripts as settling_scripts

GROUP = "g"
ENGINE = Path(streams.__file__).parent


@pytest.fixture
def keys(app: str) -> Keys:
    """The test's key names."""
    return Keys(app)


@pytest.fixture
def source(keys: Keys) -> str:
    """The stream the tests read."""
    return keys.stream("notes")


async def read(client: redis.asyncio.Redis, source: str, consumer: str, count: int = 10) -> list[bytes]:
    """Delivers entries to a consumer; returns their ids."""
    reply = await client.xreadgroup(GROUP, consumer, {source: ">"}, count=count)
    return [entry_id for _, entries in reply for entry_id, _ in entries]


async def publish(client: redis.asyncio.Redis, keys: Keys, source: str, sequence: int, count: int = 1) -> None:
    """Publishes `count` messages as batch `sequence` of one producer."""
    message = Message([b"v"] * len(FIELDS), target=source)
    await publishing_scripts.publish(
        client.execute_command,
        keys,
        producer=keys.producer("p"),
        streams=[source],
        sequence=sequence,
        messages=[message] * count,
    )


async def settle(
    client: redis.asyncio.Redis,
    keys: Keys,
    source: str,
    consumer: str,
    *operations: redis_script.Value,
    more: tuple[str, ...] = (),
) -> list[int]:
    """Settles operations of one source."""
    lost, refused = await settling_scripts.settle(
        client.execute_command,
        keys,
        streams=[source, *more],
        group=GROUP,
        consumer=consumer,
        turns="",
        limits="",
        operations=operations,
    )
    assert not refused
    return lost


async def renew(
    client: redis.asyncio.Redis, keys: Keys, source: str, consumer: str, held: list[tuple[bytes, int]]
) -> list[int]:
    """Renews leases."""
    names, arguments = consuming_scripts.renew_arguments(keys.consumers(GROUP), GROUP, consumer, {source: held})
    lost: list[int] = await redis_script.run(client.execute_command, consuming_scripts.RENEW, names, arguments)
    return lost


async def owner(client: redis.asyncio.Redis, source: str, entry_id: bytes) -> tuple[bytes, int] | None:
    """Who holds an entry, delivered how often."""
    found = await client.xpending_range(source, GROUP, entry_id, entry_id, 1)
    return (found[0]["consumer"], found[0]["times_delivered"]) if found else None


async def test_a_batch_is_added_once(redis_client: redis.asyncio.Redis, keys: Keys, source: str) -> None:
    """The same sequence again, or an older one, changes nothing."""
    for sequence, count in ((1, 3), (1, 3), (3, 1), (2, 1)):
        await publish(redis_client, keys, source, sequence, count)
    assert await redis_client.xlen(source) == 4


async def test_what_goes_into_a_wrong_key_is_refused_and_nothing_else(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str
) -> None:
    """Callers that have nothing to do with each other share a batch. A repetition is told the same."""
    other = keys.stream("others")
    await redis_client.set(source, "no stream", ex=60)
    messages = [Message([b"v"] * len(FIELDS), target=target) for target in (other, source, other)]
    for _ in range(2):
        taken, refused = await publishing_scripts.publish(
            redis_client.execute_command,
            keys,
            producer=keys.producer("p"),
            streams=[source, other],
            sequence=1,
            messages=messages,
        )
        assert (taken, list(refused)) == ({}, [1])
    assert await redis_client.xlen(other) == 2
    assert await redis_client.hgetall(keys.ledger()) == {b"published stream:others": b"2"}


async def test_a_new_stream_gets_its_registered_groups_at_0(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str
) -> None:
    """A publisher that recreates a vanished stream recreates its groups: nothing is skipped."""
    made = await consuming_scripts.ensure_groups(redis_client.execute_command, keys, group=GROUP, streams=[source])
    assert made == (1, {})
    await redis_client.delete(source)
    await publish(redis_client, keys, source, 1, 2)
    assert len(await read(redis_client, source, "a")) == 2


@pytest.fixture
async def delivered(redis_client: redis.asyncio.Redis, keys: Keys, source: str) -> list[bytes]:
    """Three entries delivered to consumer a, of which b has taken over the first."""
    await consuming_scripts.ensure_groups(redis_client.execute_command, keys, group=GROUP, streams=[source])
    await publish(redis_client, keys, source, 1, 3)
    ids = await read(redis_client, source, "a")
    await redis_client.xclaim(source, GROUP, "b", 0, ids[:1])
    return ids


async def test_a_delivery_that_is_twice_in_a_batch_is_settled_once(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str, delivered: list[bytes]
) -> None:
    """The second one is not ours any more: its follow-up would be there twice."""
    again = (delivered[1], 1, "f", 1, 2, 2, "x", "y", 0)
    lost = await settle(
        redis_client, keys, source, "a", 1, 0, "-", "+", 0, 2, *again, *again, more=(keys.stream("followed"),)
    )
    assert lost == [2]
    assert await redis_client.xlen(keys.stream("followed")) == 1


async def test_only_the_owner_settles(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str, delivered: list[bytes]
) -> None:
    """Acking what another consumer took over is refused, whatever the outcome; the rest of the batch is settled."""
    first, second, third = delivered
    for operation in (
        ("f", 1, 2, 2, "x", "y", 0),
        ("w", 0, "id", 3, keys.inbox(GROUP), "x", "y", 0),
        ("d", 0, 2, "x", "y", 2, "o", "dead"),
        ("d", 1, 2, 2, "x", "y", 2, "x", "y", 2, "o", "dead"),
        ("b", 2, 2, "x", "y", 0),
    ):
        lost = await settle(
            redis_client, keys, source, "a", 1, 0, "-", "+", 0, 1, first, 1, *operation, more=(keys.inbox(GROUP),)
        )
        assert lost == [1], operation
    assert await owner(redis_client, source, first) == (b"b", 2)
    assert await settle(redis_client, keys, source, "a", 1, 0, "-", "+", 1, 1, 1, first, 0) == [1]
    assert await redis_client.exists(keys.inbox(GROUP), keys.due(), keys.dead(GROUP), keys.history(GROUP)) == 0
    lost = await settle(redis_client, keys, source, "a", 1, 0, "-", "+", 1, 1, 3, first, second, third, 0)
    assert lost == [1]
    assert await settle(redis_client, keys, source, "b", 1, 0, "-", "+", 1, 2, 1, first, 0) == []
    assert (await redis_client.xpending(source, GROUP))["pending"] == 0


async def test_the_right_consumer_with_an_old_count_settles_nothing(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str, delivered: list[bytes]
) -> None:
    """The same name took the entry over again: the count tells the incarnations of ownership apart."""
    assert await settle(redis_client, keys, source, "b", 1, 0, "-", "+", 1, 1, 1, delivered[0], 0) == [1]


async def test_entries_outside_the_given_range_are_settled_too(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str, delivered: list[bytes]
) -> None:
    """The range is an optimisation; it may be wrong without harm."""
    operations = (1, 0, "1-1", "1-2", 1, 1, 2, delivered[1], delivered[2], 0)
    assert await settle(redis_client, keys, source, "a", *operations) == []
    assert (await redis_client.xpending(source, GROUP))["pending"] == 1


async def test_what_is_settled_in_an_inbox_is_deleted(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str, delivered: list[bytes]
) -> None:
    """Nobody else reads it, so it would only grow; what is not ours stays."""
    operations = (1, 1, "-", "+", 1, 1, 2, delivered[0], delivered[1], 1, delivered[2], 1, "f", 0, 0)
    assert await settle(redis_client, keys, source, "a", *operations) == [1]
    assert [entry_id for entry_id, _ in await redis_client.xrange(source)] == delivered[:1]


async def test_a_vanished_stream_does_not_stop_the_batch(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str, delivered: list[bytes]
) -> None:
    """What was in it is lost to this consumer; the other source of the batch is settled."""
    operations = (2, 0, "-", "+", 1, 1, 1, b"1-1", 0, 1, 0, "-", "+", 1, 1, 1, delivered[1], 0)
    assert await settle(redis_client, keys, source, "a", *operations, more=(keys.stream("gone"),)) == [1]
    assert await owner(redis_client, source, delivered[1]) is None


async def test_an_outcome_that_cannot_be_written_stays_and_holds_up_no_other(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str, delivered: list[bytes]
) -> None:
    """A dead-letter key of the wrong type: the message stays pending, it is not acked into nowhere; the others are."""
    await redis_client.set(keys.dead(GROUP), "no stream")
    lost, refused = await settling_scripts.settle(
        redis_client.execute_command,
        keys,
        streams=[source],
        group=GROUP,
        consumer="a",
        turns="",
        limits="",
        operations=[1, 0, "-", "+", 0, 2, delivered[1], 1, "d", 0, 2, "x", "y", 0, delivered[2], 1, "c", 0],
    )
    assert (lost, list(refused)) == ([], [1])
    assert await owner(redis_client, source, delivered[1]) == (b"a", 1)
    assert await owner(redis_client, source, delivered[2]) is None


async def test_only_the_owner_renews_and_it_is_no_delivery(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str, delivered: list[bytes]
) -> None:
    """A stale owner takes nothing back; the owner's renewal leaves the count and resets the idle time."""
    assert await renew(redis_client, keys, source, "a", [(entry_id, 1) for entry_id in delivered]) == [1]
    assert await owner(redis_client, source, delivered[0]) == (b"b", 2)
    assert await owner(redis_client, source, delivered[1]) == (b"a", 1)
    assert await redis_client.zscore(keys.consumers(GROUP), "a")


async def test_reclaim_takes_only_what_is_silent_for_a_lease(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str, delivered: list[bytes]
) -> None:
    """It counts as a delivery; below the suspect limit at once, from it on only when it starts."""

    async def reclaim(lease_ms: int, suspect: int) -> list[consuming_scripts.Taken]:
        _, _, taken = await consuming_scripts.reclaim(
            redis_client.execute_command, source,
            group=GROUP, consumer="c", lease_ms=lease_ms, cursor=b"0-0", most=10, suspect=suspect,
        )  # fmt: skip
        return taken

    assert await reclaim(60_000, 3) == []
    taken = await reclaim(0, 2)
    assert [(entry_id, count, counted) for entry_id, count, counted, _ in taken] == [
        (delivered[0], 2, 0), (delivered[1], 2, 1), (delivered[2], 2, 1),
    ]  # fmt: skip
    begin = {"group": GROUP, "entry_id": delivered[0], "count": 2}
    assert not await consuming_scripts.begin(redis_client.execute_command, source, consumer="a", **begin)  # type: ignore[arg-type]
    assert await consuming_scripts.begin(redis_client.execute_command, source, consumer="c", **begin)  # type: ignore[arg-type]
    assert await owner(redis_client, source, delivered[0]) == (b"c", 3)


async def test_reclaim_tells_what_vanished(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str, delivered: list[bytes]
) -> None:
    """An entry that was trimmed while pending is named, not ignored."""
    await redis_client.xtrim(source, maxlen=1, approximate=False)
    _, vanished, taken = await consuming_scripts.reclaim(
        redis_client.execute_command, source,
        group=GROUP, consumer="c", lease_ms=0, cursor=b"0-0", most=10, suspect=3,
    )  # fmt: skip
    assert vanished == delivered[:2]
    assert [entry_id for entry_id, _, _, _ in taken] == delivered[2:]


async def test_a_consumer_that_holds_something_is_not_retired(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str, delivered: list[bytes]
) -> None:
    """XGROUP DELCONSUMER would destroy it without a word."""

    async def retire(consumer: str, silent_ms: int) -> bool:
        return await consuming_scripts.retire_consumer(
            redis_client.execute_command, keys, group=GROUP, consumer=consumer, streams=[source], silent_ms=silent_ms
        )

    assert not await retire("b", 0)
    assert await owner(redis_client, source, delivered[0]) == (b"b", 2)
    await settle(redis_client, keys, source, "b", 1, 0, "-", "+", 1, 2, 1, delivered[0], 0)
    await renew(redis_client, keys, source, "b", [])
    assert not await retire("b", 60_000), "its heartbeat is fresh"
    assert await retire("b", 0)
    assert [info["name"] for info in await redis_client.xinfo_consumers(source, GROUP)] == [b"a"]


async def test_due_messages_move_once_and_never_early(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str, delivered: list[bytes]
) -> None:
    """What is not due stays; what is due is in the stream before it leaves the set; a second mover finds nothing."""
    inbox = keys.inbox(GROUP)
    operations: list[redis_script.Value] = [1, 0, "-", "+", 0, 2]
    for entry_id, wait in ((delivered[1], 0), (delivered[2], 60_000)):
        operations += [entry_id, 1, "w", wait, entry_id, 3, inbox, "x", wait, 0]
    assert await settle(redis_client, keys, source, "a", *operations) == []

    async def release() -> tuple[int, int, int]:
        moved, wait, broken, _, _ = await settling_scripts.release_due(redis_client.execute_command, keys, most=100)
        return moved, wait, broken

    moved, wait, broken = await release()
    assert (moved, broken) == (1, 0)
    assert 59_000 < wait <= 60_000
    assert (await release())[0] == 0
    assert [fields for _, fields in await redis_client.xrange(inbox)] == [{b"x": b"0"}]
    assert await redis_client.hkeys(keys.waiting()) == [delivered[2]]
    await redis_client.hdel(keys.waiting(), delivered[2])
    await redis_client.zadd(keys.due(), {delivered[2]: 1})
    moved, wait, broken = await release()
    assert (moved, broken) == (0, 1), "a member without a message is said, kept, and not in the way"
    assert wait > 59_000
    await redis_client.delete(keys.due())


async def test_a_dead_letter_is_replayed_once(redis_client: redis.asyncio.Redis, keys: Keys) -> None:
    """Two operators at once: one delivery."""
    entry_id = (await redis_client.xadd(keys.dead(GROUP), {"x": "y"})).decode()

    async def replay() -> int:
        return await dead_letters_scripts.replay(
            redis_client.execute_command, keys, group=GROUP, letters=[(entry_id, [b"x", b"y"], [b"o", b"replayed"])]
        )

    assert [await replay(), await replay()] == [1, 0]
    assert await redis_client.xlen(keys.inbox(GROUP)) == 1
    assert await redis_client.xlen(keys.dead(GROUP)) == 0


async def test_every_script_says_what_it_keeps_and_survives_script_flush(
    redis_client: redis.asyncio.Redis, keys: Keys, source: str
) -> None:
    """Each header lists KEYS, what it returns and its invariant; a server that forgot the script is sent it again."""
    loaded = [path for path in sorted(ENGINE.glob("*/lua/*.lua")) if path.read_text().startswith("#!lua")]
    assert len(loaded) > 30
    for path in loaded:
        script = redis_script.Script.load(f"{path.parents[1].name}/{path.stem}")
        header = script.source.split("\n\n")[0]
        assert "KEYS" in header, script.name
        assert "Returns" in header, script.name
        assert "Invariant" in header, script.name
    for sequence in range(1, 4):
        await redis_client.script_flush()
        await publish(redis_client, keys, source, sequence)
    assert await redis_client.xlen(source) == 3
