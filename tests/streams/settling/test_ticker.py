"""Ticker: a loop that waits for its time, and can be woken."""

from __future__ import annotations

import asyncio
import time

from streams.settling.ticker import Ticker
from tests.support.waiting import wait_until


async def test_it_is_woken_while_it_waits() -> None:
    times: list[float] = []

    async def work() -> float:
        times.append(time.monotonic())
        return 60.0

    ticker = Ticker()
    running = asyncio.create_task(ticker.run(work))
    await wait_until(lambda: len(times) == 1)
    ticker.wake_within(0.05)
    ticker.wake_within(30.0)  # a later one changes nothing
    await wait_until(lambda: len(times) == 2)
    assert times[1] - times[0] >= 0.04
    running.cancel()


async def test_what_is_noted_while_it_works_counts() -> None:
    """The next time is the earlier one of what the work returns and what was noted meanwhile."""
    count, noted = 0, asyncio.Event()

    async def work() -> float:
        nonlocal count
        count += 1
        if count == 1:
            await noted.wait()
        return 60.0

    ticker = Ticker()
    running = asyncio.create_task(ticker.run(work))
    await wait_until(lambda: count == 1)
    ticker.wake_within(0.0)
    noted.set()
    await wait_until(lambda: count == 2)
    running.cancel()
