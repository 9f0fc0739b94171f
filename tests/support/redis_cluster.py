"""RedisCluster: three masters on loopback, each with a third of the slots, and replicas if a test wants them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until_sync

if TYPE_CHECKING:
    import redis

    from streams.redis.embedded import ServerBinary

MASTERS: Final = 3
SLOTS: Final = 16384
TIMEOUT_MS: Final = 2000  # cluster-node-timeout: how long a master may be silent before it is failed over


class RedisCluster:
    """A cluster that belongs to a test. `nodes` are the masters first, then a replica of each if `replicas`."""

    def __init__(
        self, binary: ServerBinary, directory: Path, *, replicas: bool = False, tls: tuple[Path, Path] | None = None
    ) -> None:
        self.binary = binary
        self.tls = tls
        self._buses = [_free_port() for _ in range(MASTERS * (1 + replicas))]
        self.nodes = []
        for number, bus in enumerate(self._buses):
            place = directory / f"node-{number}"
            place.mkdir()
            arguments = (
                "--cluster-enabled", "yes", "--cluster-node-timeout", str(TIMEOUT_MS), "--cluster-port", str(bus),
                "--cluster-config-file", "nodes.conf", "--repl-diskless-sync-delay", "0",
            )  # fmt: skip
            if tls:
                arguments += ("--tls-cluster", "yes", "--tls-replication", "yes")
            self.nodes.append(RedisServer(binary, place, args=arguments, tls=tls))

    @property
    def url(self) -> str:
        """All its nodes, for `REDIS_URL`."""
        return (
            ("rediss" if self.tls else "redis")
            + "+cluster://"
            + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        )

    def start(self) -> RedisCluster:
        """Starts the nodes, gives each master its slots, and waits until all agree."""
        for node in self.nodes:
            node.start()
        masters, replicas = self.nodes[:MASTERS], self.nodes[MASTERS:]
        for number, node in enumerate(masters):
            first, last = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1
            node.cli("CLUSTER", "ADDSLOTSRANGE", first, last)
        for number, node in enumerate(self.nodes, 1):
            node.cli("CLUSTER", "SET-CONFIG-EPOCH", number)
            node.cli("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, self._buses[0])
        wait_until_sync(lambda: all(self._known(node) for node in self.nodes), 30, "the cluster is whole")
        for master, replica in zip(masters, replicas, strict=False):
            replica.cli("CLUSTER", "REPLICATE", master.cli("CLUSTER", "MYID"))
        for replica in replicas:
            wait_until_sync(lambda it=replica: it.cli("INFO", "replication")["master_link_status"] == "up", 30)
        return self

    def _known(self, node: RedisServer) -> bool:
        info = node.cli("CLUSTER", "INFO")
        found = (
            dict(line.split(":", 1) for line in _text(info).split() if ":" in line)
            if not isinstance(info, dict)
            else info
        )
        return found["cluster_state"] == "ok" and int(found["cluster_known_nodes"]) == len(self.nodes)

    def master_of(self, key: str) -> RedisServer:
        """The node that has a key now."""
        asked = next(node for node in self.nodes if node.running)
        slot = asked.cli("CLUSTER", "KEYSLOT", key)
        for first, last, master, *_ in asked.cli("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == master[1])
        raise AssertionError(f"nobody has slot {slot}")

    def move(self, key: str) -> RedisServer:
        """Moves the slot of a key, with all its keys, to another master, as `redis-cli --cluster reshard` does."""
        source = self.master_of(key)
        target = next(node for node in self.nodes[:MASTERS] if node is not source)
        slot = source.cli("CLUSTER", "KEYSLOT", key)
        source_id, target_id = _text(source.cli("CLUSTER", "MYID")), _text(target.cli("CLUSTER", "MYID"))
        target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        while keys := source.cli("CLUSTER", "GETKEYSINSLOT", slot, 10):
            source.cli("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source, *self.nodes):
            node.cli("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        return target

    def stop(self) -> None:
        """Ends all nodes."""
        for node in self.nodes:
            node.stop()

    @contextmanager
    def clients(self) -> Iterator[list[redis.Redis]]:
        """Plain clients of the masters."""
        with ExitStack() as stack:
            found = [stack.enter_context(node.client()) for node in self.nodes if node.running]
            yield [client for client in found if _role(client) == "master"]


def _role(client: Any) -> str:
    return _text(client.execute_command("ROLE")[0])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
