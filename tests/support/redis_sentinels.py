"""RedisSentinels: a master, its replicas, and three sentinels that watch them, on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until_sync

if TYPE_CHECKING:
    from streams.redis.embedded import ServerBinary

SERVICE: Final = "events"
DOWN_AFTER_MS: Final = 500


class RedisSentinels:
    """They belong to a test. `servers` are the first master and its replicas, whatever they are now."""

    def __init__(self, binary: ServerBinary, directory: Path, *, replicas: int = 1) -> None:
        self._directory = directory
        self.servers = [self._made(binary, f"server-{number}") for number in range(1 + replicas)]
        self._binary = binary
        self.sentinels: list[RedisServer] = []

    def _made(self, binary: ServerBinary, name: str, **options: Any) -> RedisServer:
        (self._directory / name).mkdir()
        options.setdefault("args", ("--repl-diskless-sync-delay", "0"))
        return RedisServer(binary, self._directory / name, **options)

    @property
    def url(self) -> str:
        """For `REDIS_URL`."""
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels) + f"/{SERVICE}"

    def start(self) -> RedisSentinels:
        """Starts all, and waits until everybody knows everybody."""
        master, *replicas = [server.start() for server in self.servers]
        for replica in replicas:
            replica.cli("REPLICAOF", "127.0.0.1", master.port)
        for replica in replicas:
            wait_until_sync(lambda it=replica: it.cli("INFO", "replication")["master_link_status"] == "up", 30)
        for number in range(3):
            directory = self._directory / f"sentinel-{number}"
            directory.mkdir()
            config = directory / "sentinel.conf"
            config.write_text(
                f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {SERVICE} 3000\n"
                f"sentinel parallel-syncs {SERVICE} 1\n"
            )
            sentinel = RedisServer(self._binary, directory, config=config, args=("--sentinel",))
            self.sentinels.append(sentinel.start())
        wait_until_sync(lambda: all(self._knows(sentinel) for sentinel in self.sentinels), 30, "the sentinels agree")
        return self

    def _knows(self, sentinel: RedisServer) -> bool:
        found = self._state(sentinel)
        return found["num-slaves"] == len(self.servers) - 1 and found["num-other-sentinels"] == 2

    def _state(self, sentinel: RedisServer) -> dict[str, Any]:
        with sentinel.client() as client:
            state: dict[str, Any] = client.sentinel_master(SERVICE)
            return state

    def master(self) -> RedisServer:
        """Who is the master now, as the first sentinel that lives says."""
        sentinel = next(each for each in self.sentinels if each.running)
        with sentinel.client() as client:
            port = client.sentinel_get_master_addr_by_name(SERVICE)[1]
        return next(server for server in self.servers if server.port == int(port))

    def stop(self) -> None:
        """Ends all of them."""
        for server in (*self.sentinels, *self.servers):
            server.stop()
