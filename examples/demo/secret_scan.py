"""Secret scan: looks for a secret wherever the demo has written something, and for what must be found there instead.

A search that finds nothing proves nothing unless it would have found what is there: so each place has a control.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from .check import Check


async def scan_for_secret(
    redis: Any, data: Path, logs: Iterable[Path], spans: Iterable[bytes], *, token: str, event: str
) -> Check:
    """Claims that `token`, mailed because of `event`, is nowhere but in the mail.

    `redis` is a client that answers bytes, `data` the server's directory, `spans` the export requests as received.
    """
    text = "the token of the password reset is in its mail and nowhere else"
    if not token:
        return Check(text, held=False, found="there is no token in the mail")
    hashed = sha256(token.encode()).hexdigest().encode()  # what Redis keeps instead
    values, keys = await _dump(redis)
    journal = b"".join(file.read_bytes() for file in sorted((data / "appendonlydir").iterdir()))
    written = b"".join(file.read_bytes() for file in logs)
    exported = b"".join(spans)
    places = {
        f"{keys} keys": (values, hashed),
        "the append-only file": (journal, hashed),
        "the logs": (written, event.encode()),
        "the spans": (exported, event.encode()),
    }
    leaks = [place for place, (content, _) in places.items() if token.encode() in content]
    blind = [place for place, (content, control) in places.items() if control not in content]
    if leaks:
        return Check(text, held=False, found=f"it is in {', '.join(leaks)}")
    if blind:
        return Check(text, held=False, found=f"the search is blind: not even its control is in {', '.join(blind)}")
    return Check(text, held=True, found=f"{', '.join(places)} (Redis holds its hash)")


async def _dump(redis: Any) -> tuple[bytes, int]:
    parts: list[Any] = []
    keys = [key async for key in redis.scan_iter(count=1000)]
    for key in keys:
        match await redis.type(key):
            case b"string":
                content = await redis.get(key)
            case b"hash":
                content = await redis.hgetall(key)
            case b"zset":
                content = await redis.zrange(key, 0, -1)
            case b"stream":
                content = await redis.xrange(key)
            case _:  # serialised it may be compressed, which a search does not see through; the control would fail
                content = await redis.dump(key)
        parts.append((key, content))
    return repr(parts).encode(), len(keys)
