"""Threads of plain functions: as many as run at once, kept for the next ones, and ended when nothing waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from streams.executing.threads import Threads, busy_threads
from tests.support.waiting import wait_until


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    """Those of a processor."""
    made = Threads("probe")
    yield made
    made.close()
    await wait_until(lambda: not own())


def own() -> list[threading.Thread]:
    """The threads of the processor that live."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("probe")]


async def test_a_thread_is_kept_for_the_next_function(threads: Threads) -> None:
    """One after the other takes one thread, three at once take three, and no more are made afterwards."""
    for number in range(5):
        assert await threads.call(lambda number=number: number) == number  # type: ignore[misc]
    assert len(own()) == 1
    gate = threading.Event()
    together = [asyncio.create_task(threads.call(gate.wait)) for _ in range(3)]
    await wait_until(lambda: len(busy_threads()) == 3)
    gate.set()
    assert await asyncio.gather(*together) == [True] * 3
    await threads.call(lambda: None)
    assert len(own()) == 3
    assert busy_threads() == []


async def test_what_a_function_raises_is_raised(threads: Threads) -> None:
    """A StopIteration as what it is: no coroutine can raise one. The thread goes on."""

    def fail(error: BaseException) -> None:
        raise error

    with pytest.raises(ValueError, match="no"):
        await threads.call(lambda: fail(ValueError("no")))
    with pytest.raises(RuntimeError, match="the function raised StopIteration"):
        await threads.call(lambda: fail(StopIteration()))
    assert len(own()) == 1


async def test_a_cancel_waits_for_the_function(threads: Threads) -> None:
    """It cannot be interrupted, and its slot is not given to another before it has ended."""
    gate = threading.Event()
    call = asyncio.create_task(threads.call(gate.wait))
    await wait_until(busy_threads)
    call.cancel()
    done, _ = await asyncio.wait([call], timeout=0.05)
    assert not done
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    await threads.call(lambda: None)
    assert len(own()) == 1, "the thread is kept"


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_threads_end_when_they_are_closed(threads: Threads, is_cancelled: bool) -> None:
    """The idle one at once, the busy one with its function; who is cancelled then does not wait for it any more."""
    gate = threading.Event()
    call = asyncio.create_task(threads.call(gate.wait))
    await wait_until(busy_threads)
    await threads.call(lambda: None)
    assert len(own()) == 2
    threads.close()
    await wait_until(lambda: len(own()) == 1)
    if is_cancelled:
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert busy_threads()
    gate.set()
    if not is_cancelled:
        assert await call
    await wait_until(lambda: not own())
