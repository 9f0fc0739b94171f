"""event: what is shown of where an event is, group by group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streams.cli.commands.event import _detail, amount
from streams.handlers.progress import ProgressReport
from streams.inspecting.group_status import GroupStatus
from streams.redis.keys import Keys
from tests.cli.conftest import Command
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.newest_redis

ADA = ("UserRegistered", "user_id=7", "email=ada@example.com", "name=Ada")


@pytest.fixture
def keys(app: str) -> Keys:
    """Of the only partition."""
    return Keys(app)


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[Any]:
    """A plain client: a command that runs in this process has the only event loop."""
    with redis_server.client() as client:
        yield client


def publish(command: Command, *options: str) -> dict[str, Any]:
    """Publishes Ada's registration; its receipt."""
    receipt: dict[str, Any] = command("publish", *ADA, *options, "--json").json()
    return receipt


def head_of(shown: str) -> dict[str, str]:
    """The lines above the tables: name -> value."""
    lines = shown.partition("\n\n")[0].splitlines()
    return {name: value.strip() for name, _, value in (line.partition(" ") for line in lines)}


def cells(shown: str, heading: str) -> list[list[str]]:
    """The rows of the table whose first heading that is, cell by cell."""
    lines = shown.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(heading))
    rows = []
    for line in lines[first + 1 :]:
        if not line:
            break
        rows.append(line.split())
    return rows


def test_what_the_event_is(command: Command, server: Any, keys: Keys) -> None:
    """Its message and its place, without private data unless they are asked for. No group reads it yet."""
    id = publish(command, "--key", "ada")["id"]
    ((entry, fields),) = server.xrange(keys.stream("users"))
    result = command("event", id)
    assert (result.code, result.err) == (0, "")
    head = head_of(result.out)
    assert head["id"] == id
    assert head["type"] == "UserRegistered (version 1)"
    assert head["in"] == f"users {entry.decode()}"
    assert head["made"] == fields[b"time"].decode()
    assert (head["source"], head["key"]) == (fields[b"source"].decode(), "ada")
    assert "ada@example.com" not in result.out
    assert result.out.endswith("\n\nNo group reads its stream yet.\n")
    assert "ada@example.com" in command("event", id, "--reveal").out
    hidden, shown = command("event", id, "--json").json(), command("event", id, "--reveal", "--json").json()
    assert (hidden["data"]["user_id"], hidden["data"]["email"]) == (7, "[redacted]")
    assert shown["data"] == {"user_id": 7, "email": "ada@example.com", "name": "Ada"} | shown["data"]


def test_groups_and_their_history(command: Command, server: Any, keys: Keys) -> None:
    """Each in its row: who holds it, how often it came; and each line of its history with its time and error."""
    id = publish(command)["id"]
    users = keys.stream("users")
    for group in ("crm", "email"):
        server.hset(keys.groups(), group, users)
        server.xgroup_create(users, group, "0")
    server.xreadgroup("email", "mail-1-ab", {users: ">"})
    lines = [
        {"id": id, "outcome": "retried", "attempt": "1", "at": "2026-11-24T09:00:00.123456Z", "error": "451 later"},
        {"id": id, "outcome": "snoozed", "attempt": "2", "at": "2026-11-24T09:01:00.000000Z", "reason": "not before"},
    ]
    # It is read, not acked and not pending: what its history says last is where it waits.
    for line in lines:
        server.xadd(keys.history("email"), line)
    out = command("event", id).out
    unread, held = cells(out, "GROUP  STATE")
    assert unread[:3] == ["crm", "unread", "0"]
    assert held[:3] == ["email", "running", "1"]
    assert "held by mail-1-ab, lease renewed " in out
    first, second = cells(out, "GROUP  AT")
    assert first == ["email", "2026-11-24", "09:00:00.123", "retried", "1", "451", "later"]
    assert second == ["email", "2026-11-24", "09:01:00.000", "snoozed", "2", "not", "before"]


