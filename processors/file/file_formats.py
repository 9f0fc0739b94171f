"""The formats whose writers need a file to go back in: XLSX and Parquet. They are made in a temporary directory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import polars as pl
from polars.io.plugins import register_io_source

from processors.file.stock_pages import SCHEMA
from processors.file.workbook import Workbook
from schemas.files import ExportFormat

_BLOCK: Final = 1024 * 1024
_ROW_GROUP: Final = 50_000  # rows: what a reader of the Parquet file holds at a time, and its writer too


async def as_file(format: ExportFormat, pages: AsyncIterator[pl.DataFrame]) -> AsyncGenerator[bytes, None]:
    """The bytes of the file, once it is complete, in blocks."""
    with TemporaryDirectory(prefix="export-") as directory:
        path = Path(directory) / f"stock.{format}"
        if format == "xlsx":
            await _xlsx(path, pages)
        else:
            await _parquet(path, pages)
        with path.open("rb") as file:
            while block := await asyncio.to_thread(file.read, _BLOCK):
                yield block


async def _xlsx(path: Path, pages: AsyncIterator[pl.DataFrame]) -> None:
    book = Workbook(path)
    async for page in pages:
        await asyncio.to_thread(book.add, page)
    await asyncio.to_thread(book.close)


async def _parquet(path: Path, pages: AsyncIterator[pl.DataFrame]) -> None:
    """Polars' streaming engine in a thread, which fetches its pages from this loop one by one."""
    loop, stopped = asyncio.get_running_loop(), threading.Event()

    async def following() -> pl.DataFrame | None:
        return await anext(pages, None)

    def source(*_: Any) -> Iterator[pl.DataFrame]:
        while not stopped.is_set():
            page = asyncio.run_coroutine_threadsafe(following(), loop).result()
            if page is None:
                return
            yield page
        raise RuntimeError("the export was cancelled")

    def sink() -> None:
        frame = register_io_source(source, schema=SCHEMA, is_pure=False)
        frame.sink_parquet(path, row_group_size=_ROW_GROUP, maintain_order=True)

    sinking = asyncio.ensure_future(asyncio.to_thread(sink))
    try:
        await asyncio.shield(sinking)
    except asyncio.CancelledError:
        # The thread must be out of the pages before their connection is given back.
        stopped.set()
        await asyncio.wait([sinking])
        raise
