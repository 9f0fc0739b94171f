"""The order of the uploads of a business: a later file corrects an earlier one, whichever process imports them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.shared.database.tables import imports
from streams import Snooze

OVER: Final = ("done", "aborted", "failed")
"""The states of imports with which there is nothing left to do."""

ORDER_BITS: Final = 20
"""Of a place among uploads: what is below the millisecond."""

_WAITED_FOR: Final = timedelta(minutes=5)  # by later imports of the business: after it, no process is at it any more
_LOOK_AGAIN_AFTER: Final = 1.0  # seconds


async def wait_for_earlier(connection: AsyncConnection, business_id: int, uploaded: int, but: Sequence[str]) -> None:
    """Raises `Snooze` while a file that the business has uploaded before is imported, the imports `but` left aside.

    Asked when an import begins, and before what its check has found counts: an earlier upload may be in the hands of
    another process, which has begun a moment later.
    """
    earlier = select(imports.c.id).where(
        imports.c.business_id == business_id,
        imports.c.uploaded < uploaded,
        imports.c.status.not_in(OVER),
        imports.c.updated_at > datetime.now(UTC) - _WAITED_FOR,
        imports.c.id.not_in(but),
    )
    if await connection.scalar(earlier.limit(1)) is not None:
        raise Snooze(_LOOK_AGAIN_AFTER, "a file that the business has uploaded before is imported first")


def place_among_uploads(origin: str) -> int:
    """The place of a message by where it was first: `STREAM MILLISECONDS-NUMBER`. An entry of the future, whose id
    its publisher has chosen, is of now: it would come after all uploads for ever.
    """
    now = time.time_ns() // 1_000_000
    first, _, second = origin.rpartition(" ")[2].partition("-")
    try:
        ms, number = int(first), int(second)
    except ValueError:
        ms, number = now, int.from_bytes(hashlib.sha256(origin.encode()).digest()[:2], "big")
    return min(max(ms, 0), now + 60_000) << ORDER_BITS | min(max(number, 0), (1 << ORDER_BITS) - 1)
