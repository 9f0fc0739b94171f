"""Proxy: a TCP proxy on loopback between a client and Redis that can be told to misbehave."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Literal, Self

Mode = Literal["pass", "cut_reply", "cut_request", "blackhole", "stall", "drip", "refuse", "reset"]


class Proxy:
    """Passes bytes on until `mode` says otherwise.

    `cut_reply` lets requests through and closes the connection instead of the next reply: Redis has run the command
    and the client cannot know. `cut_request` closes before the request reaches Redis. `blackhole` keeps the connections
    open and holds both ways back, as TCP would: it comes late, or never. `stall` holds the replies alone, `drip` slows
    everything down. `refuse` closes new connections at once, `reset` every connection, with RST, as soon as something
    comes over it. `cuts` counts what was cut.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.mode: Mode = "pass"
        self.cuts_left = 1_000_000  # after so many cuts it passes again
        self.cuts = 0
        self.port = 0
        self.connections = 0  # that were made so far
        self._forgotten = 0  # of these, the first ones

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    @property
    def url(self) -> str:
        """Where the client shall connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self, mode: Mode, times: int) -> None:
        """Misbehaves `times` times, then passes again."""
        self.mode, self.cuts_left = mode, times

    def lead_to(self, host: str, port: int) -> None:
        """Where connections made from now on end; those that are there stay where they are."""
        self._target = (host, port)

    def forget(self) -> None:
        """Swallows what all connections of now send."""
        self._forgotten = self.connections

    def _cut(self) -> None:
        self.cuts += 1
        self.cuts_left -= 1
        if self.cuts_left <= 0:
            self.mode = "pass"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            if self.mode == "refuse":
                self._cut()
                return
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, upstream_writer, number, request=True))
                    group.create_task(self._pump(upstream_reader, writer, number, request=False))
            except* (ConnectionError, EOFError):
                pass
            finally:
                upstream_writer.close()
                if self.mode == "reset":
                    at_once = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        except (OSError, asyncio.CancelledError):
            pass  # Redis is away, or the test is over: so is the client's connection
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, number: int, *, request: bool
    ) -> None:
        while data := await source.read(65536):
            if number <= self._forgotten:
                continue
            while self.mode == "blackhole" or (self.mode == "stall" and not request):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            if self.mode == "reset":
                raise EOFError
            if self.mode == "drip":
                await asyncio.sleep(0.05)
            if (self.mode == "cut_reply" and not request) or (self.mode == "cut_request" and request):
                self._cut()
                raise EOFError
            target.write(data)
            await target.drain()
        raise EOFError
