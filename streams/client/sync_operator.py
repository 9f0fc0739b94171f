"""SyncDeadLetters, SyncReplays, SyncSchedules: what `SyncStreams` has beside its own methods."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from streams.admin.replay import Replays
from streams.client.blocking import BlockingProxy, blocking, blocking_iter
from streams.dead_letters.dead_letters import DeadLetters
from streams.redis.keys import checked_name
from streams.scheduling.admin import Schedules

if TYPE_CHECKING:
    from streams.client.client import Streams

_T = TypeVar("_T")


class HasClient(Protocol):
    """An object that runs coroutines of a client and blocks for the result: `SyncStreams`."""

    def call(self, ask: Callable[[Streams], Coroutine[Any, Any, _T]]) -> _T:
        """Runs a coroutine of the client, and waits for its result."""


class SyncDeadLetters(BlockingProxy[DeadLetters]):
    """The dead letters of one group: the blocking proxy of `DeadLetters`."""

    def __init__(self, streams: HasClient, group: str) -> None:
        self.group = checked_name("group", group)
        self._streams = streams

    def call(self, ask: Callable[[DeadLetters], Coroutine[Any, Any, _T]]) -> _T:
        """Runs a coroutine of the object, and waits for its result."""
        return self._streams.call(lambda client: ask(client.dead_letters(self.group)))

    count = blocking(DeadLetters.count)
    ls = blocking_iter(DeadLetters.ls)
    show = blocking(DeadLetters.show)
    replay = blocking(DeadLetters.replay)
    discard = blocking(DeadLetters.discard)
    groups = blocking(DeadLetters.groups)
    edit = blocking(DeadLetters.edit)


class SyncReplays(BlockingProxy[Replays]):
    """Replays from history to one group: the blocking proxy of `Replays`."""

    def __init__(self, streams: HasClient) -> None:
        self._streams = streams

    def call(self, ask: Callable[[Replays], Coroutine[Any, Any, _T]]) -> _T:
        """Runs a coroutine of the object, and waits for its result."""
        return self._streams.call(lambda client: ask(client.replays))

    ls = blocking(Replays.ls)
    plan = blocking(Replays.plan)
    begin = blocking(Replays.begin)
    resume = blocking(Replays.resume)
    cancel = blocking(Replays.cancel)


class SyncSchedules(BlockingProxy[Schedules]):
    """The schedules that processors have: the blocking proxy of `Schedules`."""

    def __init__(self, streams: HasClient) -> None:
        self._streams = streams

    def call(self, ask: Callable[[Schedules], Coroutine[Any, Any, _T]]) -> _T:
        """Runs a coroutine of the object, and waits for its result."""
        return self._streams.call(lambda client: ask(client.schedules))

    ls = blocking(Schedules.ls)
    pause = blocking(Schedules.pause)
    resume = blocking(Schedules.resume)
    forget = blocking(Schedules.forget)
    run = blocking(Schedules.run)
