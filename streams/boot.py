"""Boot check: a Redis that would lose events is refused with what to set, before the first event is in it.

It asks INFO, not CONFIG, which managed services hide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import BusyLoadingError, RedisError

from streams.errors import Refused, Unreachable
from streams.refusal import refusal

if TYPE_CHECKING:
    import redis.asyncio

    from streams.settings import Settings

OLDEST: Final = (7, 0, 0)


async def check(client: redis.asyncio.Redis, settings: Settings, where: str) -> None:
    """Raises `Refused` for an unsafe or too old server, `Unreachable` when it does not answer."""
    try:
        # Without sections: a Redis before 7.0 refuses more than one, and could not be called too old.
        info: dict[str, Any] = await client.info()
    except (RedisError, OSError) as error:
        raise refusal(error, where) from error
    if int(info.get("loading", 0)):
        # It answers INFO meanwhile, and says that its append-only file is off: it turns it on when all is loaded.
        cause = BusyLoadingError("loading")
        raise Unreachable(f"Redis at {where} is loading its data; it answers when that is done") from cause
    problems = find_problems(info, settings)
    if problems:
        raise Refused(f"Redis at {where} is not safe for events: {'; '.join(problems)}")


def find_problems(info: dict[str, Any], settings: Settings) -> list[str]:
    """Lists what is wrong with a server, one line each with its mend; risks the operator accepted are left out."""
    problems = []
    version = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:3] if part.isdigit())
    if version < OLDEST:
        problems.append(f"it is too old: version {info.get('redis_version')}, install 7.0 or later")
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
