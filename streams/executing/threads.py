"""Threads: where a processor's plain `def` functions run.

They are its own, and daemons: asyncio's default executor has few, shares them with the resolver of host names, and is
joined when the process ends. A thread cannot be interrupted, so whatever waits for one waits until it has ended.
"""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import queue
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from time import monotonic
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from streams.logs import get_logger

if TYPE_CHECKING:
    from streams.messages.delivery import Delivery

log = get_logger("streams.threads")

_ABOUT_TO_BEGIN: Final = -1


class _Job:
    """One call, and what came of it."""

    def __init__(self, function: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.function = function
        self.context = contextvars.copy_context()
        self.loop = loop
        self.ended: asyncio.Future[None] = loop.create_future()
        self.has_begun = self.is_over = self.is_known = False  # is_known: to the event loop
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """In the thread. Whatever is raised belongs to the caller: it never ends the thread."""
        self.has_begun = True
        try:
            self.result = self.context.run(self.function)
        except BaseException as error:  # noqa: BLE001 - as above
            self.error = error
        self.is_over = True

    def end(self) -> None:
        """In the event loop."""
        if not self.ended.done():
            self.ended.set_result(None)


class Worker(threading.Thread):
    """One thread, which does one job after the other.

    Code that limits a call's time in a thread has an exception raised in it from another one
    (`PyThreadState_SetAsyncExc`), and that may come when the call is over: anywhere in here. It costs no thread, and no
    call that has not begun. So a job is kept where the event loop has put it until the loop knows that it is over.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._job: _Job | None = None
        self._signals: queue.SimpleQueue[None] = queue.SimpleQueue()  # its parts are in C: nothing is raised within
        self._is_ending = False
        self._stray: BaseException | None = None
        self.busy = False

    def give(self, job: _Job) -> None:
        """Has it do a job. Called in the event loop, when it has none."""
        self.busy, self._job = True, job
        self._signals.put(None)

    def take_back(self) -> None:
        """Forgets its job, which is over."""
        self._job = None

    def end(self) -> None:
        """Lets it end, after its job."""
        self._is_ending = True
        self._signals.put(None)

    def run(self) -> None:
        """Works until it is to end."""
        while True:
            try:
                self._work()
            except BaseException as error:  # noqa: BLE001 - it came too late for what it was meant for
                self._stray = error
            else:
                return

    def _work(self) -> None:
        while True:
            job = self._job
            if job is None or job.is_known:
                if self._is_ending:
                    return
                del job  # or the last event would stay in memory until the next one
                self._signals.get()
                continue
            if not job.has_begun:
                job.run()
            elif not job.is_over:
                job.error = self._stray
            self.busy = False
            try:
                job.loop.call_soon_threadsafe(job.end)
            except RuntimeError:  # the event loop is closed: the process ends, or this consumer has
                return
            job.is_known = True


class Threads:
    """Threads by the name of what uses them: one for each call that is under way, kept for the next one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: list[Worker] = []
        self._made = 0
        self._closed = False

    async def call(self, function: Callable[[], Any]) -> Any:
        """Runs a function in a thread, in a copy of the current context, and returns or raises what it does.

        A cancel waits until the thread has ended, unless these threads are closed: what holds a place for the call must
        not give it to another while the function runs.
        """
        job = _Job(function, asyncio.get_running_loop())
        worker = self._worker()
        worker.give(job)
        cancelled = False
        while not job.ended.done():
            try:
                await asyncio.wait((job.ended,))
            except asyncio.CancelledError:
                if self._closed:
                    worker.end()
                    raise
                cancelled = True
        worker.take_back()
        if self._closed:
            worker.end()
        else:
            self._idle.append(worker)
        if cancelled:
            raise asyncio.CancelledError
        error, job.error = job.error, None
        try:
            if issubclass(type(error), StopIteration):  # no coroutine can raise it; the class itself may lie
                raise RuntimeError("the function raised StopIteration") from error
            if error is not None:
                raise error
        finally:
            del error  # it has this frame in its traceback: a cycle
        return job.result

    async def handle(self, deliveries: Sequence[Delivery], limit: float, handler: Callable[[], Any]) -> Any:
        """Runs a handler for deliveries. Their deadline is `limit` seconds after the thread has begun, and again after
        it has ended, for what is left to do then.
        """
        for delivery in deliveries:
            delivery.thread = _ABOUT_TO_BEGIN
        began, took = monotonic(), 0.0
        has_ended = False

        def mark(thread: int) -> None:
            deadline = monotonic() + limit
            for delivery in deliveries:
                delivery.deadline, delivery.thread = deadline, thread

        def handle() -> Any:
            nonlocal began, took, has_ended
            began = monotonic()
            mark(threading.get_ident())
            try:
                return handler()
            finally:
                took, has_ended = monotonic() - began, True
                if self._closed:
                    mark(0)  # the event loop does not wait for it any more

        try:
            return await self.call(handle)
        except BaseException as error:
            if took > limit:
                error.add_note(f"the handler took {took:.1f} s, and its timeout is {limit:g} s")
            raise
        finally:
            if has_ended or not self._closed:
                mark(0)
            if took > limit:
                log.warning(
                    "handler.ended_late",
                    group=deliveries[0].group, ids=[delivery.message.id for delivery in deliveries][:5],
                    type=deliveries[0].message.type, seconds=round(took, 1), timeout=limit,
                )  # fmt: skip

    def _worker(self) -> Worker:
        if self._idle:
            return self._idle.pop()
        self._made += 1
        worker = Worker(f"{self._name}-{self._made}")
        worker.start()
        return worker

    def close(self) -> None:
        """Ends the threads that do nothing; the others end with what they do. Nothing waits for them any more."""
        self._closed = True
        for worker in self._idle:
            worker.end()
        self._idle.clear()


def busy_threads() -> list[str]:
    """The names of all threads of this process in which a function runs."""
    return [thread.name for thread in threading.enumerate() if isinstance(thread, Worker) and thread.busy]


# Contexts: each delivery runs in a context of its own, so that no context variable of one is seen by the next.
#
# A task per delivery would do it too, and costs a drain a quarter of its rate (measured). Here the coroutine of a
# delivery is stepped inside its context by the task of the slot.

T = TypeVar("T")


class Contexts:
    """Makes contexts like the one it was made in. Later changes to that one are not in them."""

    def __init__(self) -> None:
        # `decimal` keeps its context in a context variable, as an object that is changed in place: a plain copy would
        # share it. Without one, a delivery that uses decimals makes its own.
        self._decimal: decimal.Context | None = None
        self._base = contextvars.Context()
        for variable, value in contextvars.copy_context().items():
            if variable.name == "decimal_context" and isinstance(value, decimal.Context):
                self._decimal = None if _is_default(value) else value.copy()
                if self._decimal is not None:
                    self._decimal.clear_flags()  # what other code has met says nothing of a delivery
            else:
                self._base.run(variable.set, value)

        self.new: Callable[[], contextvars.Context] = self._base.copy if self._decimal is None else self._with_decimal

    def _with_decimal(self) -> contextvars.Context:
        assert self._decimal is not None
        context = self._base.copy()
        context.run(decimal.setcontext, self._decimal.copy())
        return context


def _is_default(context: decimal.Context) -> bool:
    """Whether a new decimal context would be the same."""
    return all(
        getattr(context, name) == getattr(decimal.DefaultContext, name)
        for name in ("prec", "rounding", "Emin", "Emax", "capitals", "clamp", "traps")
    )


async def run_in(context: contextvars.Context, work: Coroutine[Any, Any, T]) -> T:
    """Awaits a coroutine with every step of it inside `context`."""
    try:
        awaited = context.run(work.send, None)
    except StopIteration as done:
        result: T = done.value
        return result
    return await go_on_in(context, work, awaited)


@coroutine
def go_on_in(context: contextvars.Context, work: Coroutine[Any, Any, T], awaited: Any) -> Generator[Any, Any, T]:
    """The same for a coroutine that has begun there, and waits for `awaited`."""
    step: Any
    given: Any = None
    try:
        while True:
            try:
                given, step = (yield awaited), work.send
            except GeneratorExit:
                context.run(work.close)
                raise
            except BaseException as error:  # noqa: BLE001 - a cancel above all: it is thrown in where it is waited for
                given, step = error, work.throw
            awaited = context.run(step, given)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        given = None  # an exception that was thrown in has this frame in its traceback: a cycle
