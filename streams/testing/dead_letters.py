"""MemoryLetters: a group's dead letters in a harness: a sequence for asserts, with the methods of `DeadLetters`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from streams.dead_letters.dead_letters import DeadLetters
from streams.messages.letter import Letter

if TYPE_CHECKING:
    from streams.client.client import Streams
    from streams.testing.server import MemoryServer


class MemoryLetters(DeadLetters):
    """The dead letters of one group."""

    def __init__(self, client: Streams, group: str, server: MemoryServer) -> None:
        super().__init__(client, group)
        self._dead = client.keys.dead(group)
        self._server = server

    def _all(self) -> list[Letter]:
        return [Letter.decode(self.group, entry) for entry in self._server.command("XRANGE", self._dead, "-", "+")]

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[Letter]:
        return iter(self._all())

    def __getitem__(self, position: int) -> Letter:
        return self._all()[position]
