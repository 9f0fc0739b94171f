"""consuming: a group at work in this process, for tests that need retries, dead letters and pending entries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from schemas import EmailRefused, StockBelowThreshold, UserRegistered
from streams import Backoff, Consumer, DeadLetter, Processor, Settings, Snooze, Streams

LEASE = 2.0


def settings_for(url: str, app: str, **more: Any) -> Settings:
    """The settings of a test: its Redis, its prefix, times short enough to wait for."""
    return Settings(redis_url=url, app=app, lease=LEASE, block=0.2, grace=0.5, **more)


def registered(user_id: int = 7) -> UserRegistered:
    """An event; which one decides what becomes of it, see `Desk`."""
    return UserRegistered(user_id=user_id, email=f"ada{user_id}@example.com", name="Ada")


class Desk:
    """The handlers of the group `email`. By user id: 0 is rejected, 1 fails, 2 hangs until `let_go`, 3 has a follow-up,
    4 snoozes, all others are done. `healed` makes 0 and 1 succeed.
    """

    REJECTED, FAILING, HANGING, FOLLOWED, SNOOZED = range(5)

    def __init__(self, *, attempts: int = 2, first: float = 60.0) -> None:
        self.seen: list[int] = []
        self.healed = False
        self.let_go = asyncio.Event()
        self.processor = Processor("email", retry=Backoff(attempts=attempts, first=first, jitter=0))
        self.processor.on(UserRegistered)(self.register)
        self.processor.on(StockBelowThreshold)(self.stock)

    async def register(self, event: UserRegistered) -> EmailRefused | None:
        """Handles one registration."""
        self.seen.append(event.user_id)
        match event.user_id:
            case self.REJECTED if not self.healed:
                raise DeadLetter("550 no such mailbox")
            case self.FAILING if not self.healed:
                raise RuntimeError("451 try later")
            case self.HANGING:
                await self.let_go.wait()
            case self.FOLLOWED:
                return EmailRefused(template="w", message_id="m", recipients=["x@example.com"], code=550, reply="no")
            case self.SNOOZED:
                raise Snooze(60, "not before noon")
        return None

    async def stock(self, event: StockBelowThreshold) -> None:
        """Handles one low stock."""


@asynccontextmanager
async def consuming(desk: Desk, settings: Settings) -> AsyncIterator[Consumer]:
    """A consumer of the desk's group, stopped at the end."""
    consumer = Consumer(desk.processor, Streams(settings=settings))
    await consumer.start()
    try:
        yield consumer
    finally:
        desk.let_go.set()
        await consumer.stop()
