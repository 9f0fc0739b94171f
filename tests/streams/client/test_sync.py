"""SyncStreams: the same face without an event loop, for threads and for forked processes."""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import orjson
import pytest
import redis
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from observability.tracing import TracingMiddleware
from streams import NotFound, Settings, Streams, StreamsError, SyncStreams, Unreachable
from streams.admin.replay import Replays
from streams.client.sync_operator import SyncDeadLetters, SyncReplays, SyncSchedules
from streams.dead_letters.dead_letters import DeadLetters
from streams.dead_letters.search import Filter
from streams.messages.event_ids import new_id
from streams.messages.message import Carried, Message
from streams.redis.keys import Keys
from streams.scheduling.admin import Schedules
from tests.streams.conftest import MakeSettings
from tests.support.events import Noted
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.newest_redis, pytest.mark.single("it looks at Redis with a client for one server")]


@pytest.fixture
def sync(make_settings: MakeSettings) -> Iterator[SyncStreams]:
    """A client, closed afterwards."""
    with SyncStreams(settings=make_settings()) as client:
        yield client


@pytest.fixture
def stored(redis_url: str, app: str) -> Iterator[Any]:
    """Reads the numbers in the notes stream."""
    client = redis.Redis.from_url(redis_url)

    def read() -> list[int]:
        return [orjson.loads(fields[b"data"])["n"] for _, fields in client.xrange(Keys(app).stream("notes"))]

    yield read
    client.close()


@pytest.mark.parametrize(
    ("face", "noun", "own"),
    [
        (SyncStreams, Streams, {"call", "close"}),
        (SyncDeadLetters, DeadLetters, {"call"}),
        (SyncReplays, Replays, {"call"}),
        (SyncSchedules, Schedules, {"call"}),
    ],
)
def test_it_has_the_same_names(face: type[Any], noun: type[Any], own: set[str]) -> None:
    """Every verb with its signature and its words; only what belongs to the engine's inside has none."""
    inner = {
        "aclose", "address", "append", "connections", "keys", "message", "partition_of", "partitions", "redis",
        "release", "new_id", "partition_for",
    }  # fmt: skip
    names = {name for name in dir(face) if not name.startswith("_")}
    assert names - own == {name for name in dir(noun) if not name.startswith("_")} - inner
    for name in names - own:
        method, original = getattr(face, name), getattr(noun, name)
        assert method.__doc__, name
        if inspect.isfunction(method) and name != "dead_letters":  # that one returns a face
            assert inspect.signature(method) == inspect.signature(original), name
            assert not inspect.iscoroutinefunction(method), name


def test_threads_share_one(sync: SyncStreams, stored: Any) -> None:
    """Eight threads, 200 events each: none lost, none twice, and one thread does the work."""

    def publish(thread: int) -> None:
        for n in range(200):
            sync.publish(Noted(n=thread * 1000 + n))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(publish, range(8)))
    assert sorted(stored()) == [thread * 1000 + n for thread in range(8) for n in range(200)]
    assert [thread.name for thread in threading.enumerate()].count("streams-sync") == 1


def test_a_forked_child_has_its_own(sync: SyncStreams, stored: Any) -> None:
    """As a server does that loads the application before it forks: parent and children go on publishing."""
    sync.publish(Noted(n=0))
    children = []
    for n in (1, 2):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                sync.publish(Noted(n=n))
                sync.close()
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    sync.publish(Noted(n=3))
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]
    assert sorted(stored()) == [0, 1, 2, 3]


def test_errors_are_those_of_streams(sync: SyncStreams) -> None:
    """They come out of the call that asked."""
    with pytest.raises(NotFound):
        sync.event("01a20d02-e22e-741d-a25e-e66876a80b9d")
    with pytest.raises(NotFound, match="no group nobody"):
        sync.pause("nobody")
    nowhere = Settings(redis_url="redis://127.0.0.1:1/0", publish_timeout=0.2)  # type: ignore[arg-type]
    with SyncStreams(settings=nowhere) as client, pytest.raises(Unreachable):
        client.publish(Noted(n=1))


async def test_it_does_not_block_a_loop(make_settings: MakeSettings) -> None:
    """Where one runs, `Streams` is meant."""
    client = SyncStreams(settings=make_settings())
    with pytest.raises(StreamsError, match="use Streams, and await it"):
        client.publish(Noted(n=1))


def test_it_can_be_closed_and_used_again(sync: SyncStreams, stored: Any) -> None:
    """A later call begins anew; closing twice is no error."""
    sync.publish(Noted(n=1))
    sync.close()
    sync.close()
    assert "streams-sync" not in [thread.name for thread in threading.enumerate()]
    sync.publish(Noted(n=2))
    assert stored() == [1, 2]


