"""trim, retire, gaps, replay, replays, dead edit and its like on the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis

from streams import Settings, Streams
from streams.redis.keys import Keys
from tests.cli.conftest import Cli, Command
from tests.cli.consuming import Desk, consuming, registered
from tests.streams.inspecting.test_reconciliation import make_group
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A plain client: a command that runs in this process has the only event loop."""
    with redis_server.client() as client:
        yield client


def fill(settings: Settings, server: redis.Redis, read: int = 6) -> Keys:
    """Ten events, of which the group email has read some."""

    async def publish() -> Keys:
        async with Streams(settings=settings) as client:
            await make_group(client)
            await client.publish_many([registered(9)] * 10)
            return client.keys

    keys = asyncio.run(publish())
    if read:
        server.xreadgroup("email", "c", {keys.stream("users"): ">"}, count=read, noack=True)
    return keys


def test_trim(command: Command, settings: Settings, server: redis.Redis) -> None:
    keys = fill(settings, server)
    command("trim", "users").refused(2, "--keep", "--older-than")
    command("trim", "users", "--keep", "-1").refused(2, "--keep")
    command("trim", "users", "--older-than", "long").refused(2, "neither a duration")
    command("trim", "nowhere", "--keep", "1").refused(1, "no stream nowhere")
    lane = {"stream": "users", "removed": 6, "kept": 4, "held_by": "email"}
    (_, users, _) = command("trim", "users", "--keep", "0", "--dry-run", "--json").json()
    assert users == lane | {"dry_run": True}
    assert server.xlen(keys.stream("users")) == 10
    result = command("trim", "users", "--keep", "0")
    assert (result.code, result.out.split()[-4:]) == (0, ["users", "6", "4", "email"])
    assert server.xlen(keys.stream("users")) == 4


def test_retire(command: Command, settings: Settings, server: redis.Redis) -> None:
    keys = fill(settings, server)
    command("retire", "nobody").refused(1, "no group nobody")
    looked = command("retire", "email")
    assert looked.out.startswith("would retire email: drops 4 unread, 0 pending, 0 waiting; keeps 0 dead letters")
    assert server.hexists(keys.groups(), "email")
    assert command("retire", "email", "--yes").out.startswith("retired email: drops 4 unread")
    assert not server.hexists(keys.groups(), "email")


async def test_retire_refuses_a_group_that_is_alive(cli: Cli, client: Streams, settings: Settings) -> None:
    async with consuming(Desk(), settings):
        await wait_until(lambda: client.redis.zcard(client.keys.consumers("email")))
        (await cli("retire", "email", "--yes")).refused(1, "alive")


def test_a_gap_is_shown_alarmed_and_accepted(command: Command, settings: Settings, server: redis.Redis) -> None:
    keys = fill(settings, server, read=0)
    assert command("gaps").err == "everything that was published is accounted for\n"
    users = keys.stream("users")
    server.xtrim(users, maxlen=1, approximate=False)
    first = (server.xrange(users))[0][0].decode()
    result = command("gaps", "--json")
    assert result.code == 1, "a gap alarms whoever watches exit codes"
    (gap,) = result.json()
    assert (gap["group"], gap["where"], gap["count"], gap["before"]) == ("email", "users", 9, first)
    shown = command("gaps").out
    assert "users" in shown
    assert first in shown
    status = command("status")
    assert f"GAP 9 missing in users of email, between 0-0 and {first}: streams gaps" in status.out
    (found,) = command("status", "--json").json()["accounts"]["groups"]
    assert (found["published"], found["acked"], found["unread"], found["gap"]) == (10, 0, 1, 9)
    doctor = command("doctor")
    assert doctor.code == 1
    assert "are gone between" in doctor.out
    assert "streams gaps --accept email" in doctor.out
    assert command("gaps", "--accept", "orders").out == "accepted 0 gaps\n"
    assert command("gaps", "--accept", "email").out == "accepted 1 gap\n"
    result = command("gaps", "--json")
    assert (result.code, result.json()) == (0, [])
    assert "accounted for" in command("doctor").out
    server.xtrim(users, maxlen=0, approximate=False)
    assert command("gaps", "--accept", "all").out == "accepted 1 gap\n"
    assert command("gaps", "--json").json() == []


def test_an_abandoned_group_and_full_dead_letters_are_said(
    command: Command, settings: Settings, server: redis.Redis
) -> None:
    keys = fill(settings, server, read=10)
    assert "abandoned" not in command("doctor").out
    told = command("doctor", env={"STREAMS_ABANDONED_AFTER": "0.001"})
    assert "no event it has not handled can be trimmed" in told.out
    assert "streams retire email" in told.out
    for _ in range(8):
        server.xadd(keys.dead("email"), {"type": "A", "reason": "failed"})
    told = command("doctor", env={"STREAMS_DEAD_MOST": "10"})
    assert "8 dead letters of email, at most 10 stay" in told.out


