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
from collections.abc import Awaitable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from streams.errors import LoginRefused, NotReplicated, PublishUncertain, Refused, StreamsError, Unreachable
from streams.messages.error_text import describe
from streams.messages.message import ID, Message
from streams.messages.middleware import Middleware, publish_chain
from streams.publishing import scripts
from streams.publishing.pending_publish import PendingPublish, in_order
from streams.receipt import Receipt
from streams.redis.connection import Connections
from streams.redis.refusal import LOST, is_timeout, reason, refusal, takes_no_writes

if TYPE_CHECKING:
    from streams.redis.keys import Keys

_BATCH: Final = 500  # messages in one script call: about 1 ms in which Redis serves no other client
_BATCH_BYTES: Final = 4 * 1024 * 1024
_ATTEMPTS: Final = 4  # the first one has this part of the time, each further one twice as long as the one before
_BYTES_PER_SECOND: Final = 8 * 1024 * 1024  # that a slow network carries, beside the time of an attempt
_LEAST: Final = 0.01  # seconds of an attempt


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
        self._queue: deque[PendingPublish] = deque()
        self._sending = self._closed = False
        self._answered = False  # it has been logged in: a login that is refused now may pass by itself
        self._tasks: set[asyncio.Task[None]] = set()
        self._chain = publish_chain(middleware, self._add)

    def publish(self, messages: Sequence[Message]) -> Awaitable[None]:
        """Adds messages (each with its `target`) in order, through the middleware; done when they are in Redis."""
        return self._chain(messages)

    async def _add(self, messages: Sequence[Message]) -> None:
        """Adds messages (each with its `target`) in order; returns when they are in Redis.

        The first caller sends its own batch without a task or a wake-up in between; the messages of later callers are
        sent together in the next batch. A cancelled caller's messages are published all the same.
        """
        self._connections.enter()
        if self._closed:
            raise StreamsError("this Streams is closed: make another one")
        waiting = PendingPublish(messages, asyncio.get_running_loop().time() + self._timeout)
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
            # Others may be in this batch, and its number is used: it has to be completed.
            self._start(self._send_rest(batch))
            raise
        except BaseException:
            self._start(self._send_rest(None))
            raise
        if self._queue:
            self._start(self._send_rest(None))
        else:
            self._sending = False
        if waiting.error:
            raise waiting.error

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_rest(self, interrupted: list[PendingPublish] | None) -> None:
        batch = interrupted or []
        try:
            if batch:
                await self._send(batch, self._sequence)
            while self._queue:
                batch = self._take_batch()
                if batch:
                    await self._send(batch, self._sequence)
        except BaseException:
            # Whatever it is (this task may be cancelled with all others): no caller may wait for ever.
            for waiting in batch:
                waiting.end(self._uncertain(waiting.messages, "publishing was cancelled"))
            while self._queue:
                self._queue.popleft().end(Unreachable("publishing was cancelled; nothing was sent"))
            raise
        finally:
            self._sending = False

    def _take_batch(self) -> list[PendingPublish]:
        """Takes what waits, up to a batch, and numbers it."""
        if self._process != os.getpid():
            # A forked child with its parent's number would have its batches taken for repetitions, and dropped.
            self._process, self._producer, self._sequence = os.getpid(), self._keys.producer(uuid4().hex), 0
        self._sequence += 1
        now = asyncio.get_running_loop().time()
        batch, count, size = [], 0, 0
        while self._queue and count < _BATCH and size < _BATCH_BYTES:
            waiting = self._queue.popleft()
            if waiting.deadline <= now:
                waiting.end(self._unreachable("others were tried before it, and it was not sent"))
                continue
            batch.append(waiting)
            count += len(waiting.messages)
            size += waiting.size
        return batch

    async def _send(self, batch: list[PendingPublish], sequence: int) -> None:
        """Sends one batch, again and again with the same number until Redis has answered; never raises but cancel."""
        try:
            await self._send_until_answered(batch, sequence)
        except StreamsError as problem:
            for waiting in batch:
                waiting.end(problem)
        except Exception as error:  # noqa: BLE001 - no caller may wait for ever
            text = f"publishing failed: {describe(error)}"
            for waiting in batch:
                failed = self._uncertain(waiting.messages, text) if self._connection.sent else StreamsError(text)
                failed.__cause__ = error
                waiting.end(failed)

    async def _send_until_answered(self, batch: list[PendingPublish], sequence: int) -> None:
        loop = asyncio.get_running_loop()
        messages = in_order(batch)
        # Several attempts have to fit into the time: a connection that something between has forgotten swallows the
        # first one, and the batch's number makes the second one safe.
        attempt = self._timeout / _ATTEMPTS + sum([waiting.size for waiting in batch]) / _BYTES_PER_SECOND
        step, may_have_run = 0.02, False
        said: Exception | None = None
        while True:
            limit = max(_LEAST, min(attempt, min(waiting.deadline for waiting in batch) - loop.time()))
            try:
                await self._attempt(batch, messages, sequence, limit)
            except LOST as error:
                may_have_run = may_have_run or self._connection.sent
                # An attempt that the deadline cuts short has no cause of its own: the one before it has.
                cause: Exception = said if said is not None and limit < attempt and is_timeout(error) else error
                said, problem = cause, refusal(cause, self._connections.place)
                passes = not isinstance(problem, Refused) or (isinstance(problem, LoginRefused) and self._answered)
            except OutOfMemoryError as error:
                cause, passes = error, False
                problem = StreamsError(
                    f"Redis at {self._connections.place} is full and refuses new events; raise maxmemory, "
                    "or let the consumers catch up and trim"
                )
            except RedisError as error:
                cause, problem = error, refusal(error, self._connections.place)
                passes = isinstance(error, ResponseError) and takes_no_writes(error)
                if not passes and not isinstance(problem, Refused):
                    problem = StreamsError(f"Redis at {self._connections.place} refuses to publish: {error}")
            else:
                return
            pause = step * random.uniform(0.5, 1.5)
            step, attempt = min(1.0, step * 2), attempt * 2
            ended = [waiting for waiting in batch if not passes or waiting.deadline <= loop.time() + pause]
            for waiting in ended:
                failed = (
                    self._uncertain(waiting.messages, reason(cause, self._connections.place))
                    if may_have_run
                    else problem
                )
                failed.__cause__ = cause
                waiting.end(failed)
            batch = [waiting for waiting in batch if not waiting.has_ended]
            if not batch:
                return
            if ended and not may_have_run:  # what Redis may have seen under this number has to stay as it was
                messages = in_order(batch)
            await asyncio.sleep(pause)

    async def _attempt(
        self, batch: Sequence[PendingPublish], messages: Sequence[Message], sequence: int, limit: float
    ) -> None:
        taken, refused = await scripts.publish(
            partial(self._connection.call, timeout=limit),
            self._keys,
            producer=self._producer,
            streams=list(dict.fromkeys(message.target for message in messages)),
            sequence=sequence,
            messages=messages,
        )
        # A connection lost between the two: the batch is sent again, as WAIT waits for nothing on a new one.
        replicas = await self._replicas(limit) if any(waiting.replicated for waiting in batch) else 0
        self._answered = True
        for position, first in taken.items():
            # The caller reads from its message which event stands for it: the one that took the name first.
            messages[position].values[ID] = first.encode()
        wanted = self._connections.settings.replicas
        for waiting in batch:
            problem = self._refused(waiting.messages, waiting.first, refused)
            if problem is None and waiting.replicated and replicas < wanted:
                problem = self._not_replicated(waiting.messages, replicas)
            waiting.end(problem)

    def _uncertain(self, messages: Sequence[Message], cause: str) -> PublishUncertain:
        return PublishUncertain(
            f"Redis at {self._connections.place} went away during a publish ({cause}); "
            f"it is not known whether the {len(messages)} event(s) arrived"
        )

    def _unreachable(self, cause: str) -> Unreachable:
        return Unreachable(f"Redis at {self._connections.place} did not answer in time; {cause}")

    async def _replicas(self, limit: float) -> int:
        """How many replicas have what this connection has written; waits for them."""
        settings = self._connections.settings
        within = settings.replicated_within
        count: int = await self._connection.call(
            b"WAIT", settings.replicas, round(within * 1000), timeout=within + limit
        )
        return count

    def _refused(self, messages: Sequence[Message], first: int, refused: dict[int, str]) -> StreamsError | None:
        """The error for one caller whose messages Redis refused, or None; others of its batch are published."""
        if not (of_it := [(each, refused[at]) for at, each in enumerate(messages, first) if at in refused]):
            return None
        message, why = of_it[0]
        if "last possible ID" in why:
            why = f"{self._keys.short(message.target)} takes no more entries: its last id is the last possible one"
        many = f"{len(of_it)} of {len(messages)} events, the first" if len(messages) > 1 else "the event"
        return StreamsError(
            f"Redis at {self._connections.place} refuses {many} {message.id}: {why}; see streams doctor"
        )

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
        """Waits for what is on its way, then closes the connection. Of a loop that is closed nothing is on its way."""
        self._closed = True
        if self._connections.is_over:
            self._tasks.clear()
            await self._connection.aclose()
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout + 1  # a caller that sends by itself is not in `_tasks`
        while self._tasks or (self._sending and loop.time() < deadline):
            if self._tasks:
                await asyncio.wait(self._tasks)
            else:
                await asyncio.sleep(0.005)
        await self._connection.aclose()
