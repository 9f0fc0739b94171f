"""Size limits: how many bytes a consumer holds, whatever its streams contain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streams.settings import Settings

IN_HAND: Final = 64 * 1024 * 1024
"""Bytes that one reader holds, estimated from the sizes of the entries so far."""

_REPLY: Final = 32 * 1024 * 1024
_WHOLE: Final = 1024 * 1024
_ENVELOPE: Final = 64 * 1024
_ENTRIES: Final = 16


def whole_up_to(settings: Settings) -> int:
    """Bytes up to which an entry is read, and kept as a dead letter, as it is. Of a larger one, which no handler gets,
    only the fields that identify it are read: the rest stays in its stream.
    """
    return max(_WHOLE, settings.max_bytes) + _ENVELOPE


def reply_most(settings: Settings) -> int:
    """Bytes of one reply to a read. Redis limits a read by entries alone: a larger reply is dropped, and its entries
    are read one by one.
    """
    return max(_REPLY, (_ENTRIES + 1) * whole_up_to(settings))


class Sizes:
    """How large the entries of a source are, and how many of them may be read at once."""

    def __init__(self, settings: Settings) -> None:
        self._reply = reply_most(settings)
        self._mean = 0.0

    def met(self, count: int, size: int) -> None:
        """Notes a reply: what is larger than before counts at once, what is smaller little by little."""
        if count:
            self._mean = max(size / count, self._mean / 2)

    def overran(self, count: int) -> None:
        """Notes that a read of so many was too large."""
        self._mean = min(max(self._mean, 8 * self._reply / max(1, count)), float(self._reply))

    def most(self, count: int) -> int:
        """How many of `count` entries to read at once."""
        return max(1, min(count, int(self._reply / 2 / self._mean))) if self._mean else count

    def room(self, held: int) -> int:
        """How many more of that size there is room for, beside those held."""
        return int(IN_HAND / self._mean) + 1 - held if self._mean else held + 1_000_000