def test_what_is_delayed_is_due_or_overdue(command: Command, server: Any, keys: Keys) -> None:
    """It is in no stream yet; every group that reads its stream waits for it."""
    id = publish(command, "--delay", "2h")["id"]
    head = head_of(command("event", id).out)["in"]
    assert head == "waits for users, due in 119 min"
    assert "No group reads" not in command("event", id).out
    server.hset(keys.groups(), "email", keys.stream("users"))
    (row,) = cells(command("event", id).out, "GROUP  STATE")
    assert row[:6] == ["email", "waiting", "0", "due", "due", "in"]
    seconds, _ = server.time()
    server.zadd(keys.due(), {id: (seconds - 600) * 1000})
    out = command("event", id).out
    assert head_of(out)["in"].startswith("waits for users, overdue for 10 min")
    (row,) = cells(out, "GROUP  STATE")
    assert row[4:8] == ["overdue", "for", "10", "min"]


def test_what_was_trimmed_is_known_by_its_history(command: Command, server: Any, keys: Keys) -> None:
    """The type is the one its lines name; its body is gone."""
    id = publish(command)["id"]
    users = keys.stream("users")
    server.hset(keys.groups(), "email", users)
    server.xadd(keys.history("email"), {"id": id, "type": "UserRegistered", "outcome": "acked", "attempt": "3"})
    server.delete(users)
    out = command("event", id).out
    assert head_of(out) == {"id": id, "type": "UserRegistered", "in": "no stream any more"}
    (row,) = cells(out, "GROUP  STATE")
    assert row == ["email", "acked", "3"]
    found = command("event", id, "--json").json()
    assert (found["data"], found["type"], found["stream"]) == (None, "UserRegistered", "")


def test_follow_ups_are_listed(command: Command, server: Any, keys: Keys) -> None:
    """With their type and stream."""
    id = publish(command)["id"]
    (_, fields) = server.xrange(keys.stream("users"))[0]
    server.xadd(keys.stream("emails"), fields | {b"id": b"f-1", b"type": b"EmailRefused", b"causationid": id.encode()})
    assert cells(command("event", id).out, "FOLLOW-UP") == [["f-1", "EmailRefused", "emails"]]


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (GroupStatus("g", "acked", "", 1, 1), ""),
        (GroupStatus("g", "running", "s 1-0", 1, 1, consumer="c", idle=3.0), "held by c, lease renewed 3.0 s ago"),
        (GroupStatus("g", "retrying", "due", 1, 1, due_in=0.0), "due in 0.0 s"),
        (GroupStatus("g", "retrying", "due", 1, 1, due_in=-60.0), "overdue for 60 s"),
        (GroupStatus("g", "snoozed", "due", 1, 1, reason="storage"), "storage"),
        # An error that the table of the history has is not said twice.
        (GroupStatus("g", "dead", "dead:g 1-0", 1, 1, error="550 no"), "550 no"),
        (GroupStatus("g", "dead", "dead:g 1-0", 1, 1, error="550 no", history=({"error": "550 no"},)), ""),
        # Deliveries count where they are more than the attempts: some consumer has died with it.
        (GroupStatus("g", "unread", "s 1-0", 0, 1), ""),
        (GroupStatus("g", "acked", "", 2, 2), ""),
        (GroupStatus("g", "acked", "", 2, 3), "3 deliveries"),
        (GroupStatus("g", "acked", "", 1, 1, replays=2), "replayed 2 x"),
        (GroupStatus("g", "dead", "", 1, 1, reason="failed", dead_letter="7-0"), "failed; streams dead show g 7-0"),
    ],
)
def test_what_there_is_to_say_of_a_group(group: GroupStatus, said: str) -> None:
    assert _detail(group) == said


@pytest.mark.parametrize(
    ("reached", "said"),
    [
        (ProgressReport(40, 100, "reading", 1, ""), "40 of 100, 40 %: reading"),
        (ProgressReport(40, 100, "", 1, ""), "40 of 100, 40 %"),
        (ProgressReport(2.5, None, "names", 1, ""), "2.5: names"),
        (ProgressReport(0, 0, "", 1, ""), "0 of 0"),
    ],
)
def test_how_far_it_has_come(reached: ProgressReport, said: str) -> None:
    assert amount(reached) == said
