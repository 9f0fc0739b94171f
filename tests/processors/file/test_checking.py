"""Checking: what an import would do with a file is known before, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from processors.file.checking import ALL_GOOD, NOTHING_IMPORTED, SOME_REFUSED, check_file
from processors.file.settings import FileSettings
from processors.shared.database import Database
from processors.shared.storage import Storages
from schemas import InventoryImported
from tests.processors.file.conftest import SHOP, levels, put
from tests.processors.file.test_importing import Ask

pytestmark = pytest.mark.newest_redis


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_check_reads_a_file_as_the_import_would(
    ask: Ask, shop: Database, storages: Storages, tmp_path: Path
) -> None:
    """With the database, what its business has chosen before and has in stock counts too; without, what is said."""
    path, settings = tmp_path / "own.csv", FileSettings.load()
    said = {"sku": "Kennwort", "quantity": "Zahl", "name": "Text"}
    await ask(await put(storages, b"Kennwort,Zahl,Text\nA,5,Hammer\n", map=said), InventoryImported)

    path.write_text("Kennwort,Zahl,Text\nA,7,Hammer\nB,1,Saw\nC,x,Nail\n")
    unknown = await check_file(path, {}, settings)
    assert unknown.exit_code == NOTHING_IMPORTED
    assert "names no column for sku and quantity" in unknown.result["refused_because"]
    alone = await check_file(path, {"map": said}, settings)
    assert (alone.exit_code, alone.result["rows"], alone.result["new"]) == (SOME_REFUSED, 3, None)
    known = await check_file(path, {}, settings, shop, SHOP)
    counts = {name: known.result[name] for name in ("rows", "good", "refused", "new")}
    assert (known.exit_code, counts) == (SOME_REFUSED, {"rows": 3, "good": 2, "refused": 1, "new": 1})
    assert [(problem["row"], problem["field"]) for problem in known.result["problems"]] == [(4, "quantity")]
    elsewhere = await check_file(path, {}, settings, shop, SHOP + 1)
    assert elsewhere.exit_code == NOTHING_IMPORTED

    path.write_text("Kennwort,Zahl,Text\nA,5,Hammer\n")
    assert (await check_file(path, {}, settings, shop, SHOP)).exit_code == ALL_GOOD
    assert await levels(shop) == {"A": 5}


async def test_columns_of_one_name_are_chosen_by_their_places(tmp_path: Path) -> None:
    path, settings = tmp_path / "twice.csv", FileSettings.load()
    path.write_text("sku,Zahl,Zahl,name\nA,1,2,Hammer\n")
    both = await check_file(path, {"map": {"quantity": "Zahl"}}, settings)
    assert both.result["refused_because"].startswith("2 columns are called 'Zahl', which quantity is mapped to")
    assert both.result["refused_because"].endswith("; #1 is the first column, #2 the second")
    none = await check_file(path, {"map": {"quantity": "Menge"}}, settings)
    assert "#1" not in none.result["refused_because"]
    chosen = await check_file(path, {"map": {"quantity": "#3"}}, settings)
    assert (chosen.exit_code, chosen.result["preview"][0]["quantity"]) == (ALL_GOOD, 2)
