"""AnsweringProxy: a proxy that understands commands, and answers some of them in the place of the server behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

import hiredis

Answer = Callable[[list[bytes]], bytes | None]


class AnsweringProxy:
    """Gives `answer(command)` where that is not None, which is a reply as it is on the wire; else the server's."""

    def __init__(self, port: int, answer: Answer) -> None:
        self._port = port
        self.answer = answer
        self.answered = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where the client shall connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        open_replies: asyncio.Queue[None] = asyncio.Queue()  # one for each command that the server has to answer
        replies = asyncio.create_task(self._pass_on(there, writer, open_replies))
        try:
            commands = hiredis.Reader()
            while data := await reader.read(65536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    answer = self.answer(command)
                    if answer is None:
                        open_replies.put_nowait(None)
                        back.write(hiredis.pack_command(tuple(command)))
                    else:
                        await open_replies.join()  # replies come in the order of the commands
                        self.answered += 1
                        writer.write(answer)
                await back.drain()
        except OSError:
            pass
        finally:
            replies.cancel()
            back.close()
            writer.close()
            self._tasks.discard(task)

    @staticmethod
    async def _pass_on(
        source: asyncio.StreamReader, target: asyncio.StreamWriter, open_replies: asyncio.Queue[None]
    ) -> None:
        reader = hiredis.Reader()
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
            reader.feed(data)
            while reader.gets() is not False:
                if not open_replies.empty():  # what a channel says answers no command
                    open_replies.get_nowait()
                    open_replies.task_done()
        target.close()
