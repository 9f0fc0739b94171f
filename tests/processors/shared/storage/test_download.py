"""Links to files in directories: only those that were made here, only until their end, and always as a download."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
import pytest

from processors.shared.storage import Storages, StorageSettings
from processors.shared.storage.download import download_app
from processors.shared.storage.file_key import FileKey
from processors.shared.storage.links import LinkRefused, Links
from tests.processors.shared.storage.conftest import SECRET
from tests.support.child import Spawn
from tests.support.waiting import wait_until

CONTENT = b"sku,quantity\nA,1\n"


@pytest.fixture
async def client(local: Storages) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody with a browser."""
    transport = httpx.ASGITransport(app=download_app(local))
    async with httpx.AsyncClient(transport=transport) as client:
        yield client


@pytest.fixture
async def link(local: Storages) -> str:
    """A good link."""
    key = FileKey.new(7, "csv")
    async with local.exports.write(key) as file:
        await file.write(CONTENT)
    return await local.exports.link(key, "Bestände heute.csv")


async def test_a_link_is_a_download(client: httpx.AsyncClient, link: str) -> None:
    """Under its name, never sniffed, never kept, never shown as a page."""
    answer = await client.get(link)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('attachment; filename="Bestande heute.csv"')
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["cache-control"] == "private, no-store"
    head = await client.head(link)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(CONTENT)))
    assert (await client.post(link)).status_code == 405


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-2", 206, CONTENT[:3]),
        ("bytes=4-", 206, CONTENT[4:]),
        ("bytes=-3", 206, CONTENT[-3:]),
        ("bytes=4-9999", 206, CONTENT[4:]),
        ("bytes=0-", 200, CONTENT),
        ("bytes=0-0,2-3", 200, CONTENT),
        ("lines=1-2", 200, CONTENT),
        ("bytes=9999-", 416, b"there is no such part\n"),
    ],
)
async def test_parts_of_a_file(client: httpx.AsyncClient, link: str, wanted: str, status: int, part: bytes) -> None:
    """A download that broke off goes on where it was."""
    answer = await client.get(link, headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (status, part)
    if status == 206:
        assert answer.headers["content-range"].endswith(f"/{len(CONTENT)}")
    answer = await client.get(link, headers={"Range": wanted, "If-Range": '"another"'})
    assert answer.content == CONTENT


async def test_a_changed_link_is_refused(client: httpx.AsyncClient, link: str, local: Storages) -> None:
    """Another file, area, name, end or signature; whatever is left out or added to the path."""
    parts = urlsplit(link)
    query = dict(parse_qsl(parts.query))
    another = FileKey.new(7, "csv")
    async with local.exports.write(another) as file:
        await file.write(b"not yours")
    changed = [
        parts._replace(query=urlencode({**query, field: value}))
        for field, value in [
            ("until", str(int(query["until"]) + 1)), ("until", "x"), ("until", ""), ("name", "x.exe"),
            ("signature", ""), ("signature", query["signature"][:-2]), ("signature", "ü"),
        ]
    ]  # fmt: skip
    changed += [parts._replace(query=urlencode({key: query[key] for key in query if key != gone})) for gone in query]
    changed += [
        parts._replace(path=path)
        for path in (
            f"/files/exports/{another}", parts.path.replace("exports", "uploads"), f"{parts.path}/", f"{parts.path}%00",
            "/files/exports/../../etc/passwd", "/files/exports/%2e%2e/%2e%2e/etc/passwd", "/files/etc/passwd",
        )
    ]  # fmt: skip
    for wrong in changed:
        answer = await client.get(urlunsplit(wrong))
        assert answer.status_code in (403, 404), wrong
        assert b"not yours" not in answer.content
    assert (await client.get(link)).status_code == 200


async def test_a_link_ends(local: Storages, client: httpx.AsyncClient) -> None:
    """Which it says only to who has a true one; and when the file is gone, it says that."""
    now = 1_000_000.0
    links = Links(SECRET.get_secret_value().encode(), "http://localhost", clock=lambda: now)
    key = FileKey.new(7, "csv")
    link = links.make("exports", key, "x.csv", 60)
    query = dict(parse_qsl(urlsplit(link).query))
    assert links.check("exports", key, query).key == key
    now += 60
    with pytest.raises(LinkRefused, match="expired"):
        links.check("exports", key, query)
    assert (await client.get(link)).status_code == 410
    with pytest.raises(LinkRefused, match="not valid"):
        links.check("exports", key, {**query, "name": "y.csv"})
    with pytest.raises(LinkRefused, match="not valid"):
        Links(b"another secret", "http://localhost").check("exports", key, query)
    assert (await client.get(await local.exports.link(key, "x.csv"))).status_code == 404


async def test_a_person_sees_a_page_and_a_program_a_line(local: Storages, client: httpx.AsyncClient) -> None:
    """The page says what to do, needs nothing else, and repeats nothing of the address."""
    link = await local.exports.link(FileKey.new(7, "csv"), "<script>alert(1)</script>.csv")
    for wrong, status, title in ((link, 404, "The file is gone"), (f"{link}x", 403, "This link is not valid")):
        line = await client.get(wrong)
        assert (line.status_code, line.headers["content-type"]) == (status, "text/plain; charset=utf-8")
        page = await client.get(wrong, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert f"<h1>{title}</h1>" in page.text
        assert "script" not in page.text
        assert page.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
        assert page.headers["x-content-type-options"] == "nosniff"


async def test_the_server_as_a_process(tmp_path: Path, spawn: Spawn) -> None:
    """With the secret it finds where the processors keep it; it logs no link; SIGTERM ends it well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {"STREAMS_HOME": str(tmp_path / "home"), "LINKS_PORT": str(port), "LINKS_URL": f"http://127.0.0.1:{port}"}
    root = str(Path(__file__).parents[4])
    child = spawn("processors.shared.storage", env={**env, "PYTHONPATH": root})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        storages = Storages(StorageSettings.load())
        key = FileKey.new(7, "csv")
        async with storages.exports.write(key) as file:
            await file.write(CONTENT * 200_000)
        link = await storages.exports.link(key, "x.csv")

    async with httpx.AsyncClient(trust_env=False) as client:

        async def answers() -> httpx.Response | None:
            try:
                return await client.get(link)
            except httpx.TransportError:
                return None

        answer = await wait_until(answers, 20, child.output)
    assert answer.content == CONTENT * 200_000
    child.terminate()
    assert child.wait() in (0, -15), child.output()
    assert "signature" not in child.output()
    assert os.fspath(key) not in child.output()
