"""dead and event: what was given up, and where an event is, on the command line."""

from __future__ import annotations

import pytest

from schemas import UserRegistered
from streams import Settings, Streams
from streams.redis.entries import Entries
from tests.cli.conftest import Cli
from tests.cli.consuming import Desk, consuming, registered
from tests.support.child import Spawn
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis

KEYS = {
    "id", "group", "type", "reason", "error", "attempts", "deliveries", "first_failed_at", "last_failed_at", "event_id",
}  # fmt: skip


async def dead_letters(client: Streams, count: int) -> None:
    """Waits until so many are dead."""
    wanted = count
    await wait_until(lambda: _count_is(client, wanted), message=f"{count} are dead")


async def _count_is(client: Streams, count: int) -> bool:
    return bool(await client.redis.xlen(client.keys.dead("email")) == count)


@pytest.mark.timeout(90)  # more than ten processes one after the other
async def test_from_dead_to_delivered(cli: Cli, client: Streams, settings: Settings) -> None:
    desk = Desk()
    receipts = await client.publish_many(map(registered, (Desk.REJECTED, 9, Desk.REJECTED, Desk.REJECTED)))
    async with consuming(desk, settings):
        await dead_letters(client, 3)
        listed = (await cli("dead", "ls", "email", "--json")).json()
        assert len(listed) == 3
        assert set(listed[0]) >= KEYS
        assert isinstance(listed[0]["id"], str)
        assert "ada" not in str(listed)
        table = await cli("dead", "ls", "email")
        assert all(letter["id"] in table.out for letter in listed)
        assert "550 no such mailbox" in table.out
        where = (await cli("event", receipts[0].id, "--json")).json()
        (group,) = where["groups"]
        assert (group["state"], group["dead_letter"], group["attempts"]) == ("dead", listed[0]["id"], 1)

        (await cli("dead", "replay", "email")).refused(2, "3 dead letters", "--yes")
        (await cli("dead", "discard", "email")).refused(2, "3 dead letters", "--yes")
        assert (await cli("dead", "replay", "email", "--dry-run")).out == "would replay 3 of email\n"
        desk.healed = True
        result = await cli("dead", "replay", "email", receipts[0].id, listed[1]["id"])
        assert (result.code, result.out) == (0, "replayed 2 of email\n")
        await wait_until(lambda: desk.seen.count(Desk.REJECTED) == 5)
        where = (await cli("event", receipts[0].id, "--json")).json()
        assert [one["state"] for one in where["groups"]] == ["acked"]
        result = await cli("dead", "discard", "email", "--reason", "rejected", "--json")
        assert result.json() == {"group": "email", "matched": 1, "discarded": 1, "dry_run": False}
        empty = await cli("dead", "ls", "email")
        assert (empty.code, empty.out, empty.err) == (0, "", "email has no dead letters\n")
        assert (await cli("dead", "ls", "email", "--json")).json() == []
        (await cli("dead", "show", "email", listed[1]["id"])).refused(1, "no dead letter")
        assert (await cli("dead", "replay", "email", "--yes", "--json")).json()["matched"] == 0


async def test_yes_replays_all(cli: Cli, client: Streams, settings: Settings) -> None:
    desk = Desk()
    await client.publish_many([registered(Desk.REJECTED)] * 2)
    async with consuming(desk, settings):
        await dead_letters(client, 2)
        desk.healed = True
        assert (await cli("dead", "replay", "email", "--yes", "--rate", "100")).out == "replayed 2 of email\n"
        await wait_until(lambda: len(desk.seen) == 4)


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["table", "json"])
@pytest.mark.parametrize("kind", ["dead", "event", "tail"])
async def test_personal_data_is_hidden_unless_asked_for(
    cli: Cli, client: Streams, settings: Settings, kind: str, more: list[str]
) -> None:
    receipt = await client.publish(registered(Desk.REJECTED))
    async with consuming(Desk(), settings):
        await dead_letters(client, 1)
    arguments = {
        "dead": ["dead", "show", "email", receipt.id],
        "event": ["event", receipt.id],
        "tail": ["tail", "users"],
    }
    hidden, shown = await cli(*arguments[kind], *more), await cli(*arguments[kind], *more, "--reveal")
    assert (hidden.code, shown.code) == (0, 0)
    assert "ada0@example.com" not in hidden.out
    assert "[redacted]" in hidden.out
    assert "ada0@example.com" in shown.out
    assert ("DeadLetter: 550 no such mailbox" in hidden.out) == (kind != "tail")


async def test_a_body_that_is_no_json(cli: Cli, client: Streams, settings: Settings) -> None:
    body = registered().encode()[:-5] + b"\x1b\xff"
    await client.redis.xadd(client.keys.stream("users"), {"type": "UserRegistered", "data": body})
    async with consuming(Desk(), settings):
        await dead_letters(client, 1)
    (letter,) = [letter async for letter in client.dead_letters("email").ls()]
    hidden = await cli("dead", "show", "email", letter.id)
    assert "no JSON object" in hidden.out
    assert "ada7" not in hidden.out
    shown = await cli("dead", "show", "email", letter.id, "--reveal")
    assert "\\x1b\\xff" in shown.out
    assert "\x1b" not in shown.out