def test_the_callers_trace_is_the_publishers(make_settings: MakeSettings, redis_url: str, app: str) -> None:
    """The span that is current where `publish` is called is the parent of the publish span."""
    provider = TracerProvider()
    with SyncStreams(settings=make_settings(), middleware=(TracingMiddleware(provider),)) as client:
        with provider.get_tracer("test").start_as_current_span("request") as span:
            client.publish(Noted(n=1))
        trace_id = trace.format_trace_id(span.get_span_context().trace_id)
    direct = redis.Redis.from_url(redis_url)
    ((_, fields),) = direct.xrange(Keys(app).stream("notes"))
    direct.close()
    provider.shutdown()
    assert trace_id.encode() in fields[b"traceparent"]


def test_dead_letters_are_iterated(sync: SyncStreams, redis_url: str, app: str) -> None:
    """Page by page, as they are asked for."""
    keys = Keys(app)
    direct = redis.Redis.from_url(redis_url)
    direct.hset(keys.groups(), "email", keys.stream("notes"))
    message = Message.for_event(Noted(n=1), source="/t", target="")
    fields = [
        *message.encode_back(Carried(f"{keys.stream('notes')} 1-0", 1, 1)),
        b"group",
        b"email",
        b"reason",
        b"failed",
    ]
    for _ in range(3):
        direct.xadd(keys.dead("email"), dict(zip(fields[::2], fields[1::2], strict=True)))  # type: ignore[arg-type]
    direct.close()
    letters = sync.dead_letters("email")
    assert [letter.reason for letter in letters.ls()] == ["failed"] * 3
    assert len(list(letters.ls(limit=2))) == 2
    assert letters.replay(limit=1).done == 1
    assert letters.discard(only=Filter(reason="failed"), limit=1).done == 1
    assert letters.count() == 1
    assert letters.call(lambda found: found.count()) == 1
    with pytest.raises(NotFound):
        next(sync.dead_letters("nobody").ls())
    assert sync.schedules.ls() == []
    assert sync.replays.ls() == []


def test_what_waits_when_it_is_closed_is_told_so(make_settings: MakeSettings) -> None:
    """Another thread must not wait for ever for a loop that is gone."""
    client = SyncStreams(settings=make_settings())
    asked = threading.Event()

    async def never(_: Streams) -> None:
        asked.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.call, never)
        assert asked.wait(10)
        client.close()
        with pytest.raises(StreamsError, match="closed by another thread"):
            waiting.result(10)


def test_ctrl_c_ends_the_wait(make_settings: MakeSettings, stored: Any) -> None:
    """What was asked is cancelled, and the client goes on."""
    cancelled = threading.Event()

    async def never(_: Streams) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)  # comes while the main thread waits
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever had it in this process before
    with SyncStreams(settings=make_settings()) as client:
        try:
            with pytest.raises(KeyboardInterrupt):
                client.call(never)
        finally:
            signal.signal(signal.SIGINT, before)
        assert cancelled.wait(10)
        client.publish(Noted(n=1))
    assert stored() == [1]


def test_a_fork_while_another_thread_holds_the_lock(sync: SyncStreams, stored: Any) -> None:
    """The child has the lock, and not the thread that would open it."""
    sync.publish(Noted(n=0))
    with sync._lock:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                sync.publish(Noted(n=1))
                code = 0
            finally:
                os._exit(code)
    try:
        wait_until_sync(lambda: os.waitpid(pid, os.WNOHANG)[0], 15)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    assert stored() == [0, 1]


@pytest.mark.parametrize("first", ["publish", "close"])
def test_a_fork_in_c_is_noticed(sync: SyncStreams, stored: Any, first: str) -> None:
    """As uWSGI forks: Python's hooks do not run in the child, which has neither the thread nor ids of its own."""
    sync.publish(Noted(n=0))
    made, sends = os.pipe()
    pid = ctypes.PyDLL(None).fork()
    if not pid:
        code = 1
        try:
            signal.alarm(20)  # a wait for a thread that is not there never ends
            os.write(sends, new_id(1).encode())
            if first == "close":
                sync.close()
            sync.publish(Noted(n=1))
            sync.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    theirs = os.read(made, 200).decode()
    os.close(made)
    os.close(sends)
    assert new_id(1) != theirs
    sync.publish(Noted(n=2))
    assert stored() == [0, 1, 2]


@pytest.mark.parametrize(
    ("module", "question"), [("gevent.monkey", "is_module_patched"), ("eventlet.patcher", "is_monkey_patched")]
)
def test_green_threads_are_refused_at_once(
    sync: SyncStreams, monkeypatch: pytest.MonkeyPatch, module: str, question: str
) -> None:
    """Where they are not patched in it works; where they are, also later, it is one sentence and no wait."""
    patched: set[str] = set()
    patcher = ModuleType(module)
    setattr(patcher, question, patched.__contains__)
    monkeypatch.setitem(sys.modules, module, patcher)
    sync.publish(Noted(n=0))
    for name in ("threading", "thread", "socket", "select"):
        patched.clear()
        patched.add(name)
        with pytest.raises(StreamsError, match=f"needs real threads, and {module.partition('.')[0]} has replaced them"):
            SyncStreams()
        with pytest.raises(StreamsError, match="gunicorn: --worker-class gthread"):
            sync.publish(Noted(n=1))
    patched.clear()
    sync.publish(Noted(n=2))
