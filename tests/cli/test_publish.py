"""publish: one event, many, a file of them; and what is said to those who mistype."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from schemas import EmailRefused, UserRegistered
from streams import Streams
from streams.events.event import Priority
from streams.messages.message import Message, decode
from streams.redis.entries import Entries
from tests.cli.conftest import Cli, Command
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.newest_redis

ADA = ("UserRegistered", "user_id=7", "email=ada@example.com", "name=Ada")


async def published(client: Streams, lane: Priority = "normal", stream: str = "users") -> list[Message]:
    """What is in a stream."""
    return [decode(entry) async for entry in Entries(client).forward(client.keys.stream(stream, lane))]


async def test_one(cli: Cli, client: Streams) -> None:
    result = await cli("publish", *ADA, "--json", "--key", "k", "--priority", "high")
    assert (result.code, result.err) == (0, "")
    (message,) = await published(client, "high")
    assert result.json() == {"id": message.id, "stream": "users", "partition": 0}
    assert message.key == "k"
    event = UserRegistered.decode(message.data, 1)
    assert (event.user_id, event.email, event.name) == (7, "ada@example.com", "Ada")


async def test_for_people(cli: Cli, client: Streams) -> None:
    result = await cli("publish", *ADA)
    (message,) = await published(client)
    assert result.out == f"published UserRegistered {message.id} to users\n"


async def test_data_and_fields_over_it(cli: Cli, client: Streams) -> None:
    data = json.dumps({"user_id": 1, "email": "ada@example.com", "name": "Ada"})
    assert (await cli("publish", "UserRegistered", "name=true", "--data", data)).code == 0
    (message,) = await published(client)
    # `true` stays the text it is: the field is a string.
    assert UserRegistered.decode(message.data, 1).name == "true"
    result = await cli(
        "publish", "EmailRefused", "template=t", "message_id=1", 'recipients=["a@example.com"]', "code=550", "reply=no"
    )
    assert result.code == 0, result
    (message,) = await published(client, stream="emails")
    event = EmailRefused.decode(message.data, 1)
    assert (event.recipients, event.code, event.message_id) == (["a@example.com"], 550, "1")


@pytest.mark.parametrize(("option", "value"), [("--delay", "1h30m"), ("--at", "2099-01-01T00:00:00+01:00")])
async def test_later(cli: Cli, client: Streams, option: str, value: str) -> None:
    result = await cli("publish", *ADA, option, value, "--json")
    assert result.code == 0, result
    assert await published(client) == []
    trail = await client.event(result.json()["id"])
    assert trail.due_in is not None
    expected = 5400 if option == "--delay" else 4070905200 - time.time()
    assert abs(trail.due_in - expected) < 60


async def test_count(cli: Cli, client: Streams) -> None:
    numbered = ("UserRegistered", "user_id={n}", "email=a{n}@example.com", "--data", '{"name": "N {n}"}')
    result = await cli("publish", *numbered, "--count", "1201", "--json")
    messages = await published(client)
    assert [receipt["id"] for receipt in result.json()] == [message.id for message in messages]
    events = [UserRegistered.decode(message.data, 1) for message in messages]
    assert [(event.user_id, event.email, event.name) for event in events] == [
        (n, f"a{n}@example.com", f"N {n}") for n in range(1, 1202)
    ]
    result = await cli("publish", *numbered, "--count", "3", "--delay", "1h")
    assert result.out.startswith("published 3 events to users in ")
    assert (await client.snapshot()).waiting.delayed == 3


async def test_a_count_of_one_is_an_array_too(cli: Cli) -> None:
    assert len((await cli("publish", *ADA, "--count", "1", "--json")).json()) == 1


LINE = b'{"type": "UserRegistered", "data": {"user_id": 7, "email": "ada@example.com", "name": "Ada"}}\n'


async def test_ndjson(cli: Cli, client: Streams, tmp_path: Path) -> None:
    result = await cli("publish", "--ndjson", "-", "--json", stdin=LINE * 700 + b"\n" + LINE.rstrip())
    assert len(result.json()) == 701
    (tmp_path / "events").write_bytes(LINE)
    assert (await cli("publish", "--ndjson", "events")).code == 0
    assert len(await published(client)) == 702


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{", "no JSON"),
        (b"[]", "must be an object"),
        (b'{"type": "UserRegistered"}', "must be an object"),
        (b'{"type": 7, "data": {}}', "must be a string"),
        (b'{"type": "UserRegisterd", "data": {}}', "did you mean UserRegistered"),
        (LINE.replace(b"7", b'"x"'), "user_id"),
        (b"\xff\n", "no JSON"),
    ],
    ids=range(7),
)
async def test_a_bad_line_is_named_and_what_is_before_it_is_published(
    cli: Cli, client: Streams, line: bytes, told: str
) -> None:
    result = await cli("publish", "--ndjson", "-", stdin=LINE + LINE + line + b"\n" + LINE)
    result.refused(2, "line 3", told, "published before it: 2")
    assert len(await published(client)) == 2


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["publish"], ["TYPE"]),
        (["publish", "UserRegisterd", "user_id=7"], ["UserRegisterd", "did you mean UserRegistered"]),
        (["publish", "Ünknown\x1b[2J"], ["schema"]),
        (["publish", "UserRegistered"], ["user_id is missing", "email is missing", "name is missing"]),
        (["publish", *ADA, "nmae=x"], ["nmae is no field", "did you mean name"]),
        (["publish", *ADA, "name"], ["name=value"]),
        (["publish", *ADA, "name=Eve"], ["name is given twice"]),
        (["publish", *ADA[:3], "name="], ["name: string should have at least 1 character"]),
        (["publish", "UserRegistered", "user_id=-1", *ADA[2:]], ["user_id: input should be greater"]),
        (["publish", *ADA, "--data", "[1]"], ["--data", "object"]),
        (["publish", *ADA, "--data", "{"], ["--data", "JSON"]),
        (["publish", *ADA, "--delay", "soon"], ["--delay", "10s"]),
        (["publish", *ADA, "--delay", "99999d"], ["--delay", "ten years"]),
        (["publish", *ADA, "--at", "noon"], ["--at", "2026"]),
        (["publish", *ADA, "--at", "2099-01-01T00:00:00"], ["--at", "time zone"]),
        (["publish", *ADA, "--at", "2020-01-01T00:00:00Z"], ["--at", "past"]),
        (["publish", *ADA, "--at", "2099-01-01T00:00:00Z", "--delay", "1s"], ["not both"]),
        (["publish", *ADA, "--priority", "urgent"], ["priority", "high"]),
        (["publish", *ADA, "--count", "0"], ["count"]),
        (["publish", *ADA, "--ndjson", "-"], ["--ndjson"]),
        (["publish", "--ndjson", "nowhere"], ["nowhere", "No such file"]),
        (["publish", "--nonsense"], ["--nonsense", "publish --help"]),
    ],
    ids=range(22),
)
def test_usage(command: Command, redis_server: RedisServer, arguments: list[str], parts: list[str]) -> None:
    result = command(*arguments)
    result.refused(2, *parts)
    assert "\x1b" not in result.err
    assert redis_server.cli("DBSIZE") == 0


def test_personal_values_are_not_repeated(command: Command) -> None:
    result = command("publish", "UserRegistered", "user_id=7", "email=canary@@private", "name=" + "canary" * 50)
    result.refused(2, "email", "name")
    assert "canary" not in result.err
    assert "private" not in result.err
    # The rule of an address quotes what breaks it.
    result = command("publish", "UserRegistered", "user_id=7", "email=ada(@example.com", "name=Ada")
    result.refused(2, "email is not valid")
    assert "(" not in result.err


def test_too_large(command: Command) -> None:
    text = "x" * 2000
    arguments = ("EmailRefused", "template=t", "message_id=m", 'recipients=["a@b.example"]', "code=1", f"reply={text}")
    command("publish", *arguments, env={"STREAMS_MAX_BYTES": "1024"}).refused(1, "1024", "STREAMS_MAX_BYTES")


def test_text_that_is_no_utf8(command: Command) -> None:
    command("publish", *ADA[:3], "name=\udcff").refused(2, "UTF-8")


def test_lines_are_published_in_batches(command: Command, redis_server: RedisServer, tmp_path: Path) -> None:
    """A round trip for each line would make a million of them an evening's work; the last ones are no full batch."""
    path = tmp_path / "events.ndjson"
    line = {"type": "UserRegistered", "data": {"user_id": 7, "email": "ada@example.com", "name": "Ada"}}
    path.write_text(f"{json.dumps(line)}\n" * 1_100)
    with redis_server.client() as client:
        client.config_resetstat()
        assert command("publish", "--ndjson", str(path)).code == 0
        stats: Any = client.info("commandstats")
    calls = sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))
    assert stats["cmdstat_xadd"]["calls"] == 1_100
    assert calls <= 20
