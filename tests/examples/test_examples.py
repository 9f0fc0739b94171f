"""Each example as its readers run it: real processes, a real database, real HTTP.
docs/start/examples.md runs them too.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from examples.fakes.mail_server import MailServer
from tests.support.child import Child, Spawn
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.newest_redis, pytest.mark.timeout(120)]

Request = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def environment(streams_env: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    """This test's Redis and directory."""
    return {**streams_env, "STREAMS_HOME": str(tmp_path / "home"), "LOG_FORMAT": "json"}


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[MailServer]:
    """A mail server."""
    with MailServer(tmp_path / "mails") as sink:
        yield sink


@pytest.fixture
async def web(
    spawn: Spawn, environment: Mapping[str, str], sink: MailServer
) -> AsyncIterator[tuple[httpx.AsyncClient, Child]]:
    """The web application with its processors, and a client of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**environment, "PORT": str(port), "SMTP_URL": f"smtp://127.0.0.1:{sink.port}", "MAX_FILE_SIZE": "100000"}
    server = spawn("examples.web", env=env)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

        async def answers() -> bool:
            try:
                return (await client.get("/openapi.json")).status_code == 200
            except httpx.ConnectError:
                assert server.running, server.output()
                return False

        await wait_until(answers, timeout=60, message=server.output)
        supervisor = spawn("processors", "email", "file", env=env)
        yield client, server
    for child in (supervisor, server):
        child.terminate()
        assert child.wait() in (0, -15), child.output()
    assert "Traceback" not in server.output()


async def followed(client: httpx.AsyncClient, location: str) -> list[dict[str, Any]]:
    """The steps of an event, as a browser's EventSource reads them, up to the end."""
    steps = []
    async with client.stream("GET", f"{location}/steps", timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line == "event: end":
                return steps
            if line.startswith("data: "):
                steps.append(json.loads(line.removeprefix("data: ")))
    raise AssertionError(f"no end: {steps}")


async def test_the_web_application(web: tuple[httpx.AsyncClient, Child], sink: MailServer) -> None:
    """A sign-up, its mail, an upload with a bad row, its mail, and what is refused."""
    client, server = web
    ada = {"email": "ada@example.com", "name": "Ada"}
    answer = await client.post("/users", json=ada)
    assert answer.status_code == 202, answer.text
    location = answer.headers["location"]
    assert (await client.get(location)).json()["type"] == "UserRegistered"
    steps = await followed(client, location)
    assert steps[-1] | {"attempt": 0} == steps[-1] | {"group": "email", "state": "acked", "attempt": 0}
    assert [str(mail["Subject"]) for mail in sink.mails()] == ["Welcome to Planning Bord"]

    assert (await client.post("/users", json=ada)).status_code == 409
    assert (await client.post("/users", json={"email": "nobody", "name": "x"})).status_code == 422
    assert (await client.get("/events/nothing")).status_code == 404
    assert (await client.get("/events/nothing/steps")).status_code == 404
    assert (await client.put("/businesses/1/stock.csv", content=b"sku,quantity\nA,1\n")).status_code == 404

    await asyncio.to_thread(add_business, Path(server.out.parent / "home" / "business.db"))
    good = b"sku,quantity,name\nOAK-1,12,Oak board\nELM-2,several,Elm board\n"
    place = {"name": "../../stock.csv", "email": "ada@example.com"}
    answer = await client.put("/businesses/1/stock.csv", params=place, content=good)
    assert answer.status_code == 202, answer.text
    location = answer.headers["location"]

    async def file_has_it() -> bool:  # its process may still be starting, and a group that is not there has nothing
        return any(one["group"] == "file" for one in (await client.get(location)).json()["groups"])

    await wait_until(file_has_it, timeout=60)
    assert {step["state"] for step in await followed(client, location) if step["group"] == "file"} >= {"acked"}
    follow_ups = {one["type"] for one in (await client.get(location)).json()["follow_ups"]}
    assert follow_ups == {"InventoryImported", "StockCheckDue"}
    mails = await wait_until(lambda: len(sink.mails()) == 2 and sink.mails(), timeout=20)
    assert mails[1]["Subject"] == "Imported: stock.csv (1 refused)"

    answer = await client.put("/businesses/1/stock.csv", content=b"MZ\x90\x00" + bytes(100))
    assert (answer.status_code, "no text" in answer.text) == (422, True)
    answer = await client.put("/businesses/1/stock.csv", content=b"sku,quantity\n" + b"A,1\n" * 100_000)
    assert answer.status_code == 413


def add_business(file: Path) -> None:
    """As the application's own pages would."""
    import sqlite3

    with sqlite3.connect(file) as connection:
        connection.execute(
            "INSERT INTO businesses (id, name, currency, created_at) VALUES (1, 'Shop', 'EUR', '2026-01-01 00:00:00')"
        )
    connection.close()


def test_an_example_runs_on_the_defaults(spawn: Spawn, tmp_path: Path) -> None:
    """With nothing set: a Redis, a database and a mail server of its own."""
    given = ("REDIS_URL", "QUEUE_PREFIX", "SMTP_URL", "DATABASE_URL", "STREAMS_HOME", "STREAMS_PARTITIONS")
    env = {name: value for name, value in os.environ.items() if name not in given}
    child = spawn("examples.register_user", "ada@example.com", "Ada", env=env, name="first")
    try:
        assert child.wait(90) == 0, child.output()
        assert "  email: acked" in child.stdout().splitlines()
        (mail,) = (tmp_path / ".streams" / "example-mails").glob("*.eml")
        assert b"Welcome to Planning Bord" in mail.read_bytes()
        again = spawn("examples.register_user", "ada@example.com", env=env, name="second")
        assert again.wait(60) == 1
        assert again.stderr().splitlines()[-1] == "error: ada@example.com is registered already"
    finally:
        with redis.Redis(unix_socket_path=str(tmp_path / ".streams" / "redis.sock")) as client:
            client.shutdown(nosave=True)
