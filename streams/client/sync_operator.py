"""SyncDeadLetters, SyncReplays, SyncSchedules: what `SyncStreams` has beside its own verbs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from streams.admin.replay import Replays
from streams.client.blocking import Face, iterates, waits
from streams.dead_letters.dead_letters import DeadLetters
from streams.redis.keys import checked_name
from streams.scheduling.admin import Schedules

if TYPE_CHECKING:
    from streams.client.client import Streams

_T = TypeVar("_T")


class Asked(Protocol):
    """What has a client, and waits for what is asked of it: `SyncStreams`."""

    def call(self, ask: Callable[[Streams], Coroutine[Any, Any, _T]]) -> _T:
        """Asks the client for anything."""


class SyncDeadLetters(Face[DeadLetters]):
    """What one group gave up: the face of `DeadLetters`."""

    def __init__(self, streams: Asked, group: str) -> None:
        self.group = checked_name("group", group)
        self._streams = streams

    def call(self, ask: Callable[[DeadLetters], Coroutine[Any, Any, _T]]) -> _T:
        """Asks them for anything."""
        return self._streams.call(lambda client: ask(client.dead_letters(self.group)))

    count = waits(DeadLetters.count)
    ls = iterates(DeadLetters.ls)
    show = waits(DeadLetters.show)
    replay = waits(DeadLetters.replay)
    discard = waits(DeadLetters.discard)
    groups = waits(DeadLetters.groups)
    edit = waits(DeadLetters.edit)


class SyncReplays(Face[Replays]):
    """Replays from history to one group: the face of `Replays`."""

    def __init__(self, streams: Asked) -> None:
        self._streams = streams

    def call(self, ask: Callable[[Replays], Coroutine[Any, Any, _T]]) -> _T:
        """Asks them for anything."""
        return self._streams.call(lambda client: ask(client.replays))

    ls = waits(Replays.ls)
    plan = waits(Replays.plan)
    begin = waits(Replays.begin)
    resume = waits(Replays.resume)
    cancel = waits(Replays.cancel)


class SyncSchedules(Face[Schedules]):
    """The schedules that processors have: the face of `Schedules`."""

    def __init__(self, streams: Asked) -> None:
        self._streams = streams

    def call(self, ask: Callable[[Schedules], Coroutine[Any, Any, _T]]) -> _T:
        """Asks them for anything."""
        return self._streams.call(lambda client: ask(client.schedules))

    ls = waits(Schedules.ls)
    pause = waits(Schedules.pause)
    resume = waits(Schedules.resume)
    forget = waits(Schedules.forget)
    run = waits(Schedules.run)
