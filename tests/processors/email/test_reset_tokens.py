"""Reset tokens against a real Redis: stored as a hash, ended by Redis' clock, good for one use."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from processors.email.reset_tokens import mint, verify
from streams.client import Streams
from tests.waiting import wait_until

RESET = "reset-12345"


def soon(seconds: float = 600) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def test_a_token_works_once(streams: Streams) -> None:
    token = await mint(streams.redis, streams.keys, RESET, soon())
    assert token is not None
    assert len(token) >= 43
    assert await verify(streams.redis, streams.keys, RESET, token)
    assert not await verify(streams.redis, streams.keys, RESET, token)


async def test_of_many_callers_at_once_one_is_told_true(streams: Streams) -> None:
    token = await mint(streams.redis, streams.keys, RESET, soon())
    assert token is not None
    # With a connection open for each, all of them read the hash before the first deletes it.
    await asyncio.gather(*(streams.redis.ping() for _ in range(20)))
    answers = await asyncio.gather(*(verify(streams.redis, streams.keys, RESET, token) for _ in range(20)))
    assert sorted(answers) == [False] * 19 + [True]


async def test_a_wrong_token_uses_nothing_up(streams: Streams) -> None:
    token = await mint(streams.redis, streams.keys, RESET, soon())
    assert token is not None
    for wrong in ("", "x", token[:-1], token + "x", "ünï", "\udcff", sha256(token.encode()).hexdigest()):
        assert not await verify(streams.redis, streams.keys, RESET, wrong)
    assert not await verify(streams.redis, streams.keys, "another-1", token)
    assert await verify(streams.redis, streams.keys, RESET, token)


async def test_the_token_itself_is_nowhere_in_redis_and_its_hash_has_an_end(streams: Streams) -> None:
    token = await mint(streams.redis, streams.keys, RESET, soon(600))
    assert token is not None
    keys = [key async for key in streams.redis.scan_iter(f"{{{streams.keys.app}:*")]
    assert len(keys) == 1
    stored = await streams.redis.get(keys[0])
    assert stored == sha256(token.encode()).hexdigest().encode()
    assert RESET.encode() not in keys[0]
    assert token.encode() not in keys[0]
    assert 590_000 < await streams.redis.pttl(keys[0]) <= 600_000


async def test_a_retry_replaces_the_token(streams: Streams) -> None:
    first = await mint(streams.redis, streams.keys, RESET, soon())
    second = await mint(streams.redis, streams.keys, RESET, soon())
    assert first is not None
    assert second is not None
    assert not await verify(streams.redis, streams.keys, RESET, first)
    assert await verify(streams.redis, streams.keys, RESET, second)


async def test_an_expired_reset_gets_no_token(streams: Streams) -> None:
    assert await mint(streams.redis, streams.keys, RESET, soon(-1)) is None
    assert [key async for key in streams.redis.scan_iter(f"{{{streams.keys.app}:*")] == []


async def test_a_token_ends_with_its_reset(streams: Streams) -> None:
    token = await mint(streams.redis, streams.keys, RESET, soon(0.2))
    assert token is not None

    async def gone() -> bool:
        return [key async for key in streams.redis.scan_iter(f"{{{streams.keys.app}:*")] == []

    await wait_until(gone)
    assert not await verify(streams.redis, streams.keys, RESET, token)
