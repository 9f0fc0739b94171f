"""LoopThread: an event loop in a thread of its own, which threads without one give work to and wait for."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from streams.errors import StreamsError

_T = TypeVar("_T")
_GREEN: Final = (
    ("gevent", "gevent.monkey", "is_module_patched"),
    ("eventlet", "eventlet.patcher", "is_monkey_patched"),
)
_NAMES: Final = ("threading", "thread", "socket", "select")
_STOP_WITHIN: Final = 15.0  # seconds for what is on its way when it is ended


def check_threads() -> None:
    """Raises `StreamsError` where threads, or what an event loop waits with, are replaced by those of one thread: a
    loop in such a "thread" runs in the caller's own, and a wait for it never ends.
    """
    for name, module, question in _GREEN:
        patcher = sys.modules.get(module)
        if patcher is not None and any(map(getattr(patcher, question), _NAMES)):
            raise StreamsError(
                f"SyncStreams needs real threads, and {name} has replaced them here (monkey patching); run this with "
                "threads or processes (gunicorn: --worker-class gthread), or write the events into the outbox"
            )


class LoopThread:
    """A thread with an event loop, which runs from its creation until `end`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Runs it with the caller's context variables, and waits: its result or exception is the caller's.

        Raises `StreamsError` when the thread is ended before it is done. A caller that is interrupted (Ctrl-C) does
        not wait for it any more, and it is cancelled.
        """
        task: asyncio.Task[_T] | None = None
        finished = threading.Event()

        def begin() -> None:
            nonlocal task
            task = self._loop.create_task(work)  # in the caller's context, as whatever it schedules
            task.add_done_callback(lambda _: finished.set())

        def abandon() -> None:
            if task is None:
                work.close()
            else:
                task.cancel()

        try:  # around all of it: Ctrl-C may come between any two steps
            with self._lock:
                if self._ended:
                    work.close()
                    raise StreamsError("it was closed by another thread meanwhile")
                self._loop.call_soon_threadsafe(begin)
            finished.wait()
        except StreamsError:
            raise
        except BaseException:
            self._loop.call_soon_threadsafe(abandon)
            raise
        assert task is not None
        if task.cancelled():
            raise StreamsError("it was closed by another thread before this was done")
        return task.result()

    def end(self, last: Coroutine[Any, Any, None]) -> None:
        """Runs `last`, cancels what other threads still wait for, and ends the thread."""

        async def wind_up() -> None:
            try:
                async with asyncio.timeout(_STOP_WITHIN):
                    await last
            finally:
                others = asyncio.all_tasks() - {asyncio.current_task()}
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
                await self._loop.shutdown_asyncgens()

        with self._lock:  # what was started before is among the tasks that are cancelled
            if self._ended:
                last.close()
                return
            self._ended = True
        asyncio.run_coroutine_threadsafe(wind_up(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_WITHIN)
        self._loop.close()
