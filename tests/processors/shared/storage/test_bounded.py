"""The links server under clients that hold connections: everybody else is served all the same."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from processors.shared.storage import Storages, StorageSettings, bounded
from processors.shared.storage.bounded import BoundedProtocol
from processors.shared.storage.download import download_app
from processors.shared.storage.file_key import FileKey
from tests.support.waiting import wait_until

MOST = 8


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[int, str]]:
    """A server of a few connections: its port, and a link to a file of 8 MB."""
    monkeypatch.setenv("STREAMS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(BoundedProtocol, "most", MOST)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("LINKS_URL", f"http://127.0.0.1:{port}")
    storages = Storages(StorageSettings.load())
    key = FileKey.new(7, "csv")
    async with storages.exports.write(key) as file:
        await file.write(b"8 bytes." * 1_000_000)
    config = uvicorn.Config(download_app(storages), port=port, log_config=None, http=BoundedProtocol)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined, method-assign]
    task = asyncio.create_task(server._serve())
    await wait_until(lambda: _started(server), timeout=10)
    yield port, await storages.exports.link(key, "x.csv")
    server.should_exit = True
    await asyncio.wait_for(task, 20)


async def _started(server: uvicorn.Server) -> bool:
    return server.started


async def test_half_requests_keep_nobody_away(served: tuple[int, str]) -> None:
    """However many there are: the one that has waited longest makes room."""
    port, link = served
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST)]
    for _, writer in held:
        writer.write(b"GET /files/exports/x HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(3):
            assert len((await client.get(link)).content) == 8_000_000
    reader, _ = held[0]
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
    for _, writer in held:
        writer.close()


async def test_a_request_has_to_come_in_time(served: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one and the next one on the same connection."""
    monkeypatch.setattr(bounded, "HEAD_SECONDS", 0.3)
    port, link = served
    for head in (b"", b"GET / HTTP/1.1\r\n", b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\nGET /next"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 10)  # until it is closed
        writer.close()
    async with httpx.AsyncClient(trust_env=False) as client:
        assert len((await client.get(link)).content) == 8_000_000  # which may take longer than its head


async def test_a_client_that_takes_nothing_is_not_waited_for(
    served: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "STALL_SECONDS", 0.3)
    port, link = served
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(f"GET {link.partition(str(port))[2]} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.read(10)
    await asyncio.sleep(1)
    taken = 0
    with contextlib.suppress(ConnectionError):
        while block := await asyncio.wait_for(reader.read(65_536), 10):
            taken += len(block)
    assert taken < 8_000_000
    writer.close()


def test_help_starts_nothing() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "processors.shared.storage", "--help"],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert (ended.returncode, "LINKS_PORT" in ended.stdout) == (0, True), ended.stderr
