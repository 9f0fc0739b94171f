"""remove_old: keeps the files of one area from becoming too old or too many."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Table, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.shared.database import Database
from processors.shared.database.transaction import in_transaction
from processors.shared.storage.file_key import FileKey
from processors.shared.storage.storage import Storage

ABANDONED: Final = timedelta(days=1)
"""A draft that was not written to for so long has no writer any more."""

_AT_ONCE: Final = 200


async def remove_old(database: Database, storage: Storage, table: Table, *, days: float, most: int) -> int:
    """Removes the files that are older than `days`, the oldest beyond the `most` newest, files without a row in `table`
    that are as old (their process died before it could note them), and the drafts of processes that died. Returns how
    many. Rows stay, as `removed`, without the requester's address. What fails half way is done by the next one.
    """
    now = datetime.now(UTC)
    old = now - timedelta(days=days)
    removed = 0
    while rows := await _due(database, table, old, most):
        for id, key in rows:
            if key:
                await storage.remove(FileKey.checked(key))
            await in_transaction(database.engine, partial(_note, table=table, id=id))
            removed += 1 if key else 0
    stale = [found.key async for found in storage.ls() if found.at < old]
    for key in stale:
        await storage.remove(key)
    drafts = await asyncio.to_thread(storage.leftovers, now - ABANDONED)
    for draft in drafts:
        draft.unlink(missing_ok=True)
    return removed + len(stale) + len(drafts)


async def _due(database: Database, table: Table, old: datetime, most: int) -> list[tuple[str, Any]]:
    done = table.c.status == "done"
    kept = select(table.c.id).where(done).order_by(table.c.created_at.desc(), table.c.id).limit(most)
    too_many = done & table.c.id.not_in(kept)
    too_old = (table.c.status != "removed") & (table.c.created_at < old)
    query = select(table.c.id, table.c.file).where(or_(too_many, too_old)).limit(_AT_ONCE)
    async with database.engine.connect() as connection:
        return [(row.id, row.file) for row in await connection.execute(query)]


async def _note(connection: AsyncConnection, *, table: Table, id: str) -> None:
    values = {"status": "removed", "file": None, "user_email": None}
    known = {name: value for name, value in values.items() if name in table.c}
    await connection.execute(update(table).where(table.c.id == id).values(known))
