"""Consumer: the engine's own consumer in a harness, without the loops that wait for Redis: the harness says when it
reads.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

from streams import clock
from streams.consuming import scripts
from streams.consuming.consumer import Consumer, end_tasks
from streams.redis import script
from streams.settling import limits
from streams.testing.crash import Crash

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from streams.client.client import Streams
    from streams.handlers.processor import Processor
    from streams.messages.middleware import Middleware
    from streams.testing.overrides import Overrides
    from streams.testing.server import MemoryServer

_SPINS: Final = 50  # iterations of the event loop, after which a handler is taken to wait for something real
_PATIENCE: Final = 0.001  # seconds


class HarnessConsumer(Consumer):
    """One incarnation of a processor's consumer."""

    def __init__(
        self,
        processor: Processor,
        client: Streams,
        server: MemoryServer,
        *,
        rng: Random,
        middleware: Sequence[Middleware],
        overrides: Overrides,
    ) -> None:
        super().__init__(processor, client, middleware=middleware, rng=rng)
        self._part = self._parts[0]
        self._call = client.partitions[0].connections.direct(timeout=0).call
        self._keys = client.partitions[0].keys
        self._server = server
        self._overrides = overrides
        self._context = copy_context()
        self._limit_opens: int | None = None
        self._problem: BaseException | None = None
        self.dead = False
        self.taken = 0  # deliveries

    @property
    def group(self) -> str:
        """Its processor's name."""
        return self._group

    async def open(self) -> None:
        """Joins the group, and takes over what earlier incarnations held."""
        part = self._part
        await part.membership.ensure_groups()
        await self._listen()
        self._sharing = asyncio.get_running_loop().create_task(self._share())
        ready = self._spawn(self._until_shared())
        await asyncio.wait([self._sharing, ready], return_when=asyncio.FIRST_COMPLETED)
        if self._sharing.done():
            ready.cancel()
            await self._sharing  # raises: an override could not be opened
        self._server.listen(self._keys.control(self.group), self._hear)
        _ = self._spawn(part.settlement.run())
        if part.limiter is not None:
            _ = self._spawn(part.limiter.ask())
        self.taken += await part.reclaimer.take_over()

    async def _until_shared(self) -> None:
        await self._shared_ready.wait()

    async def _begin_to_share(self) -> None:
        await self._overrides.share()
        self._context = copy_context()
        self._pool.start()

    def on_task_ended(self, task: asyncio.Task[None]) -> None:
        """Notes that it is dead, and of what, unless that was meant."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        self.dead = True
        if not isinstance(error, Crash):
            self._problem = error

    def _hear(self, words: bytes) -> None:
        _ = self._spawn(self._part.control.handle(words))

    async def look(self) -> None:
        """Does what loops do by the clock: the heartbeat, a look for requests to the group, slots, limits."""
        await self._listen()
        for scheduler in self._schedulers:
            # In the context of what is shared, as schedules may depend on it.
            await asyncio.get_running_loop().create_task(scheduler.fire_all(), context=self._context.copy())
        if self._part.limiter is not None and self._breaker.closed:
            wait, _ = await limits.serve(self._call, self._keys, group=self.group)
            self._limit_opens = round(clock.timers().time() * 1000) + wait if wait >= 0 else None

    async def _listen(self) -> None:
        keys, arguments = scripts.renew_arguments(self._keys.consumers(self.group), self.group, self.name, {})
        await script.run(self._call, scripts.RENEW, keys, arguments)
        await self._part.control.look()

    async def take(self) -> int:
        """Reads what is there for the group, as far as there is room; returns how many messages that were."""
        count = sum([await reader.take() for reader in dict.fromkeys(self._part.readers.values())])
        self.taken += count
        return count

    @property
    def next_due(self) -> int | None:
        """When it has something to do by itself, in ms since 1970: a slot, or a limit that admits again."""
        moments = [scheduler.next_slot() for scheduler in self._schedulers]
        return min((at for at in (*moments, self._limit_opens) if at is not None), default=None)

    async def quiet(self) -> None:
        """Returns when every handler has ended, its outcome is settled and nothing else can begin; or when it has
        died. No time passes but what handlers themselves wait for.
        """
        spins = 0
        while not self.dead:
            if self._is_idle():
                await self._part.settlement.flush()
                if self._is_idle():
                    break
            spins += 1
            await asyncio.sleep(0 if spins < _SPINS else _PATIENCE)
        if self._problem is not None:
            raise self._problem

    def _is_idle(self) -> bool:
        return self._pool.is_idle() and (self._part.limiter is None or self._part.limiter.is_quiet)

    async def die(self) -> None:
        """Ends at once. What it holds is not settled."""
        await self._pool.stop()
        for scheduler in self._schedulers:
            scheduler.close()
        self._breaker.stop()
        await end_tasks(self._loops)
        self._shared_done.set()
        if self._sharing is not None:
            await asyncio.wait([self._sharing])

    async def retire(self) -> None:
        """Takes the dead consumer out of its group, when another has what it held."""
        await self._part.membership.leave()