async def test_a_large_broken_body_is_cut(cli: Cli, client: Streams) -> None:
    await client.redis.xadd(client.keys.dead("email"), {"type": "A", "reason": "invalid", "data": b"x" * 100_000})
    (letter,) = [letter async for letter in client.dead_letters("email").ls()]
    result = await cli("dead", "show", "email", letter.id, "--reveal")
    assert "... (100,000 bytes)" in result.out
    assert len(result.out) < 5_000


async def test_a_table_stops_and_says_so(cli: Cli, client: Streams) -> None:
    pipe = client.redis.pipeline(transaction=False)
    for number in range(60):
        pipe.xadd(client.keys.dead("email"), {"type": "A" if number else "B", "reason": "failed"})
    await pipe.execute()
    result = await cli("dead", "ls", "email")
    assert (result.out.count("\n"), result.err) == (51, "the oldest 50; there are more (--limit N, or a filter)\n")
    assert len((await cli("dead", "ls", "email", "--json")).json()) == 60
    result = await cli("dead", "ls", "email", "--limit", "60")
    assert (result.out.count("\n"), result.err) == (61, "")
    assert len((await cli("dead", "ls", "email", "--type", "B", "--since", "1h", "--json")).json()) == 1
    assert (await cli("dead", "ls", "email", "--type", "C")).err == "email has no such dead letters\n"


async def test_event_of_each_kind(cli: Cli, client: Streams, settings: Settings) -> None:
    desk = Desk()
    failing, followed, snoozed = await client.publish_many(map(registered, (Desk.FAILING, Desk.FOLLOWED, Desk.SNOOZED)))
    delayed = await client.publish(registered(9), delay=3600)
    async with consuming(desk, settings):
        await wait_until(lambda: client.redis.xlen(client.keys.stream("emails")))
        await wait_until(lambda: _waits(client))
        result = await cli("event", failing.id)
        assert (result.code, result.err) == (0, "")
        for part in (failing.id, "retrying", "due in", "451 try later"):
            assert part in result.out
        assert "snoozed" in (await cli("event", snoozed.id)).out
        (follow_up,) = (await cli("event", followed.id, "--json")).json()["follow_ups"]
        assert follow_up["type"] == "EmailRefused"
        result = await cli("event", followed.id)
        assert follow_up["id"] in result.out
        assert "acked" in result.out
        assert "waits for users, due in 59 min" in (await cli("event", delayed.id)).out


async def _waits(client: Streams) -> bool:
    return bool(await client.redis.zcard(client.keys.due()) == 3)


async def next_millisecond(client: Streams) -> None:
    """Returns when Redis' clock shows another millisecond."""

    async def now() -> int:
        seconds, microseconds = await client.redis.time()
        return int(seconds * 1000 + microseconds // 1000)

    began = await now()
    while await now() == began:
        pass


@pytest.mark.timeout(90)  # more than ten processes one after the other
async def test_tail(cli: Cli, client: Streams) -> None:
    events = [registered(number) for number in range(30)]
    low = await client.publish(events[0], priority="low")
    await next_millisecond(client)  # within one, the order of two lanes is nobody's
    receipts = await client.publish_many(events)
    await next_millisecond(client)
    high = await client.publish(events[0], priority="high")
    lines = (await cli("tail", "users")).out.splitlines()
    assert [line.split()[1] for line in lines] == [receipt.id for receipt in [*receipts[-19:], high]]
    assert "[users:high]" in lines[-1]
    whole = (await cli("tail", "users", "--from", "-1h", "--json")).json()
    assert [one["id"] for one in whole] == [low.id, *(receipt.id for receipt in receipts), high.id]
    after = whole[4]["entry_id"]
    later = (await cli("tail", "users", "--from", after, "--limit", "3", "--json")).json()
    assert [one["id"] for one in later] == [one["id"] for one in whole[5:8]]
    assert [one["id"] for one in (await cli("tail", "users:low", "--json")).json()] == [low.id]
    nothing = await cli("tail", "reports")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "nothing in reports\n")
    assert (await cli("tail", "reports", "--json")).json() == []
    assert UserRegistered.stream == "users"


async def test_tail_follows(spawn: Spawn, client: Streams) -> None:
    first = await client.publish(registered(1))
    child = spawn("streams", "tail", "users", "--follow", "--json")
    await wait_until(lambda: first.id in child.stdout(), 20)
    receipts = [await client.publish(registered(2), priority=lane) for lane in ("high", "normal", "low")]
    await wait_until(lambda: all(receipt.id in child.stdout() for receipt in receipts), 20)
    assert child.stdout().count("\n") == 4
    assert [entry async for entry in Entries(client).forward(client.keys.stream("users"))]
    child.kill()
