"""A search for a secret is only worth something if it would find one."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import redis.asyncio

from examples.demo.secret_scan import scan_for_secret

pytestmark = pytest.mark.newest_redis

TOKEN = "kJ8-token_of-the-test_0123456789"
EVENT = "01a20c4c-6ba5-7300-b21d-e4e222aec204"


@pytest.fixture
async def redis_holding_the_hash(redis_client: redis.asyncio.Redis, app: str) -> redis.asyncio.Redis:
    await redis_client.set(f"{{{app}:0}}:own:email:reset:x", sha256(TOKEN.encode()).hexdigest(), ex=60)
    return redis_client


@pytest.mark.parametrize("leak", ["nowhere", "string", "hash", "zset", "stream", "journal", "log", "span"])
async def test_it_finds_the_secret_wherever_it_is(
    redis_holding_the_hash: redis.asyncio.Redis, app: str, tmp_path: Path, leak: str
) -> None:
    redis, key = redis_holding_the_hash, f"{{{app}:0}}:own:leak"
    match leak:
        case "string":
            await redis.set(key, f"a {TOKEN}")
        case "hash":
            await redis.hset(key, "field", TOKEN)
        case "zset":
            await redis.zadd(key, {TOKEN: 1})
        case "stream":
            await redis.xadd(key, {"data": f'{{"token":"{TOKEN}"}}'})
    if leak in ("string", "hash", "zset", "stream"):
        await redis.expire(key, 60)
    journal, log = tmp_path / "appendonlydir" / "1.aof", tmp_path / "email.log"
    journal.parent.mkdir()
    journal.write_text(sha256(TOKEN.encode()).hexdigest() + (TOKEN if leak == "journal" else ""))
    log.write_text(f"<{EVENT}.password_reset@x>" + (TOKEN if leak == "log" else ""))
    span = f"{EVENT} {TOKEN if leak == 'span' else ''}".encode()
    check = await scan_for_secret(redis, tmp_path, [log], [span], token=TOKEN, event=EVENT)
    assert check.held == (leak == "nowhere"), check


@pytest.mark.parametrize("blind", ["keys", "journal", "log", "span"])
async def test_a_search_that_would_find_nothing_does_not_count(
    redis_client: redis.asyncio.Redis, app: str, tmp_path: Path, blind: str
) -> None:
    hashed = sha256(TOKEN.encode()).hexdigest()
    await redis_client.set(f"{{{app}:0}}:own:x", "nothing" if blind == "keys" else hashed, ex=60)
    journal, log = tmp_path / "appendonlydir" / "1.aof", tmp_path / "email.log"
    journal.parent.mkdir()
    journal.write_text("" if blind == "journal" else hashed)
    log.write_text("" if blind == "log" else EVENT)
    spans = [] if blind == "span" else [EVENT.encode()]
    check = await scan_for_secret(redis_client, tmp_path, [log], spans, token=TOKEN, event=EVENT)
    assert not check.held
    assert "blind" in check.found


async def test_a_mail_without_a_token_is_no_success(redis_client: redis.asyncio.Redis, tmp_path: Path) -> None:
    assert not (await scan_for_secret(redis_client, tmp_path, [], [], token="", event=EVENT)).held
