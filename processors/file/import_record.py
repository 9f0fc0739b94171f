"""ImportRecord: an import's row in the database, which says how far it has come. Every step of it is guarded: of two
processes that have the same import, because one was thought dead, only one gets on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.file.dialect import Dialect
from processors.file.import_options import REFUSE
from processors.file.import_problems import replace_problems
from processors.file.problems import Problem
from processors.file.upload_order import OVER, wait_for_earlier
from processors.shared.database.tables import businesses, import_errors, imports
from processors.shared.storage.file_key import FileKey
from schemas import InventoryImportUploaded
from streams import DeadLetter, Retry, Snooze

_BUSY_FOR: Final = timedelta(seconds=60)  # for another event of the same file
_AGAIN_AFTER: Final = 5.0  # seconds
_BEGUN_MOST: Final = 10


@dataclass(slots=True)
class ImportRecord:
    """What is known of an import. `status` is checking, running, done, aborted (too many errors) or failed; `uploaded`
    is its place among the uploads of its business, `position` is how far its checked rows are written.
    """

    id: str
    event_id: str
    status: str
    position: int = 0
    line: int = 0
    written: int = 0
    refused: int = 0
    new: int = 0
    changed: int = 0
    uploaded: int = 0
    error: str = ""
    error_file: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    repeated: bool = False  # it was all done by an earlier event

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.status in OVER

    @property
    def unchanged(self) -> int:
        """Rows that were written and found their product as they say."""
        return max(0, self.written - self.new - self.changed)

    @property
    def missing(self) -> int:
        """Rows that were read, and are neither written nor refused. An import that ends has none."""
        rows = self.options.get("rows")
        return 0 if rows is None else int(rows) - self.written - self.refused

    @property
    def later(self) -> int:
        """The least place among the uploads whose levels are left as they are: those of later files, and after a second
        check those of this one. A sale may have changed them since.
        """
        return self.uploaded if self.options.get("again") else self.uploaded + 1

    def rows_key(self, business_id: int) -> FileKey:
        """Where its checked rows are, while it is not over."""
        return FileKey.new(business_id, "arrow", made_from=f"rows of import {self.id}")


def asked(event: InventoryImportUploaded) -> str:
    """What its sender has said of a file, as one text: the same file with other words is another import."""
    given = [event.encoding, event.decimal, event.sheet, event.location, sorted(event.map.items())]
    if event.blank_quantity != REFUSE:
        given.append(event.blank_quantity)
    return hashlib.sha256(orjson.dumps(given)).hexdigest() if any(given) else ""


async def begin(
    connection: AsyncConnection, event: InventoryImportUploaded, event_id: str, uploaded: int
) -> ImportRecord:
    """Finds the import of an event, or makes one.

    The same file that was imported last is not imported again; one that failed is begun anew by another event; one that
    is under way for another event makes this one wait (`Snooze`), and so does an earlier upload of the business. Raises
    `DeadLetter` when it was begun ten times at the same place and never got on: whatever ends the processes there would
    do so for ever.
    """
    # One at a time in each business. NO KEY: what refers to the business does not wait for it.
    locked = select(businesses.c.id).where(businesses.c.id == event.business_id).with_for_update(key_share=True)
    await connection.execute(locked)
    said, now = asked(event), datetime.now(UTC)
    same = (imports.c.business_id == event.business_id) & (imports.c.sha256 == event.sha256)
    found = (await connection.execute(select(imports).where(same).order_by(imports.c.uploaded.desc()))).all()
    rows = [row for row in found if orjson.loads(row.options).get("asked", "") == said]
    own = next((row for row in rows if row.event_id == event_id[:128]), None)
    if own is None:
        await wait_for_earlier(connection, event.business_id, uploaded, [row.id for row in rows])
        row = await _another(connection, event, rows, now)
        if row is not None and row.status == "done":
            record = _read(row)
            record.repeated = True
            return record
        if row is None or row.status in OVER:
            record = await _make(connection, event, event_id, uploaded, said, row)
        else:  # no process is at it any more
            record = _read(row)
        record.event_id = event_id
    else:
        record = _read(own)
        # A dead letter that is replayed: what ended it was not the file, and may be over.
        record.status = record.options.pop("gave_up", record.status) if record.status == "failed" else record.status
    if record.is_over:
        return record
    if record.status == "checking" and own is not None:
        await wait_for_earlier(connection, event.business_id, record.uploaded, [record.id])
    place = [record.status, record.position]
    times = record.options.get("begun", 0) + 1 if record.options.get("at") == place else 1
    if times > _BEGUN_MOST:
        raise DeadLetter(f"the import was begun {_BEGUN_MOST} times at byte {record.position} and never got on")
    record.options |= {"at": place, "begun": times}
    await connection.execute(
        update(imports)
        .where(imports.c.id == record.id)
        .values(
            event_id=event_id[:128], file=event.file, name=event.name, status=record.status,
            options=orjson.dumps(record.options).decode(), error=None, error_file=None, updated_at=now,
            finished_at=None,
        )
    )  # fmt: skip
    return record


async def _another(
    connection: AsyncConnection, event: InventoryImportUploaded, rows: Sequence[Row[Any]], now: datetime
) -> Row[Any] | None:
    """What other events of the same file have come to, if that matters to this one."""
    if not rows or event.again:
        return None
    last = rows[0]
    if last.status == "done":
        newest = select(func.max(imports.c.uploaded)).where(
            imports.c.business_id == event.business_id, imports.c.status == "done"
        )
        # Another file was imported since: this one says again what is there.
        return last if last.uploaded >= (await connection.scalar(newest) or 0) else None
    if last.status not in OVER and last.updated_at > now - _BUSY_FOR:
        raise Snooze(_AGAIN_AFTER, "another event imports the same file")
    return last


async def _make(
    connection: AsyncConnection, event: InventoryImportUploaded, event_id: str, uploaded: int, said: str,
    failed: Row[Any] | None,
) -> ImportRecord:  # fmt: skip
    """A new import, in the place of one of the same file that has failed, if there is one."""
    options: dict[str, Any] = {"asked": said} if said else {}
    values: dict[str, Any] = {
        "event_id": event_id[:128], "uploaded": uploaded, "status": "checking", "position": 0, "line": 0,
        "rows_done": 0, "rows_refused": 0, "rows_new": 0, "rows_changed": 0, "options": orjson.dumps(options).decode(),
        "updated_at": datetime.now(UTC),
    }  # fmt: skip
    if failed is not None:
        await connection.execute(delete(import_errors).where(import_errors.c.import_id == failed.id))
        await connection.execute(update(imports).where(imports.c.id == failed.id).values(values))
        return ImportRecord(failed.id, event_id, "checking", uploaded=uploaded, options=options)
    same = select(imports.c.id).where(imports.c.business_id == event.business_id, imports.c.sha256 == event.sha256)
    is_first = await connection.scalar(same.limit(1)) is None
    options_hash = hashlib.sha256(b"" if is_first and not event.again else f"{said}:{event_id}".encode()).hexdigest()
    id = hashlib.sha256(f"{event.business_id}:{event.sha256}:{options_hash}".encode()).hexdigest()[:32]
    await connection.execute(
        insert(imports).values(
            id=id, business_id=event.business_id, file=event.file, sha256=event.sha256, options_hash=options_hash,
            started_at=values["updated_at"], **values,
        )
    )  # fmt: skip
    return ImportRecord(id, event_id, "checking", uploaded=uploaded, options=options)


async def checked(
    connection: AsyncConnection, record: ImportRecord, dialect: Dialect, *, rows: int, bytes: int,
    problems: Sequence[Problem],
) -> None:  # fmt: skip
    """Notes that the whole file was checked, which has `rows`, and that its checked rows, which take `bytes`, may be
    written.
    """
    record.options |= {"dialect": dialect.as_json(), "rows": rows, "bytes": bytes}
    await replace_problems(connection, record.id, problems)
    await _step(
        connection, record, status="running", position=0, line=0, rows_done=0,
        rows_refused=len({problem["line"] for problem in problems}), options=orjson.dumps(record.options).decode(),
    )  # fmt: skip


async def check_again(connection: AsyncConnection, record: ImportRecord) -> None:
    """Notes that the checked rows are gone, and the file must be checked anew. What was written so far stands, and so
    does how many products it made and changed.
    """
    record.options["again"] = True
    options = orjson.dumps(record.options).decode()
    await _step(connection, record, status="checking", position=0, line=0, options=options)


async def advance(
    connection: AsyncConnection, record: ImportRecord, *, position: int, line: int, written: int, refused: int,
    new: int, changed: int,
) -> ImportRecord:  # fmt: skip
    """Notes that a chunk is written, in the transaction that writes it; returns the record as it is after that."""
    after = replace(
        record, position=position, line=line, written=record.written + written, refused=record.refused + refused,
        new=record.new + new, changed=record.changed + changed,
    )  # fmt: skip
    await _step(
        connection, record, position=position, line=line, rows_done=after.written, rows_refused=after.refused,
        rows_new=after.new, rows_changed=after.changed,
    )  # fmt: skip
    return after


async def end(
    connection: AsyncConnection, record: ImportRecord, status: str, *, refused: int, error: str, error_file: str
) -> None:
    """Notes how it ended, and how many rows have something wrong."""
    await _step(
        connection, record, status=status, error=error or None, error_file=error_file or None,
        finished_at=datetime.now(UTC), rows_refused=refused,
    )  # fmt: skip


async def fail(connection: AsyncConnection, event_id: str, reason: str) -> ImportRecord | None:
    """Notes that the import of an event failed for a reason that is not its file's; another try begins where it was."""
    mine = (imports.c.event_id == event_id[:128]) & imports.c.status.not_in(OVER)
    row = (await connection.execute(select(imports).where(mine))).one_or_none()
    if row is None:
        return None
    options = {**orjson.loads(row.options), "gave_up": row.status}
    await connection.execute(
        update(imports)
        .where(imports.c.id == row.id, mine)
        .values(
            status="failed", error=reason[:1000], options=orjson.dumps(options).decode(),
            finished_at=datetime.now(UTC), updated_at=datetime.now(UTC),
        )
    )  # fmt: skip
    return await find(connection, row.id)


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
        row.id, row.event_id, row.status, row.position, row.line, row.rows_done, row.rows_refused, row.rows_new,
        row.rows_changed, row.uploaded, row.error or "", row.error_file or "", orjson.loads(row.options),
    )  # fmt: skip


async def find(connection: AsyncConnection, id: str) -> ImportRecord:
    """Reads an import."""
    return _read((await connection.execute(select(imports).where(imports.c.id == id))).one())
