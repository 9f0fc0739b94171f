"""What a business has chosen for its files, by their first lines: the same file needs no answer a second time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.file.import_options import header_digest
from processors.shared.database.tables import import_choices

_MOST: Final = 200  # first lines of a business


async def remembered(connection: AsyncConnection, business_id: int) -> dict[str, Mapping[str, Any]]:
    """The choices of a business, by the digest of a first line: `map` and `location`."""
    query = (
        select(import_choices)
        .where(import_choices.c.business_id == business_id)
        .order_by(import_choices.c.updated_at.desc())
        .limit(_MOST)
    )
    return {row.header: orjson.loads(row.choices) for row in await connection.execute(query)}


async def remember(
    connection: AsyncConnection, business_id: int, cells: list[str], mapping: Mapping[str, str], location: str
) -> None:
    """Keeps what was chosen for files with this first line, beside what was chosen before and is not contradicted."""
    digest = header_digest(cells)
    same = (import_choices.c.business_id == business_id) & (import_choices.c.header == digest)
    before = await connection.scalar(select(import_choices.c.choices).where(same))
    choices: dict[str, Any] = orjson.loads(before) if before else {}
    choices["map"] = {**choices.get("map", {}), **mapping}
    choices["location"] = location or choices.get("location", "")
    await connection.execute(delete(import_choices).where(same))
    await connection.execute(
        insert(import_choices).values(
            business_id=business_id, header=digest, choices=orjson.dumps(choices).decode(), updated_at=datetime.now(UTC)
        )
    )
