"""Boot check: a Redis that would lose events is refused with what to set, before the first event is in it.

It asks INFO, not CONFIG, which managed services hide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from streams.connection import refusal
from streams.errors import Refused

if TYPE_CHECKING:
    import redis.asyncio

    from streams.settings import Settings

OLDEST: Final = (7, 0, 0)


async def check(client: redis.asyncio.Redis, settings: Settings, where: str) -> None:
    """Raises `Refused` for an unsafe or too old server, `Unreachable` when it does not answer."""
    try:
        info: dict[str, Any] = {}
        for section in ("server", "memory", "persistence"):
            info |= await client.info(section)
    except (RedisError, OSError) as error:
        raise refusal(error, where) from error
    problems = find_problems(info, settings)
    if problems:
        raise Refused(f"Redis at {where} is not safe for events: {'; '.join(problems)}")


def find_problems(info: dict[str, Any], settings: Settings) -> list[str]:
    """Lists what is wrong with a server, one line each with its mend; risks the operator accepted are left out."""
    problems = []
    version = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:3] if part.isdigit())
    if version < OLDEST:
        problems.append(f"it is version {info.get('redis_version')}, install 7.0 or later")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and "eviction" not in settings.accept_risk:
        problems.append(
            f"maxmemory-policy {policy} evicts whole streams with unread events, set `maxmemory-policy noeviction` "
            "(or accept it with STREAMS_ACCEPT_RISK=eviction)"
        )
    if not int(info.get("aof_enabled", 0)) and "no-aof" not in settings.accept_risk:
        problems.append(
            "the append-only file is off, so a restart loses events, set `appendonly yes` "
            "(or accept it with STREAMS_ACCEPT_RISK=no-aof)"
        )
    return problems
