"""A client in several event loops, threads and processes: it works, or says what to use; it never hangs."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import pytest

from streams import PublishUncertain, Settings, Streams, StreamsError, SyncStreams, Unreachable
from tests.conftest import RedisFactory
from tests.support.events import Noted
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis


@pytest.fixture
def settings(redis_url: str, app: str) -> Settings:
    """Of this test's Redis; nothing may take longer than two seconds."""
    return Settings(redis_url=redis_url, app=app, publish_timeout=2.0)


def published(server: RedisServer, app: str) -> int:
    """How many events are in the stream."""
    count: int = server.cli("XLEN", f"{{{app}:0}}:stream:notes")
    return count


def test_a_client_of_the_module_in_a_second_loop(settings: Settings, redis_server: RedisServer, app: str) -> None:
    """`asyncio.run` again and again, as tasks of other queues and scripts do: the first loop has it. Later ones get an
    error that says what to use, each time, at once, and nothing was published.
    """
    streams = Streams(settings=settings)
    asyncio.run(streams.publish(Noted(n=1)))
    for n in (2, 3, 4):
        began = time.monotonic()
        with pytest.raises(StreamsError, match=r"belongs to another event loop, which is closed.*SyncStreams"):
            asyncio.run(streams.publish(Noted(n=n)))
        for ask in (streams.snapshot, streams.check):
            with pytest.raises(StreamsError, match="another event loop"):
                asyncio.run(ask())
        assert time.monotonic() - began < 1.0
    assert published(redis_server, app) == 1
    asyncio.run(streams.aclose())
    with pytest.raises(StreamsError, match="another event loop"):
        asyncio.run(streams.publish(Noted(n=5)))


def test_one_client_in_each_loop(settings: Settings, redis_server: RedisServer, app: str) -> None:
    """What the error says to do."""

    async def publish(n: int) -> None:
        async with Streams(settings=settings) as streams:
            await streams.publish(Noted(n=n))

    for n in range(3):
        asyncio.run(publish(n))
    assert published(redis_server, app) == 3


def test_four_threads_with_a_loop_each(settings: Settings, redis_server: RedisServer, app: str) -> None:
    """One client for all of them: one loop has it, the others get the error, and all of them end."""
    streams, wrong, right = Streams(settings=settings), list[str](), list[int]()
    closing = threading.Event()

    async def publish_ten(number: int) -> None:
        for n in range(10):
            try:
                await streams.publish(Noted(n=number * 10 + n))
                right.append(number)
            except StreamsError as error:
                wrong.append(str(error))
        if number in right:
            await asyncio.to_thread(closing.wait, 20)
            await streams.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(publish_ten(number),), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while len(right) + len(wrong) < 40 and time.monotonic() < deadline:
        threads[0].join(0.01)
    closing.set()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert (len(right), len(set(right)), len(wrong)) == (10, 1, 30)
    assert all("SyncStreams" in text for text in wrong)
    assert published(redis_server, app) == 10


