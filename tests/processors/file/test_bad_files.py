"""Files that are not what they should be: a typed error at the door, a failed import behind it, nothing half written,
the original kept, and the consumer lives.
"""

from __future__ import annotations

import io
import resource
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from processors.file import FileRefused, store_upload
from processors.shared.database import Database
from processors.shared.storage import Storages
from processors.shared.storage.file_key import FileKey
from processors.shared.storage.file_writer import FileTooLarge
from schemas import InventoryExportRequested, InventoryImported, InventoryImportFailed, InventoryImportUploaded
from streams import Event, Streams, StreamsError
from tests.processors.file.conftest import SHOP, levels, put, put_unseen
from tests.support.waiting import wait_until

Ask = Callable[..., Awaitable[Any]]

HEAD = b"sku,quantity,name\n"
GOOD = HEAD + b"A,1,Hammer\nB,2,Saw\n"


def _zip_bomb() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("stock.csv", b"0" * 50_000_000)
    return packed.getvalue()


def _workbook() -> bytes:
    import openpyxl

    packed = io.BytesIO()
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["sku", "quantity"])
    book.save(packed)
    return packed.getvalue()


REFUSED = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\n\r\n", "is empty"),
    "wrong-columns": (b"colour,weight\nred,5\n", "names no column for sku and quantity; it has 'colour', 'weight'"),
    "one-column": (b"sku\nA\n", "no column for quantity"),
    "ambiguous": (b"sku,stock,quantity\nA,1,2\n", "two columns could be the quantity: 'stock' and 'quantity'"),
    "exe": (b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff" + bytes(200), "no text but seems to be"),
    "elf": (b"\x7fELF\x02\x01\x01" + bytes(200), "no text but seems to be"),
    "zip-bomb": (_zip_bomb(), "no text but seems to be"),
    "workbook-without-rows": (_workbook(), "a first line, and no rows"),
    "polyglot": (HEAD + b"A,1,\x00\x01\x02MZ\n", "no text but seems to be"),
    "html": (b"<html><script>sku,quantity</script>", "a web page"),
    "json": (b'[{"sku": "A", "quantity": 1}]', "is JSON"),
    "utf16-without-mark": ("sku,quantity\nA,1\n".encode("utf-16-le"), "no text"),
    "quote": (b'"sku,quantity\n' + b"x" * 200_000, "names no column"),
    "wide": (b",".join(b"c%d" % n for n in range(5000)) + b"\n", "5000 columns"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_the_door_refuses_what_is_no_stock(storages: Storages, case: str) -> None:
    """By its content, whatever it is called; nothing is stored."""
    data, message = REFUSED[case]
    with pytest.raises(FileRefused, match=message):
        await put(storages, data, name="stock.csv")
    assert [found async for found in storages.uploads.ls()] == []


async def test_the_door_keeps_nothing_of_what_is_too_large(storages: Storages) -> None:
    """It stops where the limit is, however much there would be."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield HEAD
        while True:
            sent += 1
            yield b"A,1,Hammer\n" * 10_000

    with pytest.raises(FileTooLarge, match="more than 10485760 bytes"):
        await store_upload(endless(), SHOP, storages)
    assert sent < 110
    assert [found async for found in storages.uploads.ls()] == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..\\..\\x.csv", "a\0b.csv", "CON", "x" * 5000])
async def test_a_users_name_is_never_a_path(storages: Storages, name: str, tmp_path: Path) -> None:
    """What is stored has a name of ours; the user's is shown to people."""
    event = await put(storages, GOOD, name=name)
    FileKey.checked(event.file)
    assert not set(event.name) & set("/\\\0")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.csv")] == [f"home/uploads/{event.file}"]


async def test_an_upload_from_a_path(storages: Storages, tmp_path: Path) -> None:
    """A file, a missing one, and a directory."""
    (tmp_path / "stock.csv").write_bytes(GOOD)
    event = await store_upload(tmp_path / "stock.csv", SHOP, storages)
    assert event.name == "stock.csv"
    for wrong in ("nothing.csv", "."):
        with pytest.raises(StreamsError, match=r"No such file|Is a directory"):
            await store_upload(tmp_path / wrong, SHOP, storages)


FAILED = {
    "empty": (b"", "the file is empty"),
    "header-only": (HEAD, "a first line, and no rows"),
    "header-and-blanks": (HEAD + b",,\n\n;;\n"[:4], "a first line, and no rows"),
    "wrong-columns": (b"colour,weight\nred,5\n", "names no column"),
    "workbook-without-rows": (_workbook(), "a first line, and no rows"),
    "exe": (b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff" + bytes(200), "no text"),
    "zip-bomb": (_zip_bomb(), "no text"),
    "exe-behind-a-header": (GOOD + b"MZ\x00\x03" + bytes(200), "no text"),
    "mixed-utf8-first": (
        HEAD + "A,1,Säge\n".encode() + b"B,2,x\n" * 20_000 + "C,1,Säge\n".encode("cp1252"),
        "mixes encodings: line 2 is UTF-8 and line 20003 is something else",
    ),
    "mixed-latin-first": (
        HEAD + "A,1,Säge\n".encode("cp1252") + b"B,2,x\n" * 20_000 + "C,1,Säge\n".encode(), "mixes encodings",
    ),
    "late-zero-byte": (HEAD + b"A,1,x\n" * 20_000 + b"B,2,\0\n", "zero byte"),
    "open-quote": (HEAD + b'A,1,"x\n' + b"B,2,x\n" * 100, "line 2: a quote is opened here and never closed"),
    "quoted-newlines": (HEAD + b'A,1,"' + b"\n" * 500_000 + b'"\n', "line 2: field larger than field limit"),
    "long-line": (HEAD + b"A,1," + b"x" * 3_000_000 + b"\n", "a line has more than"),
    "too-large": (HEAD + b"A,1,x\n" * 2_000_000, "more than 10485760 bytes"),
}  # fmt: skip


@pytest.mark.newest_redis
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_an_import_of_a_bad_file_fails_and_the_next_one_works(
    ask: Ask, shop: Database, storages: Storages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them behind the door's back, one after the other, to one consumer."""
    monkeypatch.setenv("FILE_CHUNK_ROWS", "5000")
    for case, (data, message) in FAILED.items():
        event = await put_unseen(storages, data)
        answer = await ask(event, InventoryImportFailed, InventoryImported)
        assert isinstance(answer, InventoryImportFailed), case
        assert message in answer.problem, case
        assert await levels(shop) == {}, case
        assert (await storages.uploads.find(FileKey.checked(event.file))).bytes == len(data)
    answer = await ask(await put(storages, GOOD), InventoryImported)
    assert answer.written == 2
    assert await levels(shop) == {"A": 1, "B": 2}


@pytest.mark.newest_redis
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_line_of_100_megabytes_takes_no_memory(
    ask: Ask, shop: Database, storages: Storages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up after the first of them, wherever the size limit is."""
    monkeypatch.setenv("MAX_FILE_SIZE", str(2**30))
    key = FileKey.new(SHOP, "csv")
    async with storages.uploads.write(key) as written:
        await written.write(HEAD)
        for _ in range(100):
            await written.write(b"x" * 1_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    event = InventoryImportUploaded(business_id=SHOP, file=key, sha256=written.sha256)
    answer = await ask(event, InventoryImportFailed)
    assert "a line has more than" in answer.problem
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB


@pytest.mark.newest_redis
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_nobody_could_have_meant_is_a_dead_letter(
    ask: Ask, shop: Database, storages: Storages, streams: Streams
) -> None:
    """A business that is not there, a file that is not, another business' file, a link out of the directory: the
    publisher's mistake, not the user's. Another hash is the user's problem to know of.
    """
    good = await put(storages, GOOD)
    assert storages.uploads.directory is not None
    (storages.uploads.directory / "1" / f"{'e' * 32}.csv").symlink_to("/etc/passwd")
    wrong: list[Event] = [
        good.model_copy(update={"business_id": 99}),
        InventoryExportRequested(business_id=98),
        good.model_copy(update={"file": f"1/{'0' * 32}.csv"}),
        good.model_copy(update={"file": f"2/{'0' * 32}.csv"}),
        good.model_copy(update={"file": f"1/{'e' * 32}.csv"}),
    ]
    for event in wrong:
        await streams.publish(event)

    async def dead() -> bool:
        return await streams.redis.xlen(streams.keys.dead("file")) == len(wrong)

    await wait_until(dead, 20)
    errors = [fields[b"error"].decode() for _, fields in await streams.redis.xrange(streams.keys.dead("file"))]
    for said in ("no business 99", "no business 98", "no such file", "not a file of business 1", "not a regular file"):
        assert sum(said in error for error in errors) == 1, errors
    await streams.redis.delete(streams.keys.dead("file"))
    answer = await ask(good.model_copy(update={"sha256": "0" * 64}), InventoryImportFailed)
    assert "sha256 differs" in answer.problem
    assert (await ask(good, InventoryImported)).written == 2
