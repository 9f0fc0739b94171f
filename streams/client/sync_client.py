"""SyncStreams: the client for code without an event loop: Django views, scripts, notebooks.

The work is done by `Streams`, on an event loop of its own in a thread of its own, which any number of threads share:
what they publish at the same time goes out together, as it does among tasks.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from streams.client.blocking import BlockingProxy, blocking, blocking_iter
from streams.client.client import Streams
from streams.client.loop_thread import LoopThread, check_threads
from streams.errors import StreamsError
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.admin.replay_job import Replay
    from streams.client.sync_operator import SyncDeadLetters, SyncReplays, SyncSchedules
    from streams.messages.claims import ClaimStore
    from streams.messages.middleware import Middleware

_T = TypeVar("_T")


class SyncStreams(BlockingProxy[Streams]):
    """The same names as `Streams`, each of which returns when it is done: `SyncStreams().publish(event)`.

    One of them serves all threads of a process. After a fork, also in a server that forks in C, the child gets its own
    loop and connections at its first call. It needs real threads: under the monkey patching of gevent or eventlet it
    raises `StreamsError`. So it does where an event loop runs: it would block everything else there. Callbacks
    (`progress=`) are called in the thread of the loop.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        middleware: Sequence[Middleware] = (),
        claims: ClaimStore | None = None,
    ) -> None:
        check_threads()
        settings = settings or Settings.load()  # a wrong one is an error here, not at the first publish
        self._make: Callable[[], Streams] = lambda: Streams(
            url, settings=settings, middleware=middleware, claims=claims
        )
        self._lock = threading.Lock()
        self._running: tuple[LoopThread, Streams] | None = None
        self._parents: list[object] = []
        self._process = os.getpid()
        _open.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for publishes on their way, closes every connection and ends the thread. A later call begins anew.

        What other threads are waiting for beside that ends with `StreamsError`.
        """
        self._notice_fork()
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            thread, client = running
            thread.end(client.aclose())

    def call(self, ask: Callable[[Streams], Coroutine[Any, Any, _T]]) -> _T:
        """Asks the client for anything that is not here by its name: `streams.call(lambda client: client.check())`.

        The context variables of the caller (its trace among them) are those of what is asked.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise StreamsError("SyncStreams would block the event loop that runs here; use Streams, and await it")
        check_threads()
        self._notice_fork()
        with self._lock:
            if self._running is None:
                thread = LoopThread("streams-sync")
                self._running = thread, thread.run(self._made())
            thread, client = self._running
        return thread.run(ask(client))

    async def _made(self) -> Streams:
        return self._make()

    def _notice_fork(self) -> None:
        """A process that was forked in C (by uWSGI) is known by its id only."""
        if self._process != os.getpid():
            self._forked()

    def _forked(self) -> None:
        """In a child: the thread is not there, the connections are its parent's, and the lock may be held."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._parents.append(self._running)  # not closed, and not collected, which would close them as well
        self._running = None

    check = blocking(Streams.check)
    publish = blocking(Streams.publish)
    publish_many = blocking(Streams.publish_many)
    cancel = blocking(Streams.cancel)
    event = blocking(Streams.event)
    why = blocking(Streams.why)
    progress = blocking_iter(Streams.progress)
    pause = blocking(Streams.pause)
    resume = blocking(Streams.resume)
    snapshot = blocking(Streams.snapshot)
    accounts = blocking(Streams.accounts)
    trim = blocking(Streams.trim)
    retire = blocking(Streams.retire)

    def replay(self, stream: str, *, group: str, rate: float | None = None, **which: Any) -> Replay:
        """Delivers a stream's history again to one group: see `Streams.replay`."""
        return self.call(lambda client: client.replay(stream, group=group, rate=rate, **which))

    def dead_letters(self, group: str) -> SyncDeadLetters:
        """The dead letters of one group."""
        from streams.client.sync_operator import SyncDeadLetters

        return SyncDeadLetters(self, group)

    @property
    def replays(self) -> SyncReplays:
        """Replays from history to one group."""
        from streams.client.sync_operator import SyncReplays

        return SyncReplays(self)

    @property
    def schedules(self) -> SyncSchedules:
        """The schedules that processors have: list, pause, resume, run."""
        from streams.client.sync_operator import SyncSchedules

        return SyncSchedules(self)


_open: weakref.WeakSet[SyncStreams] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for streams in list(_open):
        streams.close()


def _after_fork() -> None:
    for streams in list(_open):
        streams._forked()  # noqa: SLF001 - its own class, in this module


os.register_at_fork(after_in_child=_after_fork)
