"""Server: the facts of a Redis server, and whether it is safe: one that would lose events is refused with what to set.

It asks INFO, not CONFIG, which managed services hide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from streams.errors import Refused, Unreachable
from streams.redis.embedded import OLDEST
from streams.redis.refusal import refusal

if TYPE_CHECKING:
    import redis.asyncio

    from streams.redis.partition import Partition
    from streams.settings import Settings


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


class Problem(NamedTuple):
    """Why events are not safe on a server: which check found it, what it is, what to do, and the name under which
    STREAMS_ACCEPT_RISK accepts it, if it can be accepted.
    """

    check: str
    text: str
    remedy: str
    risk: str = ""


def judge(version: str, policy: str, *, aof: bool) -> list[Problem]:
    """What is wrong with a server of that version, maxmemory-policy and append-only file: at boot and for `doctor`."""
    problems = []
    if tuple(int(part) for part in version.split(".")[:3] if part.isdigit()) < OLDEST:
        problems.append(Problem("version", f"it is too old: version {version}", "install 7.0 or later"))
    if policy not in ("", "noeviction"):
        problems.append(
            Problem(
                "policy", f"maxmemory-policy {policy} evicts whole streams with unread events",
                "set `maxmemory-policy noeviction` (redis-cli CONFIG SET, and in redis.conf)", "eviction",
            )
        )  # fmt: skip
    if not aof:
        problems.append(
            Problem(
                "aof", "the append-only file is off, so a restart loses events",
                "set `appendonly yes` (redis-cli CONFIG SET, and in redis.conf)", "no-aof",
            )
        )  # fmt: skip
    return problems


def find_problems(info: dict[str, Any], settings: Settings) -> list[str]:
    """What is wrong with a server by its INFO, one line each with its remedy; accepted risks are left out."""
    found = judge(
        str(info.get("redis_version", "0")), str(info.get("maxmemory_policy", "")), aof=bool(info.get("aof_enabled", 0))
    )
    return [
        f"{problem.text}, {problem.remedy}"
        + (f", or accept it with STREAMS_ACCEPT_RISK={problem.risk}" if problem.risk else "")
        for problem in found
        if problem.risk not in settings.accept_risk
    ]


# Server: what Redis says about itself, as far as it matters for events.


@dataclass(frozen=True, slots=True)
class Server:
    """The Redis that holds it all. Bytes; `maxmemory` 0 means no limit; `appendfsync` is empty where CONFIG is
    forbidden. `run_id` is another one after each start.
    """

    place: str
    version: str
    mode: str
    maxmemory_policy: str
    aof: bool
    appendfsync: str
    used_memory: int
    maxmemory: int
    system_memory: int
    clients: int
    run_id: str = ""

    @classmethod
    async def read(cls, partition: Partition, info: dict[str, Any]) -> Self:
        """Picks the facts from INFO; only `appendfsync` needs CONFIG, which managed services hide."""
        try:
            found: Any = await partition.redis.config_get("appendfsync")
            fsync = found.get("appendfsync", "")
        except ResponseError:
            fsync = ""
        return cls(
            partition.connections.server,
            str(info.get("redis_version", "")),
            str(info.get("redis_mode", "")),
            str(info.get("maxmemory_policy", "")),
            bool(info.get("aof_enabled", 0)),
            fsync if isinstance(fsync, str) else fsync.decode(),
            int(info.get("used_memory", 0)),
            int(info.get("maxmemory", 0)),
            int(info.get("total_system_memory", 0)),
            int(info.get("connected_clients", 0)),
            str(info.get("run_id", "")),
        )
