"""Imports that are interrupted, taken over, or begun by two at once: each row is written once all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from processors.file.importing import StockImport
from processors.file.settings import FileSettings
from processors.shared.database import Database
from processors.shared.database.stock import change_stock
from processors.shared.database.tables import imports, products
from processors.shared.database.transaction import in_transaction
from processors.shared.storage import Storages, StorageSettings
from schemas import (
    InventoryExported,
    InventoryExportRequested,
    InventoryImported,
    InventoryImportFailed,
    InventoryImportUploaded,
)
from schemas.inventory import StockChange
from streams import DeadLetter, Delivery, Progress, Retry, Snooze, Streams
from streams.messages.message import Message
from tests.processors.file.conftest import SHOP, levels, put
from tests.processors.file.test_importing import Ask
from tests.processors.links import link_to
from tests.processors.shared.storage.conftest import s3, s3_client
from tests.support.holders import Held

__all__ = ["s3"]

pytestmark = pytest.mark.newest_redis

ROWS = 100
FILE = "\n".join(["sku,quantity,name", *(f"S{n:03d},{n + 1},Saw" for n in range(ROWS))]).encode()
STOCK = {f"S{n:03d}": n + 1 for n in range(ROWS)}

Make = Callable[..., StockImport]


@pytest.fixture
async def importing(shop: Database, storages: Storages, streams: Streams) -> AsyncIterator[Make]:
    """An import as a delivery of it has it."""
    told: list[Progress] = []

    def make(event: InventoryImportUploaded, event_id: str = "e", kind: type[StockImport] = StockImport) -> StockImport:
        source = streams.keys.stream("files")
        message = Message.for_event(event, source="/test", target=source, id=event_id)
        delivery = Delivery(message, Held("file"), source=source, entry_id=b"1-0", count=1)
        told.append(Progress(delivery, streams))
        return kind(event, event_id, shop, storages, FileSettings.load(), told[-1])

    yield make
    for progress in told:
        await progress.end()


class Interrupted(StockImport):
    """Ends in the middle."""

    async def _write_chunk(self, record, part):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        if record.written >= ROWS // 2:
            raise asyncio.CancelledError
        return await super()._write_chunk(record, part)


async def test_an_interrupted_import_goes_on(shop: Database, storages: Storages, importing: Make) -> None:
    """By the same event: after the last chunk that was committed. By another one: when nobody has been at it lately."""
    event = await put(storages, FILE)
    with pytest.raises(asyncio.CancelledError):
        await importing(event, kind=Interrupted).run()
    done = await levels(shop)
    assert done.items() < STOCK.items()
    with pytest.raises(Snooze, match="another event imports the same file"):
        await importing(event, "another").run()
    async with shop.engine.begin() as connection:
        started = await connection.scalar(select(imports.c.started_at))
        await connection.execute(update(imports).values(updated_at=started.replace(year=2020)))
    record = await importing(event, "another").run()
    assert (record.status, record.written, record.repeated) == ("done", ROWS, False)
    assert await levels(shop) == STOCK
    assert (await importing(event, "a third").run()).repeated


async def test_a_zombie_and_its_heir_write_each_row_once(shop: Database, storages: Storages, importing: Make) -> None:
    """Both have the import, at the same place: one of them gets on, the other is told that it has lost it."""
    event = await put(storages, FILE)
    with pytest.raises(asyncio.CancelledError):
        await importing(event, kind=Interrupted).run()
    ends = await asyncio.gather(*(importing(event).run() for _ in range(4)), return_exceptions=True)
    # More than one may say done: those that begin after it was, and have nothing to do.
    assert {end.status for end in ends if not isinstance(end, BaseException)} == {"done"}
    lost = [end for end in ends if isinstance(end, BaseException)]
    assert all(isinstance(end, Retry) for end in lost), lost
    assert await levels(shop) == STOCK
    record = await importing(event).run()
    assert (record.written, record.refused) == (ROWS, 0)


async def test_an_import_that_never_gets_on_is_given_up(storages: Storages, importing: Make) -> None:
    """What ends the processes there would do so for ever."""

    class Dies(StockImport):
        async def _write_chunk(self, record, part):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            raise asyncio.CancelledError

    event = await put(storages, FILE)
    for _ in range(11):
        with pytest.raises(asyncio.CancelledError):
            await importing(event, kind=Dies).run()
    with pytest.raises(DeadLetter, match="begun 10 times at byte 0 and never got on"):
        await importing(event).run()


async def test_a_file_that_is_changed_meanwhile(shop: Database, storages: Storages, importing: Make) -> None:
    """What was checked is what is written."""
    event = await put(storages, FILE)
    with pytest.raises(asyncio.CancelledError):
        await importing(event, kind=Interrupted).run()
    assert storages.uploads.directory is not None
    path = Path(storages.uploads.directory / event.file)
    path.write_bytes(FILE.replace(b",Saw", b",Axe").replace(b",1", b",2"))
    record = await importing(event).run()
    assert (record.status, record.written, record.error) == ("done", ROWS, "")
    assert await levels(shop) == STOCK
    async with shop.engine.connect() as connection:
        assert set(await connection.scalars(select(products.c.name))) == {"Saw"}


async def test_checked_rows_that_are_gone_are_checked_again(
    shop: Database, storages: Storages, importing: Make
) -> None:
    """After a clean-up of the exports the import begins anew, and ends as it would have. What was sold stays sold."""
    event = await put(storages, FILE)
    with pytest.raises(asyncio.CancelledError):
        await importing(event, kind=Interrupted).run()
    async with AsyncSession(shop.engine) as session, session.begin():
        await change_stock(session, SHOP, [StockChange(sku="S005", delta=-2)], reason="sale", reference="order-1")
    kept = [found async for found in storages.exports.ls()]
    assert [found.key[-6:] for found in kept] == [".arrow"]
    await storages.exports.remove(kept[0].key)
    record = await importing(event).run()
    assert (record.status, record.written, record.refused) == ("done", ROWS, 0)
    assert (record.new, record.changed, record.unchanged) == (ROWS, 0, 0)
    assert await levels(shop) == {**STOCK, "S005": STOCK["S005"] - 2}
    assert [found async for found in storages.exports.ls()] == []


async def test_a_transaction_that_loses_is_done_again(shop: Database) -> None:
    """As a whole; what fails for another reason is not."""
    if shop.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer, who waits for its turn")
    meeting = asyncio.Barrier(2)
    calls: list[int] = []

    def locking(*keys: int) -> Callable[[AsyncConnection], object]:
        async def work(connection: AsyncConnection) -> None:
            calls.append(keys[0])
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({keys[0]})")
            if len(calls) <= 2:
                await asyncio.wait_for(meeting.wait(), 10)
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({keys[1]})")

        return work

    await asyncio.gather(in_transaction(shop.engine, locking(1, 2)), in_transaction(shop.engine, locking(2, 1)))  # type: ignore[arg-type]
    assert len(calls) == 3


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_with_files_in_s3(s3: str, monkeypatch: pytest.MonkeyPatch, app: str, shop: Database, ask: Ask) -> None:
    """The same, and S3 serves the links."""
    import httpx

    client = s3_client(s3)
    client.create_bucket(Bucket=app, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    client.close()
    for name, value in {
        "STORAGE_URL": f"s3://{app}/bord", "AWS_ENDPOINT_URL": s3, "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-central-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    storages = Storages(StorageSettings.load())
    imported = await ask(await put(storages, FILE + b"\nT,?,x"), InventoryImported, InventoryImportFailed)
    assert (imported.written, imported.refused) == (ROWS, 1)
    assert await levels(shop) == STOCK
    exported = await ask(InventoryExportRequested(business_id=SHOP, format="ndjson"), InventoryExported)
    async with httpx.AsyncClient(trust_env=False) as fetching:
        assert "is not a whole number" in (await fetching.get(await link_to(storages, imported))).text
        assert len((await fetching.get(await link_to(storages, exported))).text.splitlines()) == ROWS
