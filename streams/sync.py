"""SyncStreams: the client for code without an event loop: Django views, scripts, notebooks.

The work is done by `Streams`, on an event loop of its own in a thread of its own, which any number of threads share:
what they publish at the same time goes out together, as it does among tasks.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from schemas.event import Event
from streams.client import Streams
from streams.errors import StreamsError
from streams.keys import Priority
from streams.outcome import Duration
from streams.receipt import Receipt
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.accounting import Accounts
    from streams.cancellation import Cancellation
    from streams.claims import ClaimStore
    from streams.dead_letters import Filter
    from streams.letter import Letter
    from streams.middleware import Middleware
    from streams.reason import Reason
    from streams.replay import Replay
    from streams.retention import Retired, Trimmed
    from streams.snapshot import Snapshot
    from streams.trail import Trail

_T = TypeVar("_T")
_STOP_WITHIN: Final = 15.0  # seconds for what is on its way when it is closed


class SyncStreams:
    """The same names as `Streams`, each of which returns when it is done: `SyncStreams().publish(event)`.

    One of them serves all threads of a process. After a fork the child gets its own loop and connections at its first
    call. What has no method here is asked by `call`. Used where an event loop runs it raises `StreamsError`: it would
    block everything else there.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        middleware: Sequence[Middleware] = (),
        claims: ClaimStore | None = None,
    ) -> None:
        settings = settings or Settings()  # a wrong one is told here, not at the first publish
        self._make = lambda: Streams(url, settings=settings, middleware=middleware, claims=claims)
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._parents: list[_Running] = []
        _open.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for publishes on their way, closes every connection and ends the thread. A later call begins anew."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None and running.process == os.getpid():
            running.end()

    def call(self, ask: Callable[[Streams], Coroutine[Any, Any, _T]]) -> _T:
        """Asks the client for anything: `streams.call(lambda client: client.schedules.run("report.monthly"))`.

        The context variables of the caller (its trace among them) are those of what is asked.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise StreamsError("SyncStreams would block the event loop that runs here; use Streams, and await it")
        return self._running_here().run(ask)

    def _running_here(self) -> _Running:
        with self._lock:
            if self._running is None or self._running.process != os.getpid():
                if self._running is not None:
                    # A forked child has neither the thread nor the connections: they are its parent's, and not closed.
                    self._parents.append(self._running)
                self._running = _Running(self._make)
            return self._running

    def check(self) -> None:
        """As `Streams.check`."""
        self.call(lambda client: client.check())

    def publish(
        self,
        event: Event,
        *,
        delay: Duration | None = None,
        at: datetime | None = None,
        once: str = "",
        key: str = "",
        priority: Priority = "normal",
        expires: timedelta | datetime | None = None,
        replicated: bool | None = None,
    ) -> Receipt:
        """As `Streams.publish`: returns when the event is in Redis."""
        return self.call(
            lambda client: client.publish(
                event, delay=delay, at=at, once=once, key=key, priority=priority, expires=expires, replicated=replicated
            )
        )

    def publish_many(
        self, events: Iterable[Event], *, key: str = "", priority: Priority = "normal", replicated: bool | None = None
    ) -> list[Receipt]:
        """As `Streams.publish_many`."""
        return self.call(lambda client: client.publish_many(events, key=key, priority=priority, replicated=replicated))

    def cancel(self, id: str) -> Cancellation:
        """As `Streams.cancel`."""
        return self.call(lambda client: client.cancel(id))

    def event(self, id: str) -> Trail:
        """As `Streams.event`."""
        return self.call(lambda client: client.event(id))

    def why(self, id: str) -> tuple[Reason, ...]:
        """As `Streams.why`."""
        return self.call(lambda client: client.why(id))

    def pause(self, group: str) -> bool:
        """As `Streams.pause`."""
        return self.call(lambda client: client.pause(group))

    def resume(self, group: str) -> bool:
        """As `Streams.resume`."""
        return self.call(lambda client: client.resume(group))

    def snapshot(self) -> Snapshot:
        """As `Streams.snapshot`."""
        return self.call(lambda client: client.snapshot())

    def accounts(self) -> Accounts:
        """As `Streams.accounts`."""
        return self.call(lambda client: client.accounts())

    def trim(
        self, *streams: str, keep: int | None = None, older_than: timedelta | None = None, dry_run: bool = False
    ) -> list[Trimmed]:
        """As `Streams.trim`."""
        return self.call(lambda client: client.trim(*streams, keep=keep, older_than=older_than, dry_run=dry_run))

    def retire(self, group: str, *, apply: bool = False) -> Retired:
        """As `Streams.retire`."""
        return self.call(lambda client: client.retire(group, apply=apply))

    def replay(self, stream: str, *, group: str, rate: float | None = None, **which: Any) -> Replay:
        """As `Streams.replay`."""
        return self.call(lambda client: client.replay(stream, group=group, rate=rate, **which))

    def dead_letters(self, group: str, only: Filter | None = None, *, limit: int | None = None) -> Iterator[Letter]:
        """What one group gave up, oldest first, read page by page while it is iterated.

        To replay, discard or edit them: `call(lambda client: client.dead_letters(group).replay(...))`.
        """

        async def opened(client: Streams) -> AsyncIterator[Letter]:
            found = client.dead_letters(group)
            return found.ls(limit=limit) if only is None else found.ls(only, limit=limit)

        letters = self.call(opened)

        async def following(_: Streams) -> Letter | None:
            return await anext(letters, None)

        while (letter := self.call(following)) is not None:
            yield letter


class _Running:
    """The loop, its thread and the client that lives there."""

    def __init__(self, make: Callable[[], Streams]) -> None:
        self.process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="streams-sync", daemon=True)
        self._thread.start()
        self._client = self._wait(self._made(make))

    async def _made(self, make: Callable[[], Streams]) -> Streams:
        return make()

    def run(self, ask: Callable[[Streams], Coroutine[Any, Any, _T]]) -> _T:
        """Runs what is asked, in the caller's context, and waits for it."""
        return self._wait(ask(self._client), contextvars.copy_context())

    def _wait(self, work: Coroutine[Any, Any, _T], context: contextvars.Context | None = None) -> _T:
        done: asyncio.Future[_T] | None = None
        finished = threading.Event()

        def begin() -> None:
            nonlocal done
            done = self._loop.create_task(work, context=context)
            done.add_done_callback(lambda _: finished.set())

        self._loop.call_soon_threadsafe(begin)
        try:
            finished.wait()
        except BaseException:  # Ctrl-C: what was asked is not waited for any more, and told so
            self._loop.call_soon_threadsafe(lambda: done and done.cancel())
            raise
        assert done is not None
        return done.result()

    def end(self) -> None:
        """Closes the client and ends the thread."""

        async def close() -> None:
            async with asyncio.timeout(_STOP_WITHIN):
                await self._client.aclose()

        self._wait(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_WITHIN)
        self._loop.close()


_open: weakref.WeakSet[SyncStreams] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for streams in list(_open):
        streams.close()