def test_one_sync_client_for_all_of_them(settings: Settings, redis_server: RedisServer, app: str) -> None:
    """The other way that the error names."""
    with SyncStreams(settings=settings) as streams:
        threads = [threading.Thread(target=streams.publish, args=(Noted(n=n),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert published(redis_server, app) == 4


def test_a_child_of_a_process_that_has_published(settings: Settings, redis_server: RedisServer, app: str) -> None:
    """It must not write into its parent's connection; it says so, and the parent goes on."""
    streams = Streams(settings=settings)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(streams.publish(Noted(n=1)))
    child = os.fork()
    if not child:
        code = 1
        try:
            asyncio.run(streams.publish(Noted(n=2)))
        except StreamsError as error:
            code = 0 if "forked" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    loop.run_until_complete(streams.publish(Noted(n=3)))
    loop.run_until_complete(streams.aclose())
    loop.close()
    assert published(redis_server, app) == 2


async def test_what_cannot_be_sent_leaves_nothing_stuck(
    settings: Settings, redis_server: RedisServer, app: str
) -> None:
    """Whatever a send fails with, the callers behind it get an answer, and the next publish works."""
    async with Streams(settings=settings) as streams:
        await streams.publish(Noted(n=0))
        for behind in (0, 5):
            wrong = streams.message(Noted(n=1))
            wrong.values[2] = object()  # type: ignore[call-overload]
            calls: list[Any] = [streams.append([wrong]), *(streams.publish(Noted(n=n)) for n in range(behind))]
            async with asyncio.timeout(5):
                found = await asyncio.gather(*calls, return_exceptions=True)
            assert isinstance(found[0], StreamsError)
            assert not any(isinstance(answer, BaseException) for answer in found[1:])
        queued = [streams.message(Noted(n=n)) for n in range(3)]
        queued[1].values[2] = object()  # type: ignore[call-overload]
        async with asyncio.timeout(5):  # among others, in one batch
            await asyncio.gather(*(streams.append([message]) for message in queued), return_exceptions=True)
            await streams.publish(Noted(n=9))
    assert published(redis_server, app) >= 7


async def test_a_loop_that_cancels_everything(redis_factory: RedisFactory, app: str) -> None:
    """All tasks are cancelled, the client's own among them, as frameworks do at the end of a test: no caller waits for
    ever, and the client is not stuck.
    """
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as proxy:
        settings = Settings(redis_url=proxy.url, app=app, publish_timeout=3.0)
        async with Streams(settings=settings) as streams:
            await streams.publish(Noted(n=0))
            proxy.mode = "stall"
            publishes = [asyncio.create_task(streams.publish(Noted(n=n))) for n in range(1, 4)]
            await asyncio.sleep(0.05)
            publishes[0].cancel()  # the client sees its batch through, in a task of its own
            await asyncio.sleep(0.05)
            (own,) = streams._router.publishers[0]._tasks
            own.cancel()
            async with asyncio.timeout(2):
                found = await asyncio.gather(*publishes, return_exceptions=True)
            assert isinstance(found[0], asyncio.CancelledError)
            assert all(isinstance(answer, PublishUncertain | Unreachable) for answer in found[1:])
            proxy.mode = "pass"
            await streams.publish(Noted(n=5))


async def test_the_publish_timeout_holds_for_every_caller(redis_factory: RedisFactory, app: str) -> None:
    """Also for those that wait behind others while Redis does not answer: each has its own time, and no more."""
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as proxy:
        settings = Settings(redis_url=proxy.url, app=app, publish_timeout=1.0)
        async with Streams(settings=settings) as streams:
            await streams.publish(Noted(n=0))
            proxy.mode = "blackhole"
            took: list[float] = []

            async def publish(n: int) -> None:
                began = time.monotonic()
                with pytest.raises((Unreachable, PublishUncertain)):
                    await streams.publish(Noted(n=n))
                took.append(time.monotonic() - began)

            tasks: set[asyncio.Task[None]] = set()
            for n in range(12):
                tasks.add(asyncio.create_task(publish(n)))
                await asyncio.sleep(0.1)
            await wait_until(lambda: len(took) == 12, 10)
            await asyncio.gather(*tasks)
            assert max(took) < 1.6
            proxy.mode = "pass"
            await streams.publish(Noted(n=99))


async def test_the_first_publish_is_tried_for_as_long(redis_factory: RedisFactory, app: str) -> None:
    """A Redis that starts meanwhile is waited for by the very first publish as well, and by no more than its time."""
    server = redis_factory()
    settings = Settings(redis_url=server.url, app=app, publish_timeout=8.0)
    server.stop()
    async with Streams(settings=settings) as streams:
        first = asyncio.create_task(streams.publish(Noted(n=1)))
        await asyncio.sleep(0.3)
        assert not first.done()
        await asyncio.to_thread(server.start)
        await first
    server.stop()
    async with Streams(settings=settings.model_copy(update={"publish_timeout": 0.6})) as streams:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="connection refused"):
            await streams.publish(Noted(n=2))
        assert time.monotonic() - began < 1.5


async def test_a_client_that_is_closed(settings: Settings) -> None:
    """It says so at once."""
    streams = Streams(settings=settings)
    await streams.publish(Noted(n=1))
    await streams.aclose()
    began = time.monotonic()
    with pytest.raises(StreamsError, match="is closed"):
        await streams.publish(Noted(n=2))
    assert time.monotonic() - began < 0.5
