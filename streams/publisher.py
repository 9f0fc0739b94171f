"""Publisher: appends messages to streams, many callers' in one script call, and each batch exactly once.

Every batch carries this publisher's id and a sequence number that Redis remembers (the way of Kafka's idempotent
producer). One batch is on its way at a time: two could overtake each other, and the later number would make Redis
take the earlier batch for a repetition and drop it.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from redis.exceptions import OutOfMemoryError, RedisError

from streams import scripts
from streams.connection import LOST, Connections, refusal
from streams.errors import NotReplicated, PublishUncertain, Refused, StreamsError
from streams.message import ID, Message
from streams.middleware import Middleware, publish_chain
from streams.receipt import Receipt

if TYPE_CHECKING:
    from streams.keys import Keys

_BATCH: Final = 500  # messages in one script call: about 1 ms in which Redis serves nobody else
_BATCH_BYTES: Final = 4 * 1024 * 1024


class _Waiting:
    __slots__ = ("error", "future", "messages", "replicated")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.replicated = bool(messages) and messages[0].replicated
        self.future: asyncio.Future[None] | None = None
        self.error: BaseException | None = None


class Publisher:
    """The publisher of one process for one partition."""

    def __init__(self, connections: Connections, keys: Keys, middleware: Sequence[Middleware] = ()) -> None:
        self._connections = connections
        self._keys = keys
        self._timeout = connections.settings.publish_timeout
        self._connection = connections.direct(timeout=self._timeout)
        self._producer = ""
        self._process = 0
        self._sequence = 0
        self._queue: deque[_Waiting] = deque()
        self._sending = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.publish = publish_chain(middleware, self._add)

    async def _add(self, messages: Sequence[Message]) -> None:
        """Adds messages (each with its `target`) in order; returns when they are in Redis.

        The first caller sends its own batch without a task or a wake-up in between; who comes meanwhile is sent
        together in the next batch. A cancelled caller's messages are published all the same.
        """
        waiting = _Waiting(messages)
        self._queue.append(waiting)
        if self._sending:
            waiting.future = asyncio.get_running_loop().create_future()
            await waiting.future
            return
        self._sending = True
        batch = self._take_batch()
        try:
            await self._send(batch, self._sequence)
        except asyncio.CancelledError:
            # Others may be in this batch, and its number is used: somebody has to see it through.
            self._start(self._send_rest(batch))
            raise
        self._continue()
        if waiting.error:
            raise waiting.error

    def _continue(self) -> None:
        if self._queue:
            self._start(self._send_rest(None))
        else:
            self._sending = False

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_rest(self, interrupted: list[_Waiting] | None) -> None:
        if interrupted is not None:
            await self._send(interrupted, self._sequence)
        while self._queue:
            batch = self._take_batch()
            await self._send(batch, self._sequence)
        self._sending = False

    def _take_batch(self) -> list[_Waiting]:
        """Takes what waits, up to a batch, and numbers it."""
        if self._process != os.getpid():
            # A forked child with its parent's number would have its batches taken for repetitions, and dropped.
            self._process, self._producer, self._sequence = os.getpid(), self._keys.producer(uuid4().hex), 0
        self._sequence += 1
        batch, count, size = [], 0, 0
        while self._queue and count < _BATCH and size < _BATCH_BYTES:
            waiting = self._queue.popleft()
            batch.append(waiting)
            count += len(waiting.messages)
            size += sum(len(message.data) for message in waiting.messages)
        return batch

    async def _send(self, batch: list[_Waiting], sequence: int) -> None:
        """Sends one batch, again and again with the same number until Redis has answered; never raises but cancel."""
        messages = [message for waiting in batch for message in waiting.messages]
        error: StreamsError | None = None
        replicate = any(waiting.replicated for waiting in batch)
        try:
            taken, replicas = await self._send_until_answered(messages, sequence, replicate)
        except StreamsError as problem:
            error, taken, replicas = problem, {}, 0
        wanted = self._connections.settings.replicas
        for position, first in taken.items():
            # The caller reads from its message which event stands for it: the one that took the name first.
            messages[position].values[ID] = first.encode()
        for waiting in batch:
            waiting.error = error
            if error is None and waiting.replicated and replicas < wanted:
                waiting.error = self._not_replicated(waiting.messages, replicas)
            if waiting.future is not None and not waiting.future.done():
                if waiting.error is None:
                    waiting.future.set_result(None)
                else:
                    waiting.future.set_exception(waiting.error)

    async def _send_until_answered(
        self, messages: list[Message], sequence: int, replicate: bool
    ) -> tuple[dict[int, str], int]:
        streams = list(dict.fromkeys(message.target for message in messages))
        loop = asyncio.get_running_loop()
        give_up, step, may_have_run = loop.time() + self._timeout, 0.02, False
        while True:
            try:
                taken = await scripts.publish(
                    self._connection.call,
                    producer=self._producer,
                    due=self._keys.due(),
                    waiting=self._keys.waiting(),
                    groups=self._keys.groups(),
                    books=self._keys.books(),
                    streams=streams,
                    sequence=sequence,
                    messages=messages,
                )
                # When the connection is lost between the two, the batch is sent again: on a new connection WAIT waits
                # for nothing, and the new master may be one that does not have it.
                return taken, await self._replicas() if replicate else 0
            except LOST as error:
                problem = refusal(error, self._connections.place)
                if isinstance(problem, Refused):
                    raise problem from error
                may_have_run = may_have_run or self._connection.sent
                if loop.time() + step > give_up:
                    if may_have_run:
                        raise PublishUncertain(
                            f"Redis at {self._connections.place} went away during a publish; it is not known whether "
                            f"the {len(messages)} event(s) arrived"
                        ) from error
                    raise problem from error
                await asyncio.sleep(step * random.uniform(0.5, 1.5))
                step = min(1.0, step * 2)
            except OutOfMemoryError as error:
                raise StreamsError(
                    f"Redis at {self._connections.place} is full and refuses new events; raise maxmemory, "
                    "or let the consumers catch up and trim"
                ) from error
            except RedisError as error:
                raise StreamsError(f"Redis at {self._connections.place} refuses to publish: {error}") from error

    async def _replicas(self) -> int:
        """How many replicas have what this connection has written; waits for them."""
        settings = self._connections.settings
        within = settings.replicated_within
        count: int = await self._connection.call(
            b"WAIT", settings.replicas, round(within * 1000), timeout=within + self._timeout
        )
        return count

    def _not_replicated(self, messages: Sequence[Message], replicas: int) -> NotReplicated:
        settings = self._connections.settings
        error = NotReplicated(
            f"{messages[0].id}{' and others' if len(messages) > 1 else ''}: published, but {replicas} of "
            f"{settings.replicas} replica(s) had it within {settings.replicated_within:g} s, so a failover may lose it"
        )
        error.published = tuple(
            Receipt(message.id, self._keys.short(message.target).partition(":")[0], self._keys.partition)
            for message in messages
        )
        return error

    async def aclose(self) -> None:
        """Waits for what is on its way, then closes the connection."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._timeout + 1  # a caller that sends by itself is a task of somebody else's
        while self._tasks or (self._sending and loop.time() < give_up):
            if self._tasks:
                await asyncio.wait(self._tasks)
            else:
                await asyncio.sleep(0.005)
        await self._connection.aclose()
