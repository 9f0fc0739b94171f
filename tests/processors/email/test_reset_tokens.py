"""Reset tokens against a real Redis: a hash, bound to one address, ended by Redis' clock, good for one use."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import pytest

from processors.email.reset_tokens import LONGEST, Token, mailed, mint, not_mailed, verify
from streams.client.client import Streams
from streams.messages.outcome import DeadLetter
from tests.support.waiting import wait_until

RESET = "reset-12345"
ADA = "ada@example.com"
EVE = "eve@evil.example"


def soon(seconds: float = 600) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def minted(
    streams: Streams, email: str = ADA, expires_at: datetime | None = None, reset_id: str = RESET
) -> Token | None:
    return await mint(streams.redis, streams.keys, reset_id, email, expires_at or soon())


async def made(streams: Streams, email: str = ADA, expires_at: datetime | None = None) -> str:
    token = await minted(streams, email, expires_at)
    assert token is not None
    return token.text


async def verified(streams: Streams, token: str, **options: Any) -> bool:
    return await verify(streams.redis, streams.keys, RESET, token, **options)


async def stored(streams: Streams) -> dict[bytes, Any]:
    redis: Any = streams.redis
    return {
        key: await (redis.smembers(key) if key.endswith(b":tokens") else redis.get(key))
        async for key in redis.scan_iter(f"{{{streams.keys.app}:*")
    }


async def test_a_token_works_once(streams: Streams) -> None:
    token = await made(streams)
    assert len(token) >= 43
    assert await verified(streams, token)
    assert not await verified(streams, token)


async def test_a_used_reset_gets_no_other_token(streams: Streams) -> None:
    """A replay of its event, or another event, would else open the account again."""
    assert await verified(streams, await made(streams))
    for email in (ADA, EVE):
        assert await minted(streams, email) is None


async def test_of_many_callers_at_once_one_is_told_true(streams: Streams) -> None:
    token = await made(streams)
    # With a connection open for each, all of them read the hash before the first deletes it.
    await asyncio.gather(*(streams.redis.ping() for _ in range(20)))
    answers = await asyncio.gather(*(verified(streams, token) for _ in range(20)))
    assert sorted(answers) == [False] * 19 + [True]


async def test_a_wrong_token_uses_nothing_up(streams: Streams) -> None:
    token = await made(streams)
    for wrong in ("", "x", token[:-1], token + "x", "ünï", "\udcff", sha256(token.encode()).hexdigest(), "used"):
        assert not await verified(streams, wrong)
    assert not await verify(streams.redis, streams.keys, "another-1", token)
    assert await verified(streams, token)


@pytest.mark.parametrize("other", [EVE, "ADA@example.com", "ada@example.com.evil.example", "ada@example.co", "x"])
async def test_a_reset_is_for_one_address(streams: Streams, other: str) -> None:
    """Another address under the same reset_id gets no token, and what was mailed still works."""
    token = await made(streams)
    with pytest.raises(DeadLetter, match="this reset_id is for another address") as caught:
        await minted(streams, other)
    assert other not in str(caught.value)
    assert await verified(streams, token)


async def test_of_two_addresses_at_once_one_is_bound(streams: Streams) -> None:
    """However they come together: one address has tokens, the other one has none."""
    await asyncio.gather(*(streams.redis.ping() for _ in range(20)))
    answers = await asyncio.gather(*(minted(streams, email) for email in [ADA, EVE] * 10), return_exceptions=True)
    first = [isinstance(answer, Token) for answer in answers]
    assert first in ([True, False] * 10, [False, True] * 10)


async def test_an_application_that_names_the_address_refuses_what_went_elsewhere(streams: Streams) -> None:
    """Also where the other address came first; the domain's case says nothing."""
    token = await made(streams, EVE)
    assert not await verified(streams, token, email=ADA)
    assert not await verified(streams, token, email="")
    assert await verified(streams, token, email="eve@EVIL.example")


async def test_the_token_itself_is_nowhere_in_redis_and_its_hash_has_an_end(streams: Streams) -> None:
    token = await made(streams, expires_at=soon(600))
    found = await stored(streams)
    assert len(found) == 2
    (key,) = [key for key in found if key.endswith(b":tokens")]
    assert found[key] == {sha256(token.encode()).hexdigest().encode()}
    everything = repr(found).encode()
    for secret in (RESET, token, ADA):
        assert secret.encode() not in everything
    assert 590_000 < await streams.redis.pttl(key) <= 600_000
    assert await verified(streams, token)
    assert all([0 < await streams.redis.pttl(key) <= LONGEST for key in await stored(streams)])


@pytest.mark.parametrize(
    "expires_at",
    [
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(-timedelta(hours=14))),
        soon(25 * 3600),
    ],
)
async def test_no_token_lives_longer_than_a_day(streams: Streams, expires_at: datetime) -> None:
    """Whatever the event says, and however often it comes: the day begins with the first mail."""
    token = await minted(streams, expires_at=expires_at)
    assert token is not None
    assert timedelta(hours=23, minutes=59) < token.until - datetime.now(UTC) <= timedelta(days=1, seconds=5)
    again = await minted(streams, expires_at=expires_at)
    assert again is not None
    assert again.until == token.until
    for key in await stored(streams):
        assert 0 < await streams.redis.pttl(key) <= LONGEST


async def test_a_shorter_life_is_kept(streams: Streams) -> None:
    expires_at = soon(600)
    token = await minted(streams, expires_at=expires_at)
    assert token is not None
    assert abs(token.until - expires_at) < timedelta(milliseconds=1)


async def test_a_token_ends_the_earlier_ones_when_it_is_mailed(streams: Streams) -> None:
    """Not before: its mail may fail. One that was made later is none of its business."""
    first, second, third = [token for _ in range(3) if (token := await minted(streams)) is not None]
    await mailed(streams.redis, streams.keys, RESET, third)
    await mailed(streams.redis, streams.keys, RESET, second)  # two processes were at it: the newest stays
    for ended in (first, second):
        assert not await verified(streams, ended.text)
    assert await verified(streams, third.text)


async def test_a_token_that_was_not_mailed_ends_alone(streams: Streams) -> None:
    first, second = [token for _ in range(2) if (token := await minted(streams)) is not None]
    await not_mailed(streams.redis, streams.keys, RESET, second)
    assert not await verified(streams, second.text)
    assert await verified(streams, first.text)


async def test_one_of_two_tokens_uses_the_reset_up(streams: Streams) -> None:
    """Nobody knows which mail has arrived, so both work: for one use between them, also at the same moment."""
    tokens = [await made(streams), await made(streams)]
    await asyncio.gather(*(streams.redis.ping() for _ in range(20)))
    answers = await asyncio.gather(*(verified(streams, token) for token in tokens * 10))
    assert sum(answers) == 1


@pytest.mark.parametrize(
    "expires_at",
    [soon(-1), datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), datetime(1, 1, 1, tzinfo=UTC)],
)
async def test_an_expired_reset_gets_no_token(streams: Streams, expires_at: datetime) -> None:
    assert await minted(streams, expires_at=expires_at) is None
    assert await stored(streams) == {}


async def test_a_token_ends_with_its_reset_and_the_binding_stays(streams: Streams) -> None:
    """An event with a later time gives another address nothing."""
    token = await made(streams, expires_at=soon(0.2))

    async def gone() -> bool:
        return [key for key in await stored(streams) if key.endswith(b":tokens")] == []

    await wait_until(gone)
    assert not await verified(streams, token)
    with pytest.raises(DeadLetter):
        await minted(streams, EVE)
