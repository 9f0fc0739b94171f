"""Receipt: what a publisher gets back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Receipt:
    """Says that an event is in Redis: its id, the stream it went to and the partition."""

    id: str
    stream: str
    partition: int = 0
