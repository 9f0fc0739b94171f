"""Following: connections that find their master anew each time they are made, for the event loop and for a thread.

What says that the server is not the master (any more) is an error reply, and the command was not run. It is turned into
a lost connection: whoever called waits, connects again, to the master of then, and repeats what it knows how to repeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import redis
import redis.asyncio
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    MovedError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

if TYPE_CHECKING:
    from streams.masters import Masters

_REPLIES: Final = (MovedError, AskError, ClusterDownError, MasterDownError, ReadOnlyError, TryAgainError)
_BECAME_REPLICA: Final = "UNBLOCKED"  # a client that waited, when its master became a replica


class Elsewhere(ConnectionError):
    """The server is not the one that has the keys: nothing was done."""


def _is_elsewhere(error: ResponseError) -> bool:
    text = str(error)
    return isinstance(error, _REPLIES) or (text.startswith(_BECAME_REPLICA) and "state changed" in text)


class _Following:
    """In the event loop; mixed into redis-py's connection classes."""

    def __init__(self, *, masters: Masters, tag: str, **options: Any) -> None:
        self._masters, self._tag = masters, tag
        super().__init__(**options)

    # Not `connect`: redis-py connects again, when it repeats, through this one.
    async def connect_check_health(self, *arguments: Any, **options: Any) -> None:
        if not self.is_connected:  # type: ignore[attr-defined]
            self.host, self.port = await self._masters.find(self._tag)
        try:
            await super().connect_check_health(*arguments, **options)  # type: ignore[misc]
        except ConnectionError:
            self._masters.forget()
            raise

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not _is_elsewhere(error):
                raise
            self._masters.forget()
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise Elsewhere(f"not the master: {error}") from error


class Follower(_Following, redis.asyncio.Connection):
    """Over TCP."""


class TlsFollower(_Following, redis.asyncio.SSLConnection):
    """Over TLS."""


class _FollowingNow:
    """In a thread."""

    def __init__(self, *, masters: Masters, tag: str, **options: Any) -> None:
        self._masters, self._tag = masters, tag
        super().__init__(**options)

    def connect_check_health(self, *arguments: Any, **options: Any) -> None:
        if self._sock is None:  # type: ignore[attr-defined]
            self.host, self.port = self._masters.find_now(self._tag)
        super().connect_check_health(*arguments, **options)  # type: ignore[misc]

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not _is_elsewhere(error):
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise Elsewhere(f"not the master: {error}") from error


class FollowerNow(_FollowingNow, redis.Connection):
    """Over TCP, in a thread."""


class TlsFollowerNow(_FollowingNow, redis.SSLConnection):
    """Over TLS, in a thread."""
