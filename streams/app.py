"""App: one app in Redis: its partitions, settings and claim store. Every part below the client is given one."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, Self

from streams.errors import Refused, StreamsError, Unreachable
from streams.messages import event_ids
from streams.messages.claims import ClaimStore
from streams.redis import server
from streams.redis.connection import Connections
from streams.redis.keys import Keys, partition_of
from streams.redis.partition import Partition
from streams.redis.refusal import refusal, refusing, unless_odd
from streams.redis.script import Call, Script, run
from streams.redis.untrusted import whole
from streams.settings import Settings

if TYPE_CHECKING:
    import redis.asyncio


class App:
    """What all processes of an app have in common, as one of them reaches it. Making one connects to nothing."""

    def __init__(self, settings: Settings, claims: ClaimStore | None = None) -> None:
        self.settings = settings
        if claims is None and settings.storage_url is not None:
            claims = ClaimStore(settings.storage_url.get_secret_value())
        self.connections = self._connect(settings)
        self.partitions = tuple(Partition(number, settings, self.connections) for number in range(settings.partitions))
        self.claims = claims  # where data over the size cap goes; None: it is refused
        self._checked = False
        self._checking = asyncio.Lock()

    def _connect(self, settings: Settings) -> Connections:
        return Connections(settings)

    @property
    def keys(self) -> Keys:
        """The key names of partition 0, where a processor's own keys are (`keys.own`)."""
        return self.partitions[0].keys

    @property
    def redis(self) -> redis.asyncio.Redis:
        """The client (bytes in, bytes out) for a processor's own keys, never for the engine's."""
        return self.partitions[0].connections.client

    def partition_for(self, name: str) -> int:
        """The number of the partition of an event, by its ordering key, `once` name or id."""
        return partition_of(name, len(self.partitions)) if len(self.partitions) > 1 else 0

    def partition_of(self, key: str) -> int:
        """The number of the partition that a Redis key belongs to."""
        return self.partitions[0].keys.number_in(key) if len(self.partitions) > 1 else 0

    def new_id(self) -> str:
        """An id for a new event."""
        return event_ids.new_id()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes every connection; in the event loop in which it was used, or when that one is closed."""
        if not self.connections.is_over:
            self.connections.enter()
        for partition in self.partitions:
            await partition.aclose()
        await self.connections.aclose()

    async def check(self) -> None:
        """Raises `Refused` when a server is not safe for events, `Unreachable` when one does not answer."""
        self.connections.enter()
        async with self._checking:
            if not self._checked:
                for connections in dict.fromkeys(partition.connections for partition in self.partitions):
                    await server.check(connections.client, self.settings, connections.place)
                await agree(self)
                self._checked = True

    async def _make_sure(self) -> None:
        """As `check`, and tries again for as long as a publish may take."""
        loop = asyncio.get_running_loop()
        deadline, limit, pause = loop.time() + self.settings.publish_timeout, self.settings.publish_timeout / 4, 0.02
        problem: StreamsError | None = None
        while True:
            try:
                async with asyncio.timeout_at(min(deadline, loop.time() + limit)):
                    return await self.check()
            except TimeoutError as error:
                problem = problem or refusal(error, self.connections.place)
            except Unreachable as error:
                problem = error
            if loop.time() + pause >= deadline:
                raise problem
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            limit, pause = limit * 2, min(1.0, pause * 2)


# Partitioning: how many partitions an app has, on which all its processes must agree.


async def agree(client: App) -> None:
    """Raises `Refused` when `STREAMS_PARTITIONS` is not what the app has; a new app has what its first process says."""
    number = client.settings.partitions
    holds = await settle_on(client, number)
    if holds != number:
        raise Refused(
            f"{client.settings.app} has {holds} partition(s), not {number}: set STREAMS_PARTITIONS={holds}, or change "
            f"it with `streams partitions --set {number}`"
        )


async def registered(client: App) -> int:
    """How many the app has; what the settings say where nothing was ever published."""
    first = client.partitions[0]
    with refusing(first.connections):
        noted = whole(await unless_odd(first.redis.get(first.keys.partitions())))
        if noted > 0:
            return noted
        return 1 if await first.redis.exists(first.keys.ledger()) else client.settings.partitions


async def settle_on(client: App, number: int, *, change: bool = False) -> int:
    """The number that holds: `number` if the app is new, or to be changed."""
    first = client.partitions[0]
    with refusing(first.connections):
        return await agree_partitions(first.redis.execute_command, first.keys, number=number, change=change)


AGREE_PARTITIONS: Final = Script.load("redis/agree_partitions")


async def agree_partitions(call: Call, keys: Keys, *, number: int, change: bool = False) -> int:
    """How many partitions the app has: `number` if it is new or to be changed, else what was noted before."""
    holds: int = await run(call, AGREE_PARTITIONS, (keys.partitions(), keys.ledger()), (number, int(change)))
    return holds
