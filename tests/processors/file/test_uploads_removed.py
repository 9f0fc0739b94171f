"""Uploads are kept for so long, and not for ever."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import pytest
from sqlalchemy import insert

from processors.file.cleanup import remove_uploads
from processors.file.settings import FileSettings
from processors.shared.database import Database
from processors.shared.database.tables import imports
from processors.shared.storage import Storages
from processors.shared.storage.file_key import FileKey
from tests.processors.file.conftest import SHOP


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_old_uploads_go_and_what_is_being_imported_stays(shop: Database, storages: Storages) -> None:
    """Whatever became of them; without a row too."""
    keys = {name: FileKey.new(SHOP, "csv") for name in ("new", "old", "done", "running")}
    for key in keys.values():
        async with storages.uploads.write(key) as file:
            await file.write(b"sku,quantity\\nA,1\\n")
    now = datetime.now(UTC)
    async with shop.engine.begin() as connection:
        for name in ("done", "running"):
            await connection.execute(insert(imports).values(
                id=name, business_id=SHOP, file=keys[name], sha256=name, status=name, event_id=name, started_at=now,
                updated_at=now, finished_at=now if name == "done" else None,
            ))  # fmt: skip
    place = storages.settings.place("uploads").removeprefix("file://")
    for name in ("old", "done", "running"):
        os.utime(os.path.join(place, keys[name]), times=(time.time() - 91 * 86_400,) * 2)  # noqa: PTH118
    assert await remove_uploads(shop, storages.uploads, FileSettings()) == 2
    assert {found.key async for found in storages.uploads.ls()} == {keys["new"], keys["running"]}
    assert await remove_uploads(shop, storages.uploads, FileSettings(file_uploads_days=91.5)) == 0
