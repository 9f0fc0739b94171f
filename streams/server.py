"""Server: what Redis says about itself, as far as it matters for events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from streams.partition import Partition


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
