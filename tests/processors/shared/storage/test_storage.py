"""Storage: files come and go as streams, whole or not at all, and no name from outside leads anywhere."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from processors.shared.storage import Storages, StorageSettings
from processors.shared.storage.file_key import FileKey
from processors.shared.storage.file_name import as_attachment, safe_file_name
from processors.shared.storage.file_writer import FileTooLarge
from processors.shared.storage.link_secret import read_link_secret
from streams import StreamsError, Unavailable
from tests.processors.shared.storage.conftest import s3_client

MEGABYTE = b"0123456789abcdef" * 65_536


async def _read(storages: Storages, key: FileKey, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([block async for block in storages.uploads.read(key, start, end)])


async def test_a_file_comes_back_as_it_was_written(storages: Storages) -> None:
    """Over several parts, hashed on the way; from any byte; once more under the same key; gone when it is removed."""
    key = FileKey.new(7, "csv", made_from="an event")
    assert key == FileKey.new(7, "csv", made_from="an event")
    async with storages.uploads.write(key, name="stock.csv") as file:
        for _ in range(20):
            await file.write(MEGABYTE)
    assert (file.bytes, file.sha256) == (20 * len(MEGABYTE), hashlib.sha256(MEGABYTE * 20).hexdigest())
    found = await storages.uploads.find(key)
    assert found.bytes == file.bytes
    assert await _read(storages, key) == MEGABYTE * 20
    assert await _read(storages, key, file.bytes - 3) == MEGABYTE[-3:]
    assert await _read(storages, key, 1, 4) == MEGABYTE[1:4]

    async with storages.uploads.write(key) as file:
        await file.write(b"short")
    assert await _read(storages, key) == b"short"
    assert (await storages.uploads.find(key)).mark != found.mark
    assert [found.key async for found in storages.uploads.ls()] == [key]

    for _ in range(2):
        await storages.uploads.remove(key)
    with pytest.raises(FileNotFoundError):
        await storages.uploads.find(key)
    with pytest.raises(FileNotFoundError):
        await _read(storages, key)


async def test_what_fails_half_way_leaves_nothing(request: pytest.FixtureRequest, storages: Storages, app: str) -> None:
    """An error, a file that is too large, a cancelled task: what was there before is there still, and no draft."""
    key = FileKey.new(7, "csv")
    async with storages.uploads.write(key) as file:
        await file.write(b"before")

    with pytest.raises(OSError, match="the caller's own"):
        async with storages.uploads.write(key) as file:
            for _ in range(20):
                await file.write(MEGABYTE)
            raise OSError("the caller's own")
    with pytest.raises(FileTooLarge, match="more than 3000000 bytes"):
        async with storages.uploads.write(key, most=3_000_000) as file:
            for _ in range(20):
                await file.write(MEGABYTE)

    begun = asyncio.Event()

    async def hang() -> None:
        async with storages.uploads.write(key) as file:
            for _ in range(20):
                await file.write(MEGABYTE)
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(hang())
    await asyncio.wait_for(begun.wait(), 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await _read(storages, key) == b"before"
    if storages.uploads.directory is not None:
        assert [path.name for path in storages.uploads.directory.glob("*/*")] == [key.partition("/")[2]]
    else:
        assert "Uploads" not in s3_client(request.getfixturevalue("s3")).list_multipart_uploads(Bucket=app)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../secret", "7/../../etc/passwd", "/etc/passwd", "C:\\x", "7\\x.csv", "7/" + "a" * 32,
        "7/" + "a" * 32 + ".exe", "7/" + "a" * 32 + ".csv\n", "7/" + "a" * 32 + ".csv\0", "7//" + "a" * 32 + ".csv",
        "7/%2e%2e/" + "a" * 32 + ".csv", "7/CON", "7/nul.csv", "\u0667/" + "a" * 32 + ".csv",
        "7/" + "A" * 32 + ".csv", "a" * 5000,
    ],
)  # fmt: skip
async def test_only_our_own_keys_are_files(local: Storages, name: str) -> None:
    """Whatever an event or a link says: nothing else is looked up at all."""
    with pytest.raises(StreamsError, match="no file of ours"):
        FileKey.checked(name)
    with pytest.raises(StreamsError, match="no file of ours"):
        await local.uploads.find(FileKey(name))


async def test_a_link_out_of_the_directory_is_not_followed(local: Storages, tmp_path: Path) -> None:
    """Neither a file nor a directory that is a symbolic link, to read or to write."""
    (tmp_path / "secret").write_text("secret")
    assert local.uploads.directory is not None
    key, other = FileKey.new(7, "csv"), FileKey.new(8, "csv")
    async with local.uploads.write(FileKey.new(7, "csv")) as file:
        await file.write(b"x")
    (local.uploads.directory / key).symlink_to(tmp_path / "secret")
    (local.uploads.directory / "8").symlink_to(tmp_path)
    for wrong in (key, other):
        with pytest.raises(StreamsError, match="not a regular file"):
            await _read(local, wrong)
        with pytest.raises(StreamsError, match="not a regular file"):
            async with local.uploads.write(wrong) as file:
                await file.write(b"changed")
    assert (tmp_path / "secret").read_text() == "secret"
    assert len(list(tmp_path.glob("*"))) == 2


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("stock.csv", "stock.csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\März 2026.csv", "März 2026.csv"),
        ('a"b\r\nSet-Cookie: x=1;.csv', "a_b Set-Cookie_ x=1_.csv".replace("b ", "b")),
        ("NUL", "_NUL"),
        ("com1.csv", "_com1.csv"),
        (".htaccess", "htaccess"),
        ("evil\u202egnp.exe", "evilgnp.exe"),
        ("\0", "file"),
        ("", "file"),
    ],
)
def test_a_name_is_only_a_name(name: str, safe: str) -> None:
    """What a user called a file is shown to whoever fetches it, without what could be more than a name."""
    assert safe_file_name(name) == safe
    header = as_attachment(name)
    assert header.isascii()
    assert header.isprintable()
    assert len(safe_file_name("x" * 4000 + ".csv").encode()) < 255


async def test_a_store_that_is_away_is_no_missing_file(app: str, request: pytest.FixtureRequest) -> None:
    """So that the breaker opens, and nobody concludes that the file was removed."""
    settings = StorageSettings(storage_url=SecretStr(f"s3://{app}/files"), link_secret=SecretStr("s" * 32))
    options = {"access_key_id": "t", "secret_access_key": "t", "region": "eu-central-1"}
    storages = Storages(
        settings, endpoint="http://127.0.0.1:9", client_options={"allow_http": True}, retry_config={"max_retries": 0},
        **options,
    )  # fmt: skip
    with pytest.raises(Unavailable, match="storage"):
        await storages.uploads.find(FileKey.new(7, "csv"))
    with pytest.raises(Unavailable, match="storage"):
        async with storages.uploads.write(FileKey.new(7, "csv")) as file:
            await file.write(b"x")


async def test_s3_signs_its_own_links(in_s3: Storages) -> None:
    """They work without any key of ours, say how the file is called, and are over after their time."""
    key = FileKey.new(7, "csv")
    async with in_s3.exports.write(key, name="Bestände.csv") as file:
        await file.write(b"sku;quantity\n")
    link = await in_s3.exports.link(key, "Bestände.csv")
    assert "X-Amz-Expires=604800" in link
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(link)
    assert answer.text == "sku;quantity\n"
    assert "filename*=UTF-8''Best%C3%A4nde.csv" in answer.headers["content-disposition"]


async def test_drafts_of_killed_processes_are_found(local: Storages) -> None:
    """Once they are old: a younger one may be somebody's who is writing."""
    assert local.exports.directory is not None
    (local.exports.directory / "7").mkdir()
    draft = local.exports.directory / "7" / "0123.csv#1"
    draft.write_bytes(b"half")
    now = datetime.now(UTC)
    assert local.exports.leftovers(now - timedelta(hours=1)) == []
    os.utime(draft, (0, 0))
    assert local.exports.leftovers(now - timedelta(hours=1)) == [draft]


