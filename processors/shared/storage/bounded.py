"""BoundedProtocol: HTTP connections that are limited in number, and closed when they are idle.

Behind uvicorn alone a connection that sends half a request stays for ever, and a thousand of them use up the process'
file descriptors: no other client is served then.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

log = structlog.get_logger(__name__)

HEAD_SECONDS: Final = 10.0
"""A request has to be there so long after its connection, or after the response before it."""

STALL_SECONDS: Final = 60.0
"""A client that takes nothing of its file for so long has gone."""

HEAD_BYTES: Final = 16_384
"""A request line and its headers; uvicorn answers 400 to more."""


class BoundedProtocol(H11Protocol):
    """One connection. `most` are open at a time: a new one takes the place of the one that has waited longest for its
    request, and is closed where all of them are being answered.
    """

    most = 400
    said = -HEAD_SECONDS  # when the log said last that they are too many, in the loop's time
    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Makes room, and sets the clock."""
        if len(self.connections) >= self.most:
            waiting = [each for each in self.connections if isinstance(each, BoundedProtocol) and each.is_waiting]
            now = self.loop.time()
            if now >= BoundedProtocol.said + HEAD_SECONDS:
                BoundedProtocol.said = now
                log.warning("links.connections_full", most=self.most, waiting=len(waiting))
            if waiting:
                # Timers of the same length: the one that ends first has waited longest.
                oldest = min(waiting, key=lambda each: each.ends)
                self.connections.discard(oldest)
                oldest.drop()
            else:
                super().connection_made(transport)
                self.drop()
                return
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clocks."""
        for timer in (self._head, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    @property
    def ends(self) -> float:
        """When it is closed, if no request comes: a time of the loop."""
        return self._head.when() if self._head is not None else 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether it has no request that is being answered."""
        cycle: Any = self.cycle  # None before the first request
        return cycle is None or bool(cycle.response_complete)

    def drop(self) -> None:
        """Closes it at once; what is on its way is lost."""
        self.transport.abort()

    def on_response_complete(self) -> None:
        """The next request has as long as the first one had."""
        super().on_response_complete()
        self._wait()

    def pause_writing(self) -> None:
        """The client is slower than its file; a client that takes nothing at all is not waited for."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(STALL_SECONDS, self.drop)

    def resume_writing(self) -> None:
        """It has taken some."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _wait(self) -> None:
        if self._head is not None:
            self._head.cancel()
        self._head = self.loop.call_later(HEAD_SECONDS, self._no_request)

    def _no_request(self) -> None:
        if self.is_waiting:
            self.drop()
