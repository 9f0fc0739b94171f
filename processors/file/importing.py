"""StockImport: a file into the database. First all of it is checked, then it is written, chunk by chunk.

Either a file is written, but for the rows its report names, or nothing of it is. The check keeps what is to be written:
a process that dies while it checks checks again; one that dies while it writes goes on at the chunk that was not
committed.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import polars as pl
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.file import import_problems, import_record
from processors.file.checked_rows import CheckedPart, PartWriter, read_parts
from processors.file.error_report import Report, report_keys, write_error_report
from processors.file.import_choices import remember, remembered
from processors.file.import_options import ImportOptions
from processors.file.import_record import ImportRecord
from processors.file.problems import UNCOUNTED, UNKNOWN
from processors.file.refused import FileRefused
from processors.file.settings import FileSettings
from processors.file.stock_writer import write_stock
from processors.file.survey import survey
from processors.file.upload_order import ORDER_BITS, wait_for_earlier
from processors.file.upload_source import StoredSource
from processors.shared.database import Database
from processors.shared.database.tables import import_errors
from processors.shared.database.transaction import in_transaction
from processors.shared.storage import Found, Storages
from processors.shared.storage.file_key import FileKey
from schemas import InventoryImportUploaded
from streams import DeadLetter, Progress, StreamsError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StockImport:
    """The import of an event's file, and what it needs. `uploaded` is the event's place among the uploads: milliseconds
    times 2 to the `ORDER_BITS`, and what distinguishes two in one of them.
    """

    event: InventoryImportUploaded
    event_id: str
    database: Database
    storages: Storages
    settings: FileSettings
    progress: Progress
    uploaded: int = 0

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
        uploaded = self.uploaded or time.time_ns() // 1_000_000 << ORDER_BITS
        record = await in_transaction(
            self.database.engine, lambda connection: import_record.begin(connection, event, self.event_id, uploaded)
        )
        if record.is_over:
            return record
        try:
            if found.bytes > self.storages.settings.max_file_size:
                raise FileRefused(f"the file has more than {self.storages.settings.max_file_size} bytes")
            if record.status == "checking":
                record = await self._check(record, found)
        except FileRefused as refusal:
            return await self._end(record, "failed", str(refusal))
        return await self._write(record) if record.status == "running" else record

    def report_files(self, record: ImportRecord) -> tuple[str | None, str | None]:
        """The report of what is wrong with the rows, in the file's format and as a workbook; None when nothing is."""
        return report_keys(self.event.business_id, record.id, record.error_file) if record.error_file else (None, None)

    async def _check(self, record: ImportRecord, found: Found) -> ImportRecord:
        key, business_id = record.rows_key(self.event.business_id), self.event.business_id
        exports, engine = self.storages.exports, self.database.engine
        kept = 0

        @asynccontextmanager
        async def parts() -> AsyncIterator[PartWriter]:
            nonlocal kept
            async with exports.write(key) as file:
                yield PartWriter(file, self.settings.file_chunk_rows)
            kept = file.bytes

        async def reading(done: int) -> None:
            await self.progress.set(min(done, found.bytes) // 2, found.bytes, "checking")

        async with engine.connect() as connection:
            before = await remembered(connection, business_id)
        options = ImportOptions.of(self.event, before)
        made = await survey(
            StoredSource(self.storages.uploads, found), options, sha256=self.event.sha256, engine=engine,
            business_id=business_id, open_parts=parts, reading=reading,
        )  # fmt: skip
        log.info("import.checked", import_id=record.id, rows=made.rows, refused=made.refused)
        is_too_bad = made.is_too_bad(self.settings)
        record.options["dialect"] = made.dialect.as_json()

        async def note(connection: AsyncConnection) -> ImportRecord:
            await wait_for_earlier(connection, business_id, record.uploaded, [record.id])
            if is_too_bad:
                await import_problems.replace_problems(connection, record.id, made.problems)
            else:
                await import_record.checked(
                    connection, record, made.dialect, rows=made.rows, bytes=kept, problems=made.problems
                )
            return await import_record.find(connection, record.id)

        record = await in_transaction(engine, note)
        if not is_too_bad:
            return record
        record.options["dialect"] = made.dialect.as_json()
        return await self._end(record, "aborted", made.why())

    async def _write(self, record: ImportRecord) -> ImportRecord:
        key, total = record.rows_key(self.event.business_id), record.options["bytes"]
        parts = read_parts(self.storages.exports, key, record.position)
        try:
            async with aclosing(parts):
                if record.position < total:
                    async for part in parts:
                        lines = [record.line + 1, part.last_line]
                        log.debug("import.chunk_read", import_id=record.id, lines=lines)
                        record = await self._write_chunk(record, part)
                        log.debug(
                            "import.chunk_written", import_id=record.id, position=part.position, rows=record.written
                        )
                        await self.progress.set(total + record.position, 2 * total, "writing")
        except FileNotFoundError:
            # A clean-up has removed them: what was written stands, and is written again as it is.
            return await self._check_again(record)
        if record.missing:
            # A fault in the code: the requester gets a failure, and not a success.
            raise RuntimeError(f"{record.missing} rows of import {record.id} are neither written nor refused")
        return await self._end(record, "done")

    async def _check_again(self, record: ImportRecord) -> ImportRecord:
        log.warning("import.rows_are_gone", import_id=record.id)

        async def note(connection: AsyncConnection) -> ImportRecord:
            await import_record.check_again(connection, record)
            return await import_record.find(connection, record.id)

        await in_transaction(self.database.engine, note)
        return await self.run()

    async def _write_chunk(self, record: ImportRecord, part: CheckedPart) -> ImportRecord:
        """The rows and the checkpoint behind them are one commit."""

        async def write(connection: AsyncConnection) -> ImportRecord:
            # What the report names is not written, and what is not written is named by the report.
            refused = (
                await import_problems.refused_lines(connection, record.id, part.rows["line"]) if record.refused else []
            )
            good = part.rows.filter(~pl.col("line").is_in(refused)) if refused else part.rows
            made = await write_stock(connection, self.event.business_id, good, record.id, record.uploaded, record.later)
            # Products that went away since the check.
            lost = good.filter(pl.col("line").is_in(made.unknown))
            problems = [
                {
                    "line": line,
                    "row": row,
                    "field": "sku",
                    "sku": sku,
                    "value": sku,
                    "problem": UNKNOWN if name is None else UNCOUNTED,
                }
                for line, row, sku, name in lost.select("line", "row", "sku", "name").iter_rows()
            ]
            await import_problems.note_problems(connection, record.id, problems)
            gone = int(lost["merged"].sum())
            return await import_record.advance(
                connection, record, position=part.position, line=max(part.last_line, record.line),
                written=int(good["merged"].sum()) - gone, refused=gone, new=made.new, changed=made.changed,
            )  # fmt: skip

        return await in_transaction(self.database.engine, write)

    async def _end(self, record: ImportRecord, status: str, error: str = "") -> ImportRecord:
        """Stores the report, then notes the end: a process that comes in between stores the same report again."""
        query = select(import_errors).where(import_errors.c.import_id == record.id)
        async with self.database.engine.connect() as connection:
            problems: list[dict[str, Any]] = [dict(row) for row in (await connection.execute(query)).mappings()]
        report = ""
        if problems:
            given = Report(self.event.business_id, record.id, problems, record.options.get("dialect", {}))
            report = await write_error_report(self.storages.exports, given)
        refused = max(record.refused, len({problem["line"] for problem in problems}))

        async def end(connection: AsyncConnection) -> ImportRecord:
            await import_record.end(connection, record, status, refused=refused, error=error, error_file=report)
            if status == "done" and (self.event.map or self.event.location):
                cells = record.options["dialect"]["cells"]
                await remember(connection, self.event.business_id, cells, self.event.mapping, self.event.location)
            return await import_record.find(connection, record.id)

        ended = await in_transaction(self.database.engine, end)
        await self.storages.exports.remove(record.rows_key(self.event.business_id))
        log.info(
            "import.ended", import_id=record.id, status=status, written=ended.written, refused=refused, new=ended.new,
            changed=ended.changed, error=error[:200],
        )  # fmt: skip
        return ended
