"""Error classes: what a database error means for the work it interrupted: away, transient, or neither."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import DBAPIError, TimeoutError

from streams.messages.error_text import leaves

# Classes and codes of SQLSTATE: connection exceptions, insufficient resources (too many connections), operator
# intervention (shutdown, starting up), system errors (disk). 57014 is a cancelled statement: not an outage.
_AWAY_CLASSES: Final = ("08", "53", "57", "58")
_NOT_AWAY: Final = ("57014",)
_TRANSIENT: Final = ("40001", "40P01")
_SQLITE_TRANSIENT: Final = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED
_SQLITE_AWAY: Final = (10, 13, 14)  # SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN


def is_away(error: BaseException) -> bool:
    """Whether the database could not be reached, or failed in the middle: the same statement may work later. A
    group of exceptions is away with one in it.
    """
    return any(map(_is_away, leaves(error)))


def _is_away(error: BaseException) -> bool:
    if isinstance(error, TimeoutError):  # no connection of the pool became free
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = _state(error)
    return (
        error.connection_invalidated
        or (state[:2] in _AWAY_CLASSES and state not in _NOT_AWAY)
        or _sqlite_code(error) in _SQLITE_AWAY
    )


def is_transient(error: BaseException) -> bool:
    """Whether the transaction lost against another one, and doing the same again will do: a serialization failure, a
    deadlock, a locked SQLite file. A group of exceptions is, when all in it are.
    """
    return all(map(_is_transient, leaves(error)))


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and (_state(error) in _TRANSIENT or _sqlite_code(error) in _SQLITE_TRANSIENT)


def _state(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or "")


def _sqlite_code(error: DBAPIError) -> int:
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else 0