def test_replay(command: Command, settings: Settings, server: redis.Redis) -> None:
    keys = fill(settings, server, read=10)
    command("replay", "users").refused(2, "--group")
    command("replay", "users", "--group", "nobody").refused(1, "no group nobody")
    command("replay", "inventory", "--group", "email").refused(1, "email does not read inventory")
    command("replay", "users", "--group", "email").refused(2, "10 events", "--yes")
    command("replay", "users", "--group", "email", "--from", "never").refused(2, "--from", "'never'")
    command("replay", "users", "--group", "email", "--from", "2026-01-01T00:00:00").refused(2, "time zone")
    command("replay", "users", "--group", "email", "--rate", "0").refused(2, "above 0")
    command("replay", "users", "--group", "email", "--to", "1-1").refused(1, "nothing in users matches")
    assert command("replay", "users", "--group", "email", "--dry-run").out == "would replay 10 of users to email\n"
    assert command("replays", "ls").err == "no replay was begun yet\n"
    result = command("replay", "users", "--group", "email", "--from", "-1h", "--type", "UserRegistered")
    assert (result.code, result.out) == (0, "replayed 10 of users to email\n")
    (job,) = command("replays", "ls", "--json").json()
    assert result.err == f"replay {job['id']}: 10 events of users to email\n"
    assert (job["state"], job["replayed"], job["matched"]) == ("done", 10, 10)
    assert server.xlen(keys.inbox("email")) == 10
    assert command("replays", "cancel", job["id"]).out == f"{job['id']} was done before, 10 of 10\n"
    command("replays", "resume", "nothing").refused(1, "no replay nothing")
    table = command("replays", "ls").out
    assert job["id"] in table
    again = command("replay", "users", "--group", "email", "--yes", "--json").json()
    assert (again["state"], again["replayed"], again["group"]) == ("done", 10, "email")


@pytest.mark.timeout(60)
async def test_edit_and_replay_in_stages(cli: Cli, client: Streams, settings: Settings) -> None:
    desk = Desk()
    users = client.keys.stream("users")
    for number in range(3):
        body = b'{"user_id": "seven%d", "email": "ada@example.com", "name": "Ada"}' % number
        await client.redis.xadd(users, {"type": "UserRegistered", "data": body})
    async with consuming(desk, settings):
        await wait_until(lambda: _dead(client, 3))
        (kind,) = (await cli("dead", "ls", "email", "--group-by", "fingerprint", "--json")).json()
        assert (kind["count"], kind["reason"]) == (3, "invalid")
        assert kind["fingerprint"] in (await cli("dead", "ls", "email", "--group-by", "fingerprint")).out
        letters = (await cli("dead", "ls", "email", "--fingerprint", kind["fingerprint"], "--json")).json()
        id = letters[0]["id"]
        edit = ("dead", "edit", "email", id)
        (await cli(*edit)).refused(2, "--data", "--set")
        (await cli(*edit, "--set", "user_id=many")).refused(2, "UserRegistered: user_id")
        (await cli(*edit, "--set", "userid=7")).refused(2, "userid is no field of it (did you mean user_id?)")
        (await cli(*edit, "--data", '{"user_id": 7}')).refused(2, "email is missing")
        refused = await cli(*edit, "--set", "user_id=7", "--set", "email=ada secret@example")
        refused.refused(2, "email")
        assert "secret" not in refused.err
        assert await client.redis.xlen(client.keys.dead("email")) == 3
        dry = await cli(*edit, "--set", "user_id=7", "--dry-run")
        assert dry.out == f'user_id: "seven0" -> 7\nwould change 1 field of {id}\n'
        done = (await cli(*edit, "--set", "user_id=7", "--set", "name=Grace", "--json")).json()
        assert done["changes"] == {"user_id": ["seven0", 7], "name": ["[redacted]", "[redacted]"]}
        (await cli(*edit, "--set", "user_id=7")).refused(1, "no dead letter")
        stopped = await cli("dead", "replay", "email", "--canary", "--within", "20s")
        assert (stopped.code, stopped.err) == (1, "")
        assert "stage 1: replayed 1, stopped: " in stopped.out
        assert "failed as before; 2 left" in stopped.out
        (await cli("dead", "replay", "email", id, "--canary")).refused(2, "filters, not ids")
        assert (await cli("dead", "replay", "email", done["id"])).out == "replayed 1 of email\n"
        await wait_until(lambda: desk.seen == [7])


async def _dead(client: Streams, count: int) -> bool:
    return bool(await client.redis.xlen(client.keys.dead("email")) == count)


def test_parked_letters_are_said(command: Command, settings: Settings, server: redis.Redis) -> None:
    keys = fill(settings, server)
    for replays in ("3", "0"):
        server.xadd(keys.dead("email"), {"type": "A", "reason": "failed", "origin": "o 1-0", "replays": replays})
    told = command("dead", "replay", "email", "--type", "A", "--dry-run")
    assert told.out == "would replay 1 of email; 1 are parked (replayed too often: give their ids, or --force)\n"
    done = command("dead", "replay", "email", "--type", "A", "--json").json()
    assert (done["matched"], done["replayed"], done["parked"]) == (2, 1, 1)
    assert command("dead", "replay", "email", "--type", "A", "--force").out == "replayed 1 of email\n"
