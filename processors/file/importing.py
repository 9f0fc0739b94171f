"""StockImport: a file into the database. First all of it is checked, then it is written, chunk by chunk.

Either a file is written, but for the rows its report names, or nothing of it is. A process that dies while it checks
checks again; one that dies while it writes goes on at the chunk that was not committed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.database import Database
from processors.database.atomically import atomically
from processors.database.tables import import_errors
from processors.file import import_record
from processors.file.csv_chunks import Chunk, CsvChunks
from processors.file.dialect import Dialect
from processors.file.error_report import write_error_report
from processors.file.import_record import ImportRecord
from processors.file.refused import FileRefused
from processors.file.row_check import good_rows
from processors.file.settings import FileSettings
from processors.file.stock_writer import write_stock
from processors.file.survey import UNKNOWN, survey
from processors.storage import Found, Storages
from processors.storage.file_key import FileKey
from schemas import InventoryImportUploaded
from streams import DeadLetter, Progress, StreamsError

log = structlog.get_logger(__name__)

_REPORT_NAME: Final = "import-errors.csv"


@dataclass(frozen=True, slots=True)
class StockImport:
    """The import of an event's file, and what it needs."""

    event: InventoryImportUploaded
    event_id: str
    database: Database
    storages: Storages
    settings: FileSettings
    progress: Progress

    async def run(self) -> ImportRecord:
        """Imports the file, or goes on with it, or finds how it ended.

        Raises `DeadLetter` when the file is not there or not the business' own, `Unavailable` when the storage or the
        database is away, and what `import_record.begin` raises.
        """
        event = self.event
        key = FileKey(event.file)  # the event's own pattern is the same
        if key.business_id != event.business_id:
            raise DeadLetter(f"{key} is not a file of business {event.business_id}")
        try:
            found = await self.storages.uploads.find(key)
        except (FileNotFoundError, StreamsError) as error:
            raise DeadLetter(f"{key}: {error}") from None
        record = await atomically(
            self.database.engine, lambda connection: import_record.begin(connection, event, self.event_id)
        )
        if record.is_over:
            return record
        try:
            if found.bytes > self.storages.settings.max_file_size:
                raise FileRefused(f"the file has more than {self.storages.settings.max_file_size} bytes")
            if record.status == "checking":
                record = await self._check(record, found)
            return await self._write(record, found) if record.status == "running" else record
        except FileRefused as refusal:
            return await self._end(record, "failed", str(refusal))

    async def report_link(self, record: ImportRecord) -> str | None:
        """Where the report of what is wrong with the rows can be fetched; None when nothing is."""
        if not record.error_file:
            return None
        return await self.storages.exports.link(FileKey.checked(record.error_file), _REPORT_NAME)

    async def _check(self, record: ImportRecord, found: Found) -> ImportRecord:
        made = await survey(self.event, found, self.storages.uploads, self.database.engine, self.progress)
        log.info("import.checked", import_id=record.id, rows=made.rows, refused=made.refused)
        is_too_bad = made.is_too_bad(self.settings)

        async def note(connection: AsyncConnection) -> ImportRecord:
            if is_too_bad:
                await import_record.replace_problems(connection, record, made.problems)
            else:
                await import_record.checked(connection, record, made.dialect, found.mark, made.problems)
            return await import_record.find(connection, record.id)

        record = await atomically(self.database.engine, note)
        if not is_too_bad:
            return record
        much = f"{made.refused} of {made.rows} rows" if made.is_complete else f"more than {made.refused - 1} rows"
        return await self._end(record, "aborted", f"{much} cannot be imported, so nothing was")

    async def _write(self, record: ImportRecord, found: Found) -> ImportRecord:
        if found.mark != record.options["mark"]:
            raise FileRefused(
                f"the file was changed after it was checked; {record.written} rows of it had been written"
            )
        dialect = record.dialect
        blocks = self.storages.uploads.read(found.key, record.position)
        chunks = CsvChunks(blocks, dialect, position=record.position, line=record.line, size=found.bytes)
        while record.position < found.bytes:
            chunk = await chunks.next(self.settings.file_chunk_rows)
            if chunk is None:
                break
            log.debug("import.chunk_read", import_id=record.id, lines=[record.line + 1, chunk.lines])
            record = await self._write_chunk(record, chunk, dialect)
            log.debug("import.chunk_written", import_id=record.id, position=record.position, rows=record.written)
            await self.progress.set((found.bytes + record.position) // 2, found.bytes, "writing")
        return await self._end(record, "done")

    async def _write_chunk(self, record: ImportRecord, chunk: Chunk, dialect: Dialect) -> ImportRecord:
        """The rows and the checkpoint behind them are one commit."""

        async def write(connection: AsyncConnection) -> ImportRecord:
            # What the report names is not written, and what is not written is named by the report.
            refused = await import_record.refused_lines(connection, record, record.line + 1, chunk.lines)
            good = await asyncio.to_thread(good_rows, chunk.rows, dialect, refused)
            unknown = await write_stock(connection, self.event.business_id, good, record.id)
            problems = [{"line": line, **UNKNOWN} for line in unknown]  # products that went away since the check
            await import_record.note_problems(connection, record, problems)
            await import_record.advance(
                connection,
                record,
                position=chunk.position,
                line=chunk.lines,
                written=good.height - len(unknown),
                refused=len(unknown),
            )
            return await import_record.find(connection, record.id)

        return await atomically(self.database.engine, write)

    async def _end(self, record: ImportRecord, status: str, error: str = "") -> ImportRecord:
        """Stores the report, then notes the end: whoever comes in between stores the same report again."""
        query = select(import_errors.c.line, import_errors.c.field, import_errors.c.problem).where(
            import_errors.c.import_id == record.id
        )
        async with self.database.engine.connect() as connection:
            problems = [dict(row) for row in (await connection.execute(query)).mappings()]
        report = ""
        if problems:
            report = await write_error_report(self.storages.exports, self.event.business_id, record.id, problems)
        refused = len({problem["line"] for problem in problems})

        async def end(connection: AsyncConnection) -> ImportRecord:
            await import_record.end(connection, record, status, refused=refused, error=error, error_file=report)
            return await import_record.find(connection, record.id)

        ended = await atomically(self.database.engine, end)
        log.info(
            "import.ended",
            import_id=record.id,
            status=status,
            written=ended.written,
            refused=refused,
            error=error[:200],
        )
        return ended
