"""ImportRecord: an import's row in the database, which says how far it has come. Every step of it is guarded: of two
processes that have the same import, because one was thought dead, only one gets on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_on_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_on_sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.database.tables import import_errors, imports
from processors.file.dialect import Dialect
from schemas import InventoryImportUploaded
from streams import DeadLetter, Retry, Snooze

_BUSY_FOR: Final = timedelta(seconds=60)
_AGAIN_AFTER: Final = 5.0  # seconds
_BEGUN_MOST: Final = 10

Problem = dict[str, Any]


@dataclass(slots=True)
class ImportRecord:
    """What is known of an import. `status` is checking, running, done, aborted (too many errors) or failed."""

    id: str
    event_id: str
    status: str
    position: int = 0
    line: int = 0
    written: int = 0
    refused: int = 0
    error: str = ""
    error_file: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    repeated: bool = False  # it was all done by an earlier event

    @property
    def dialect(self) -> Dialect:
        """How the file is written, once it was checked."""
        return Dialect(**self.options["dialect"])

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.status in ("done", "aborted", "failed")


async def begin(connection: AsyncConnection, event: InventoryImportUploaded, event_id: str) -> ImportRecord:
    """Finds the import of an event, or makes one. The same file for the same business is the same import.

    One that failed is begun anew by another event; one that is under way for another event makes this one wait
    (`Snooze`). Raises `DeadLetter` when it was begun ten times at the same place and never got on: whatever ends the
    processes there would do so for ever.
    """
    options_hash = hashlib.sha256(event_id.encode() if event.again else b"").hexdigest()
    id = hashlib.sha256(f"{event.business_id}:{event.sha256}:{options_hash}".encode()).hexdigest()[:32]
    now = datetime.now(UTC)
    make = insert_on_sqlite if connection.dialect.name == "sqlite" else insert_on_postgresql
    await connection.execute(
        make(imports)
        .values(
            id=id, business_id=event.business_id, file=event.file, sha256=event.sha256, options_hash=options_hash,
            status="checking", event_id=event_id[:128], started_at=now, updated_at=now,
        )
        .on_conflict_do_nothing()
    )  # fmt: skip
    row = (await connection.execute(select(imports).where(imports.c.id == id).with_for_update())).one()
    record = _read(row)
    if row.event_id != event_id[:128]:
        if record.status == "done":
            record.repeated = True
            return record
        if not record.is_over and row.updated_at > now - _BUSY_FOR:
            raise Snooze(_AGAIN_AFTER, "another event imports the same file")
        if record.is_over:
            await connection.execute(delete(import_errors).where(import_errors.c.import_id == id))
            record = ImportRecord(id, event_id, "checking")
        record.event_id = event_id
    if record.is_over:
        return record
    place = [record.status, record.position]
    times = record.options.get("begun", 0) + 1 if record.options.get("at") == place else 1
    if times > _BEGUN_MOST:
        raise DeadLetter(f"the import was begun {_BEGUN_MOST} times at byte {record.position} and never got on")
    record.options |= {"at": place, "begun": times}
    await connection.execute(
        update(imports)
        .where(imports.c.id == id)
        .values(
            event_id=event_id[:128], file=event.file, status=record.status, position=record.position, line=record.line,
            rows_done=record.written, rows_refused=record.refused, options=orjson.dumps(record.options).decode(),
            error=None, error_file=None, updated_at=now, finished_at=None,
        )
    )  # fmt: skip
    return record


async def checked(
    connection: AsyncConnection, record: ImportRecord, dialect: Dialect, mark: str, problems: Sequence[Problem]
) -> None:
    """Notes that the whole file was checked and may be written, from its first row on."""
    record.options |= {"dialect": dialect.as_json(), "mark": mark}
    await replace_problems(connection, record, problems)
    await _step(
        connection, record, status="running", position=dialect.position, line=dialect.line,
        rows_refused=len({problem["line"] for problem in problems}), options=orjson.dumps(record.options).decode(),
    )  # fmt: skip


async def advance(
    connection: AsyncConnection, record: ImportRecord, *, position: int, line: int, written: int, refused: int
) -> None:
    """Notes that a chunk is written: part of the transaction that writes it, and the first thing in it."""
    await _step(
        connection, record, position=position, line=line,
        rows_done=record.written + written, rows_refused=record.refused + refused,
    )  # fmt: skip


async def end(
    connection: AsyncConnection, record: ImportRecord, status: str, *, refused: int, error: str, error_file: str
) -> None:
    """Notes how it ended, and how many rows have something wrong."""
    await _step(
        connection, record, status=status, error=error or None, error_file=error_file or None,
        finished_at=datetime.now(UTC), rows_refused=refused,
    )  # fmt: skip


async def note_problems(connection: AsyncConnection, record: ImportRecord, problems: Sequence[Problem]) -> None:
    """Keeps what is wrong with rows, for the report."""
    if problems:
        rows = [{**problem, "import_id": record.id, "problem": problem["problem"][:500]} for problem in problems]
        await connection.execute(insert(import_errors), rows)


async def replace_problems(connection: AsyncConnection, record: ImportRecord, problems: Sequence[Problem]) -> None:
    """The same instead of what was kept before, by a process that died."""
    await connection.execute(delete(import_errors).where(import_errors.c.import_id == record.id))
    await note_problems(connection, record, problems)


async def refused_lines(connection: AsyncConnection, record: ImportRecord, first: int, last: int) -> list[int]:
    """The lines from `first` to `last` with something wrong."""
    found = await connection.scalars(
        select(import_errors.c.line)
        .where(import_errors.c.import_id == record.id, import_errors.c.line.between(first, last))
        .distinct()
    )
    return list(found)


async def _step(connection: AsyncConnection, record: ImportRecord, **values: Any) -> None:
    gone = await connection.execute(
        update(imports)
        .where(
            imports.c.id == record.id,
            imports.c.event_id == record.event_id[:128],
            imports.c.status == record.status,
            imports.c.position == record.position,
        )
        .values(updated_at=datetime.now(UTC), **values)
    )
    if gone.rowcount != 1:
        raise Retry("another process has taken this import over", after=1.0)


def _read(row: Row[Any]) -> ImportRecord:
    return ImportRecord(
        row.id, row.event_id, row.status, row.position, row.line, row.rows_done, row.rows_refused,
        row.error or "", row.error_file or "", orjson.loads(row.options),
    )  # fmt: skip


async def find(connection: AsyncConnection, id: str) -> ImportRecord:
    """Reads an import."""
    return _read((await connection.execute(select(imports).where(imports.c.id == id))).one())
