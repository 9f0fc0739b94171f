"""Stock comes in as a CSV file and goes out as a file behind a link; what is wrong in it is said by line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from processors.file import FileRefused, store_upload
from processors.shared.database import Database
from processors.shared.storage import Storages, StorageSettings
from processors.shared.storage.download import download_app
from schemas import InventoryExported, InventoryExportRequested, InventoryImported, InventoryImportFailed
from tests.processors.file.conftest import SHOP, ask, environment, levels, shop
from tests.processors.links import link_to
from tests.processors.shared.database.conftest import business

__all__ = ["ask", "business", "environment", "shop"]

Ask = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.newest_redis


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A business database in a file; `shop` adds the business number 1, `ask` starts the processor."""
    return f"sqlite:///{tmp_path}/business.db"


@pytest.fixture
def storages(environment: Any) -> Storages:
    """Where the settings say."""
    return Storages(StorageSettings.load())


async def fetch(storages: Storages, url: Any) -> httpx.Response:
    """What somebody with the link gets from `python -m processors.shared.storage`."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=download_app(storages))) as client:
        return await client.get(str(url))


async def test_an_import(ask: Ask, shop: Database, storages: Storages, tmp_path: Path) -> None:
    """The good rows are in the database, the others in a report."""
    file = tmp_path / "stock.csv"
    file.write_text("Item no.;On hand;Description\nOAK-1;12;Oak board\nELM-2;several;Elm board\n")

    event = await store_upload(file, SHOP, storages)
    imported = await ask(event, InventoryImported)

    assert (imported.written, imported.refused) == (1, 1)
    assert await levels(shop) == {"OAK-1": 12}
    report = await fetch(storages, await link_to(storages, imported))
    assert report.text.splitlines()[1] == "3;3;ELM-2;On hand;several;is not a whole number;enter a whole number, as 12"


async def test_the_same_file_again(ask: Ask, storages: Storages, tmp_path: Path) -> None:
    """It is imported once, unless it is asked for again."""
    file = tmp_path / "stock.csv"
    file.write_text("sku,quantity,name\nOAK-1,12,Oak board\n")

    await ask(await store_upload(file, SHOP, storages), InventoryImported)
    second = await ask(await store_upload(file, SHOP, storages), InventoryImported)
    third = await ask(await store_upload(file, SHOP, storages, again=True), InventoryImported)

    assert (second.repeated, third.repeated) == (True, False)


async def test_a_file_with_too_much_wrong(ask: Ask, shop: Database, storages: Storages, tmp_path: Path) -> None:
    """Nothing of it is written."""
    file = tmp_path / "stock.csv"
    rows = ["sku,quantity,name", *(f"S{n},{n},Saw" for n in range(20)), *(f"T{n},?,Tenon" for n in range(20))]
    file.write_text("\n".join(rows))

    failed = await ask(await store_upload(file, SHOP, storages), InventoryImportFailed)

    assert failed.problem == "20 of 40 rows cannot be imported, so nothing was"
    assert await levels(shop) == {}


async def test_what_is_no_stock_does_not_come_in(storages: Storages, tmp_path: Path) -> None:
    """Whatever it is called."""
    file = tmp_path / "stock.csv"
    file.write_bytes(b"MZ\x90\x00\x03\x00\x00\x00" + bytes(100))

    with pytest.raises(FileRefused, match="the file is no text"):
        await store_upload(file, SHOP, storages)


async def test_an_export(ask: Ask, storages: Storages, tmp_path: Path) -> None:
    """The event says which file it is. A link to it, signed when its mail is made, is the right to fetch it."""
    file = tmp_path / "stock.csv"
    file.write_text("sku,quantity,name,price\nOAK-1,12,Oak board,8.50\n")
    await ask(await store_upload(file, SHOP, storages), InventoryImported)

    exported = await ask(InventoryExportRequested(business_id=SHOP, format="json"), InventoryExported)

    (row,) = (await fetch(storages, await link_to(storages, exported))).json()
    assert (row["sku"], row["quantity"], row["price"]) == ("OAK-1", 12, 8.5)
    assert (await fetch(storages, f"{await link_to(storages, exported)}x")).status_code == 403
