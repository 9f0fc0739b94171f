"""Child processes: takes from a process that a handler forks what it has of its parent's and must not use.

Without this it would have the parent's signal handlers, which write to a socket that both share: a signal to the child
drains the parent. It would keep the parent's connections to Redis open, so that Redis hands events to a parent that is
gone. And code that comes back from a handler in it would go on as the consumer, a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn, TypeVar

import redis.asyncio.connection
import redis.connection

_T = TypeVar("_T")
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)
_CONNECTIONS: Final = (redis.connection.AbstractConnection, redis.asyncio.connection.AbstractConnection)

_parents: list[Parent] = []  # of this process; none in one that is a child already
_blocked = threading.local()  # the signals that the thread had blocked before it forks


class Parent:
    """This process, while it runs consumers: from `begin` to `end`. What it has as signal handlers when it is made is
    what its children have. `forked` is called in each of them.
    """

    def __init__(self) -> None:
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._forked: Callable[[], None] = _nothing

    def begin(self, forked: Callable[[], None]) -> None:
        """Looks after the children from now on. Called in the event loop."""
        self._loop, self._forked = asyncio.get_running_loop(), forked
        _parents.append(self)

    def end(self) -> None:
        """Children are their handlers' business again."""
        if self in _parents:
            _parents.remove(self)

    def in_child(self) -> None:
        """Makes the child a process of its own."""
        with contextlib.suppress(ValueError):  # it is no main thread, in a subinterpreter
            signal.set_wakeup_fd(-1)
            for number, handler in self._handlers.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._forked()
        _let_go_of_connections()
        if self._loop is not None:
            # Where the child comes back to the event loop, that ends; `end_child` is what comes next.
            getattr(self._loop, "_ready", []).clear()
            self._loop.stop()


def in_parent(function: Callable[[], _T]) -> _T:
    """Calls a function in a thread, and returns or raises what it does; in a child that it has forked, ends that."""
    process = os.getpid()
    try:
        result = function()
    except BaseException as error:
        if os.getpid() != process:
            end_child(error)
        raise
    if os.getpid() != process:
        end_child()
    return result


def end_child(error: BaseException | None = None) -> NoReturn:
    """Ends a child that came back from its handler: with its code if that was `sys.exit`, else with 1 and a line."""
    code: Any = 1
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code
    if not isinstance(code, int) or not isinstance(error, SystemExit):
        line = "a child process came back from the handler that forked it, and is ended; end it with os._exit()"
        with contextlib.suppress(Exception):
            sys.stderr.write(f"error: {line if isinstance(code, int) else code}\n")
            sys.stderr.flush()
    os._exit(code & 0xFF if isinstance(code, int) else 1)


def _nothing() -> None:
    pass


def _let_go_of_connections() -> None:
    """Puts /dev/null where the parent's connections to Redis are: they are closed when the parent closes them, and
    nothing that is written to them here reaches Redis.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in _sockets():
        with contextlib.suppress(OSError):
            os.dup2(null, number, inheritable=False)
    os.close(null)


def _sockets() -> Iterator[int]:
    for each in gc.get_objects():
        if issubclass(type(each), _CONNECTIONS):  # not isinstance, which asks the object
            writer = getattr(each, "_writer", None)
            found = getattr(each, "_sock", None) if writer is None else writer.get_extra_info("socket")
            if found is not None and found.fileno() >= 0:
                yield found.fileno()


def _before() -> None:
    # A parent may signal its child at once, before it has handlers of its own: not before it is ready.
    if _parents:
        _blocked.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _in_parent() -> None:
    if (mask := getattr(_blocked, "mask", None)) is not None:
        _blocked.mask = None
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_child() -> None:
    parents = _parents[:]
    _parents.clear()
    try:
        for parent in parents:
            parent.in_child()
    finally:
        _in_parent()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
