"""Route: the way to a server, shared by all connections of a client: who is the master, and where they may be used."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from typing import TYPE_CHECKING, Final

from redis.exceptions import AskError, ConnectionError, MovedError, ResponseError

from streams.errors import StreamsError

if TYPE_CHECKING:
    from streams.masters import Masters
    from streams.tls import Tls

# redis-py takes the code from the text where the reply begins with it; of an error inside a script it may stand within.
_CODES: Final = frozenset({"READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"})
_REDIRECTIONS: Final = frozenset({"MOVED", "ASK"})
_WITHIN: Final = re.compile(r"(?:^|[\s-])(READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN) ")
_BECAME_REPLICA: Final = re.compile(r"^-?UNBLOCKED .*state changed")  # a client that waited, when its master became one


class Elsewhere(ConnectionError):
    """The server is not the one that has the keys: nothing was done."""


class Route:
    """The way to a server, which all connections of a client share, and what they have learnt of it."""

    def __init__(self, masters: Masters | None, tag: str, tls: Tls | None) -> None:
        self.masters, self.tag, self.tls = masters, tag, tls
        self.moved = 0  # how often the server was found not to be the master: connections of before are replaced
        self._home: tuple[asyncio.AbstractEventLoop, int] | None = None
        self._settling = threading.Lock()

    def enter(self) -> None:
        """Makes sure that this is the event loop, and the process, of the first use; raises `StreamsError` if not.

        Connections and futures belong to one loop. In another one a call would fail after it was sent, or wait for
        ever for an answer that the other loop is given.
        """
        loop = asyncio.get_running_loop()
        home = self._home
        if home is None:
            with self._settling:
                home = self._home = self._home or (loop, os.getpid())
        if home[0] is not loop or home[1] != os.getpid():
            raise StreamsError(self._not_here(home))

    def is_home_closed(self) -> bool:
        """Whether nothing of the first loop can be used any more, here."""
        return self._home is not None and (self._home[0].is_closed() or self._home[1] != os.getpid())

    @staticmethod
    def _not_here(home: tuple[asyncio.AbstractEventLoop, int]) -> str:
        where = "the process that this one was forked from" if home[1] != os.getpid() else "another event loop"
        where += ", which is closed" if home[1] == os.getpid() and home[0].is_closed() else ""
        return (
            f"this Streams belongs to {where}: make one where it is used (async with Streams() as streams), or use "
            "SyncStreams, one of which serves all threads"
        )

    def is_elsewhere(self, error: ResponseError) -> bool:
        """Whether an error reply says that the server is not the master. Of a URL that names one server, a redirection
        is a wrong URL: it would be the same with the next connection.
        """
        code = error.status_code
        text = str(error)
        if code in _CODES or (code in _REDIRECTIONS and self.masters is not None):
            return True
        if isinstance(error, MovedError | AskError):
            return False
        return bool(_WITHIN.search(text) or _BECAME_REPLICA.match(text))

    def left(self, moved: int) -> None:
        """Notes that a connection made at `moved` was led to a server that is not the master."""
        if self.masters is not None:
            self.masters.forget()
        if moved == self.moved:
            self.moved += 1


def elsewhere(error: ResponseError) -> Elsewhere:
    """What is raised in its place."""
    code = getattr(error, "status_code", None)
    return Elsewhere(f"not the master: {code + ' ' if code else ''}{error}")
