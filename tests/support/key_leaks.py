"""Key leaks: what a test must not leave behind in Redis.

The project's state is Redis keys, so a key that nobody removes and that does not expire is its memory leak.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import redis

PERMANENT: Final = frozenset(
    {
        "stream",
        "inbox",
        "dead",
        "history",
        "groups",
        "consumers",
        "due",
        "waiting",
        "cancellations",
        "cancelled",
        "paused",
        "books",
        "partitions",
        "replays",
        "schedules",
        "slots",
        "turns",
        "limits",
    }
)
"""The kinds of key that live until somebody trims or retires them: the table in `streams/redis/keys.py`."""


def find_leaks(client: redis.Redis, app: str) -> list[str]:
    """Lists the keys of the whole server that may not be there, each with the reason: the server is the test's own."""
    own = re.compile(rf"\{{{re.escape(app)}[a-z0-9_.-]*:\d+\}}:([a-z]+)(?::|$)")
    leaks = []
    for raw in client.scan_iter(count=1000):
        key = raw.decode("utf-8", "backslashreplace")
        kind = own.match(key)
        if kind is None:
            leaks.append(f"{key} is outside the keys of {app}")
        elif kind[1] not in PERMANENT and client.ttl(raw) == -1:
            leaks.append(f"{key} has no TTL, and {kind[1]!r} is no permanent kind")
    return sorted(leaks)
