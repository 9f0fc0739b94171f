"""event --follow: how far the handlers of an event come, as it goes on."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from schemas import UserRegistered
from streams import Consumer, CurrentProgress, Processor, Progress, Receipt, Settings, Streams
from tests.cli.conftest import Cli
from tests.support.waiting import wait_until


@asynccontextmanager
async def importing(settings: Settings, client: Streams, gate: asyncio.Event) -> AsyncIterator[Receipt]:
    """An event whose handler says that it is at 40 of 100, and goes on when the gate is open."""
    crm = Processor("crm")

    @crm.on(UserRegistered)
    async def bring(event: UserRegistered, progress: Progress = CurrentProgress()) -> None:
        await progress.set(40, 100, "\x1b[31mreading [bold]names")
        await gate.wait()
        await progress.set(100)

    consumer = Consumer(crm, Streams(settings=settings))
    await consumer.start()
    try:
        receipt = await client.publish(UserRegistered(user_id=1, email="ada@example.com", name="Ada"))
        key = client.keys.progress(receipt.id)
        await wait_until(lambda: client.redis.exists(key))
        yield receipt
    finally:
        gate.set()
        await consumer.stop()


@pytest.mark.newest_redis
async def test_event_shows_how_far_it_is_and_follow_goes_on(cli: Cli, client: Streams, settings: Settings) -> None:
    """A line a step in a pipe, an object a step with --json; both end when it is settled."""
    gate = asyncio.Event()
    async with importing(settings, client, gate) as receipt:
        shown = await cli("event", receipt.id)
        assert "40 of 100, 40 %: \\x1b[31mreading [bold]names; held by" in shown.out
        (group,) = (await cli("event", receipt.id, "--json")).json()["groups"]
        assert (group["progress"]["done"], group["progress"]["total"]) == (40, 100)
        following = [asyncio.create_task(cli("event", receipt.id, "--follow", *more)) for more in ((), ("--json",))]
        subscribed = client.redis.pubsub_numsub
        key = client.keys.progress(receipt.id)

        async def both_listen() -> bool:
            return bool((await subscribed(key))[0][1] == 2)

        await wait_until(both_listen, 20)
        gate.set()
        lines, objects = await asyncio.gather(*following)
    assert (lines.code, objects.code, lines.err, objects.err) == (0, 0, "", "")
    told = lines.out.splitlines()
    assert told[-1] == "crm  acked  attempt 1  100 of 100, 100 %: \\x1b[31mreading [bold]names"
    steps = [json.loads(line) for line in objects.out.splitlines()]
    assert [step["state"] for step in steps][-1] == "acked"
    assert steps[-1] == steps[-1] | {"group": "crm", "attempt": 1, "done": 100.0, "total": 100.0}


@pytest.mark.newest_redis
async def test_a_bar_is_drawn_on_a_terminal(
    client: Streams, settings: Settings, streams_env: Mapping[str, str]
) -> None:
    """What a handler says cannot repaint it."""
    gate = asyncio.Event()
    async with importing(settings, client, gate) as receipt:
        screen, terminal = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streams", "event", receipt.id, "--follow",
            env={**streams_env, "TERM": "xterm"}, stdin=terminal, stdout=terminal, stderr=terminal,
        )  # fmt: skip
        os.close(terminal)
        drawn = bytearray()
        reading = asyncio.create_task(asyncio.to_thread(_read_all, screen, drawn))
        await wait_until(lambda: b"40 of 100" in drawn, 20, drawn.decode)
        gate.set()
        assert await process.wait() == 0
        await reading
    text = drawn.decode()
    assert "\\x1b[31mreading [bold]names" in text
    assert "\x1b[31m" not in text
    assert "━" in text
    assert "acked" in text


def _read_all(screen: int, drawn: bytearray) -> None:
    try:
        while chunk := os.read(screen, 65_536):
            drawn += chunk
    except OSError:  # EIO: the last one who had the terminal open is gone
        pass
    os.close(screen)
