"""LinksServer: uvicorn, which says to what supervises the process when it serves, and when it stops."""

from __future__ import annotations

import socket

import uvicorn

from streams.process_state import ProcessState


class LinksServer(uvicorn.Server):
    """A server from a configuration, and the state of its process."""

    def __init__(self, config: uvicorn.Config, state: ProcessState) -> None:
        super().__init__(config)
        self._state = state

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens; only then links can be fetched."""
        self._state.begin()
        await super().startup(sockets=sockets)
        self._state.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finishes what is being fetched."""
        self._state.stopping()
        await super().shutdown(sockets=sockets)
        self._state.end()
