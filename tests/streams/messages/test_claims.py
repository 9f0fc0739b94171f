"""Claim checks: data over the cap goes to a file system or S3, and comes back to the handler, or says why not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import obstore
import orjson
import pytest

from streams import Backoff, Processor, Streams, StreamsError, TooLarge, Unavailable
from streams.consuming.consumer import Consumer
from streams.messages.claims import MARK, ClaimStore, Stored
from streams.messages.message import DATA, Message
from tests.streams.conftest import MakeSettings
from tests.support.events import Followed, Noted, Other
from tests.support.s3 import S3_OPTIONS, s3, s3_client
from tests.support.waiting import wait_until

__all__ = ["s3"]

LARGE = "x" * 300_000


@pytest.fixture(params=["file", "s3"])
def claims(request: pytest.FixtureRequest, tmp_path: Path, app: str) -> ClaimStore:
    """An empty store of each kind."""
    if request.param == "file":
        return ClaimStore(f"file://{tmp_path}/claims")
    endpoint = request.getfixturevalue("s3")
    client = s3_client(endpoint)
    client.create_bucket(Bucket=app, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    client.close()
    return ClaimStore(f"s3://{app}/claims", endpoint=endpoint, **S3_OPTIONS)


def large(n: int = 1) -> Message:
    """A message over the cap."""
    return Message.for_event(Noted(n=n, text=LARGE), source="/test", target="t")


def objects(claims: ClaimStore) -> list[str]:
    """The keys in the store."""
    return [found["path"] for page in obstore.list(claims._store) for found in page]


async def test_what_is_checked_in_is_fetched_and_removed(claims: ClaimStore) -> None:
    """Two events with equal data have two objects; the small one has none."""
    messages = [large(), large(), Message.for_event(Noted(n=2), source="/test", target="t")]
    before = [message.data for message in messages]
    await claims.check_in(messages, 262_144)
    assert [message.data[: len(MARK)] == MARK for message in messages] == [True, True, False]
    reference = orjson.loads(messages[0].data)["$claim"]
    assert set(reference) == {"key", "sha256", "bytes"}
    assert reference["bytes"] == len(before[0])
    assert len(objects(claims)) == 2
    assert await claims.fetch(messages[0]) == before[0]

    assert await claims.remove(messages[0])
    assert await claims.remove(messages[0])  # again: it is gone, which is what was asked for
    assert not await claims.remove(messages[2])
    assert await claims.fetch(messages[1]) == before[1]
    with pytest.raises(FileNotFoundError, match="no object"):
        await claims.fetch(messages[0])


async def test_an_object_that_was_changed_is_not_believed(claims: ClaimStore) -> None:
    """Neither one of another size nor one of other bytes."""
    message = large()
    await claims.check_in([message], 1)
    key = orjson.loads(message.data)["$claim"]["key"]
    await obstore.put_async(claims._store, key, b"y" * orjson.loads(message.data)["$claim"]["bytes"])
    with pytest.raises(ValueError, match="sha256 differs"):
        await claims.fetch(message)
    await obstore.put_async(claims._store, key, b"y")
    with pytest.raises(ValueError, match="has 1 bytes"):
        await claims.fetch(message)


async def test_the_cap_is_what_may_stay(tmp_path: Path) -> None:
    """Data of just so many bytes stays in the message, and one byte more does not. A reference is not stored again."""
    claims = ClaimStore(f"file://{tmp_path}")
    message = large()
    data = message.data
    await claims.check_in([message], len(data))
    assert (message.data, objects(claims)) == (data, [])
    await claims.check_in([message], len(data) - 1)
    reference = message.data
    assert reference.startswith(MARK)
    await claims.check_in([message], 1)
    assert (message.data, len(objects(claims))) == (reference, 1)
    assert await ClaimStore(f"file://{tmp_path}", most=len(data)).fetch(message) == data
    with pytest.raises(ValueError, match=f"the claim is on {len(data)} bytes, over the cap of {len(data) - 1}"):
        await ClaimStore(f"file://{tmp_path}", most=len(data) - 1).fetch(message)


@pytest.mark.parametrize(
    "change", [{"bytes": -1}, {"bytes": "5"}, {"sha256": "A" * 64}, {"sha256": "a" * 63}, {"sha256": "b" * 64}]
)
async def test_every_part_of_a_reference_counts(tmp_path: Path, change: dict[str, Any]) -> None:
    """A size below zero, a digest that is none or is that of another object: neither fetched nor removed."""
    claims, message = ClaimStore(f"file://{tmp_path}"), large()
    await claims.check_in([message], 1)
    reference = orjson.loads(message.data)["$claim"]
    message.values[DATA] = orjson.dumps({"$claim": reference | change})
    with pytest.raises(ValueError, match="no claim on an object of this event"):
        await claims.fetch(message)
    assert not await claims.remove(message)
    assert objects(claims) == [reference["key"]]


async def test_objects_are_listed_with_their_event_and_dropped(claims: ClaimStore) -> None:
    """An id of another system may be any text: its object has a digest of it, and the listing no id. So has a file
    that is none of ours.
    """
    own, foreign = large(), Message.for_event(Noted(n=1, text=LARGE), source="/test", target="t", id="order/../7")
    size = len(own.data)
    await claims.check_in([own, foreign], 1)
    assert await claims.fetch(foreign)
    await obstore.put_async(claims._store, "notes.txt", b"x")
    listed = {stored.key: stored async for stored in claims.ls()}
    assert sorted((stored.event_id, stored.size) for stored in listed.values()) == sorted(
        [(own.id, size), ("", size), ("", 1)]
    )
    assert ".." not in "".join(listed)
    for stored in listed.values():
        await claims.drop(stored)
        await claims.drop(stored)  # somebody else was quicker
    assert objects(claims) == []


@pytest.mark.parametrize(
    "key", ["../secret", "/etc/passwd", "ab/../../secret", "%2e%2e/secret", "ab/" + "a" * 64 + "-other", ""]
)
async def test_a_reference_leads_to_its_own_object_only(claims: ClaimStore, tmp_path: Path, key: str) -> None:
    """Whoever may XADD chooses the key: no other object, no file, neither to read nor to remove."""
    (tmp_path / "secret").write_bytes(b"{}")
    other, hostile = large(), large()
    await claims.check_in([other], 1)
    reference = orjson.loads(other.data)["$claim"]
    for claim in ({**reference, "key": key}, reference):
        hostile.values[DATA] = orjson.dumps({"$claim": claim})
        with pytest.raises(ValueError, match="no claim on an object of this event"):
            await claims.fetch(hostile)
        assert not await claims.remove(hostile)
    assert await claims.fetch(other)


@pytest.mark.parametrize("data", [b'{"$claim":', b'{"$claim":7}', b'{"$claim":{"key":1}}', b'{"$claim":{}} x'])
async def test_a_reference_that_is_none_is_said(tmp_path: Path, data: bytes) -> None:
    """Malformed, of another form."""
    message = large()
    message.values[DATA] = data
    with pytest.raises(ValueError):
        await ClaimStore(f"file://{tmp_path}").fetch(message)
    assert not await ClaimStore(f"file://{tmp_path}").remove(message)


async def test_a_store_that_is_away(app: str) -> None:
    """Publishing fails before anything is published; handling waits and opens the breaker."""
    gone = ClaimStore("s3://bucket", endpoint="http://127.0.0.1:9", retry_config={"max_retries": 0}, **S3_OPTIONS)
    message = large()
    with pytest.raises(StreamsError, match="does not take"):
        await gone.check_in([message], 1)
    assert message.data == Noted(n=1, text=LARGE).encode()
    reachable = large()
    digest = "a" * 64
    claim = {"key": f"aa/{digest}-{reachable.id}", "sha256": digest, "bytes": 1}
    reachable.values[DATA] = orjson.dumps({"$claim": claim})
    with pytest.raises(Unavailable, match="storage"):
        await gone.fetch(reachable)
    with pytest.raises(Unavailable, match="storage"):
        await gone.remove(reachable)
    with pytest.raises(Unavailable, match="storage"):
        _ = [stored async for stored in gone.ls()]
    with pytest.raises(Unavailable, match="storage"):
        await gone.drop(Stored("aa/x", "", datetime.now(UTC), 1))


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://user:hunter2@host/x", "s3://", "s3://:hunter2@/", "file:///proc/hunter2"]
)
def test_a_wrong_url_is_refused(url: str) -> None:
    """In one line, without what is secret in it."""
    with pytest.raises(StreamsError, match="s3://bucket/prefix") as caught:
        ClaimStore(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.newest_redis
async def test_an_event_over_the_cap_goes_all_the_way(make_settings: MakeSettings, claims: ClaimStore) -> None:
    """The stream has the reference, the handler the event; so has its follow-up, and the dead letter the reference."""
    seen: list[int] = []
    notes = Processor("notes", retry=Backoff(attempts=1))

    @notes.on(Noted)
    async def note(event: Noted) -> list[Noted | Followed] | None:
        seen.append(len(event.text))
        return [Noted(n=1, text=event.text + "y"), Followed(n=1)] if event.n == 0 else None

    @notes.on(Other)
    async def fail(event: Other) -> None:
        raise RuntimeError("no")

    async with Streams(settings=make_settings(), claims=claims) as streams:
        consumer = Consumer(notes, Streams(settings=make_settings(), claims=claims))
        await consumer.start()
        await streams.publish(Noted(n=0, text=LARGE))
        await wait_until(lambda: len(seen) == 2)
        await consumer.stop()
        entries = [fields for _, fields in await streams.redis.xrange(streams.keys.stream("notes"))]
        assert seen == [len(LARGE), len(LARGE) + 1]
        assert [fields[b"data"].startswith(MARK) for fields in entries] == [True, True, False]
        with pytest.raises(TooLarge):
            await streams.publish(Noted(n=0, text="x" * (claims.most + 1)))


@pytest.mark.newest_redis
async def test_what_cannot_be_fetched_says_why(make_settings: MakeSettings, tmp_path: Path) -> None:
    """Without a store: a dead letter that says what to set. Without the object: tried again, then one that names it."""
    claims = ClaimStore(f"file://{tmp_path}")
    for group, held, reason, error in (
        ("none", None, b"invalid", b"set STORAGE_URL"), ("gone", claims, b"failed", b"no object"),
    ):  # fmt: skip
        notes, seen = Processor(group, retry=Backoff(attempts=2, first=0.01)), list[Noted]()
        notes.on(Noted)(seen.append)
        async with Streams(settings=make_settings(), claims=claims) as streams:
            consumer = Consumer(notes, Streams(settings=make_settings(), claims=held))
            message = streams.message(Noted(n=0, text=LARGE))
            await claims.check_in([message], 262_144)
            await claims.remove(message)
            await streams.append([message])
            await consumer.start()
            await wait_until(lambda key=streams.keys.dead(group), streams=streams: streams.redis.xlen(key))  # type: ignore[misc]
            await consumer.stop()
            (_, letter), *_ = await streams.redis.xrange(streams.keys.dead(group))
            assert (letter[b"reason"], seen) == (reason, [])
            assert error in letter[b"error"]


async def test_the_store_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_settings: MakeSettings
) -> None:
    """STORAGE_URL, and no store without it."""
    async with Streams(settings=make_settings()) as streams:
        assert streams.claims is None
    monkeypatch.setenv("STORAGE_URL", f"file://{tmp_path}/new/directory")
    async with Streams(settings=make_settings()) as streams:
        await streams.publish(Noted(n=1, text=LARGE))
        assert streams.claims is not None
        assert len(objects(streams.claims)) == 1
