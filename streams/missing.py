"""Missing: what Redis answers about a key or a group that does not exist."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError


def unless_missing(reply: Any) -> Any:
    """A pipeline's reply, or None where the key or group does not exist; any other error is raised."""
    if isinstance(reply, ResponseError) and ("no such key" in str(reply) or "NOGROUP" in str(reply)):
        return None
    if isinstance(reply, Exception):
        raise reply
    return reply
