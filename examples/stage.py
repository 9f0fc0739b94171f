"""on_stage: what an example needs around it: processors as child processes, a mail server, a business to work on.

In production nothing of this is yours to write: a supervisor runs the processors, and `SMTP_URL` is your mail server.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.fakes.mail_server import MailServer
from processors.email.settings import EmailSettings
from processors.shared.database.migration import prepare
from processors.shared.database.sample_data.seed import seed
from processors.shared.database.tables import businesses
from streams import NotFound, Settings, Streams, StreamsError
from streams.inspecting import EventStatus

_PATIENCE: Final = 60.0  # seconds that an example waits for what it has published


@asynccontextmanager
async def on_stage(*processors: str) -> AsyncIterator[Path | None]:
    """Runs the processors, which log into `examples.log` in `STREAMS_HOME`.

    When no server listens at `SMTP_URL`, one is started for as long as this lasts, which keeps what it is given; yields
    its address.
    """
    # What the engine logs in this process is no part of the story.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    home = Settings.load().home
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment, mails = dict(os.environ), None
    async with AsyncExitStack() as stack:
        if not await _has_mail_server():
            mails = home / "example-mails"
            sink = stack.enter_context(MailServer(mails))
            environment["SMTP_URL"] = f"smtp://127.0.0.1:{sink.port}"
            environment.pop("SMTP_PASSWORD", None)
        log = stack.enter_context((home / "examples.log").open("ab"))
        children = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "processors", *processors, env=environment, stdin=asyncio.subprocess.DEVNULL,
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield mails
        finally:
            if children.returncode is None:
                children.terminate()
            await children.wait()


async def _has_mail_server() -> bool:
    server = EmailSettings.load().server()
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(server.host, server.port)
    except OSError:  # a TimeoutError is one too
        return False
    writer.close()
    return True


async def a_business(engine: AsyncEngine) -> int:
    """The number of the first business; a made-up history is there first when there is none."""
    await prepare(engine)
    query = select(businesses.c.id).order_by(businesses.c.id).limit(1)
    async with engine.connect() as connection:
        found = await connection.scalar(query)
    if found is None:
        await seed(engine, skus=60, sold=4_000)
        async with engine.connect() as connection:
            found = (await connection.execute(query)).scalar_one()
    return int(found)


async def follow(streams: Streams, id: str, group: str) -> EventStatus:
    """Prints each step that a group takes with an event, and returns where it is when the group has finished it.

    An event of an outbox is waited for: a relay publishes it a moment after its commit. Raises `StreamsError` when it
    is not handled within a minute, and when it became a dead letter.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            await _published(streams, id)
            async for step in streams.progress(id, group=group):
                progress = f" {step.reached.text}" if step.reached else ""
                print(f"  {step.group}: {step.state}{progress}")
            trail = await streams.event(id)
    except TimeoutError:
        raise StreamsError(f"no group has handled {id}; ask: streams doctor why {id}") from None
    if any(one.group == group and one.state != "acked" for one in trail.groups):
        raise StreamsError(f"{group} has not handled it; ask: streams doctor why {id}")
    return trail


async def _published(streams: Streams, id: str) -> None:
    while True:
        try:
            await streams.event(id)
        except NotFound:
            await asyncio.sleep(0.1)
        else:
            return