def test_the_secret_is_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no default one. Whoever else may read the file is a reason to refuse it."""
    monkeypatch.setenv("STREAMS_HOME", str(tmp_path / "home"))
    secret = read_link_secret(StorageSettings.load())
    assert len(secret) == 64
    assert read_link_secret(StorageSettings.load()) == secret
    (file,) = (tmp_path / "home").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    with pytest.raises(StreamsError, match="may be read by others"):
        read_link_secret(StorageSettings.load())
    file.chmod(0o600)
    file.write_bytes(b"")
    with pytest.raises(StreamsError, match="damaged"):
        read_link_secret(StorageSettings.load())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LINK_SECRET", "short"),
        ("LINKS_URL", "http://files.example.com"),
        ("LINKS_URL", "files"),
        ("MAX_FILE_SIZE", "ten"),
        ("LINK_SECONDS", "604801"),
        ("LINK_SECRET_FILE", "/nowhere"),
    ],
)
def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """In one line."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(StreamsError, match=variable):
        StorageSettings.load()


def test_the_guides_directories_are_honoured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each for its own area; what has none is below STORAGE_URL, or in STREAMS_HOME."""
    monkeypatch.setenv("STREAMS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UPLOAD_DIR", str(tmp_path / "up loads"))
    settings = StorageSettings.load()
    assert settings.place("uploads") == (tmp_path / "up loads").as_uri()
    assert Storages(settings).uploads.directory == tmp_path / "up loads"
    assert settings.place("exports") == (tmp_path / "home/exports").as_uri()
    monkeypatch.setenv("STORAGE_URL", "s3://bucket/prefix/")
    assert StorageSettings.load().place("exports") == "s3://bucket/prefix/exports"
