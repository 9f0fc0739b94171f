"""The comparison with the peers: its judge can tell right from wrong, and this project goes through it unharmed.

The peers themselves are not run here: that takes their packages and a quarter of an hour (`make peers`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import redis.asyncio

from streams.redis.embedded import ServerBinary
from tests.faults.peers import remains
from tests.faults.peers.judge import ACKED_WITHIN, Score, judge
from tests.faults.peers.peer import PEERS, ROOT, SETTINGS
from tests.faults.peers.run import Bout
from tests.faults.peers.table import Row, table
from tests.faults.peers.venv import requirements
from tests.faults.soak.journal import Line
from tests.faults.soak.nemesis import Plan
from tests.support.redis_server import RedisServer

WORKER: Final = 10  # started through the proxy; what handles is its child, 11
DIRECT: Final = 20  # straight to Redis
GOOD: Final = Score(
    published=1, failed=0, failed_yet_handled=0, handled=1, lost=0, stuck=0, given_up=0, again=0,
    again_without_reason=0, again_yet=0, ended=0, done_after=None,
)  # fmt: skip


def line(what: str, at: float = 0.0, **fields: Any) -> Line:
    """One fact."""
    return {"what": what, "at": at, **fields}


def started(at: float, pid: int = 11, n: int = 0) -> Line:
    """A handler begins."""
    return line("start", at, n=n, pid=pid)


def ended(at: float, pid: int = 11, n: int = 0) -> Line:
    """A handler comes to its end."""
    return line("end", at, n=n, pid=pid)


CREW: Final = [
    line("spawn", pid=WORKER, role="work", via="proxy"),
    line("ready", pid=11, leader=WORKER),
    line("spawn", pid=DIRECT, role="work", via="direct"),
    line("ready", pid=DIRECT, leader=DIRECT),
]
PUBLISHED: Final = [line("publish", 1.0, n=0), line("publish_ok", 1.1, n=0, id="a")]
HANDLED: Final = [started(2.0), ended(3.0)]


def score(*lines: Line) -> Score:
    """What the judge makes of a crew, one event that was published, and this."""
    return judge([*CREW, *PUBLISHED, *lines], events=1)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(HANDLED, GOOD, id="handled"),
        pytest.param([], replace(GOOD, handled=0, lost=1), id="never seen again"),
        pytest.param([started(2.0)], replace(GOOD, handled=0, lost=1), id="begun and forgotten"),
        pytest.param([line("held", n=0)], replace(GOOD, handled=0, stuck=1), id="still held"),
        pytest.param([started(2.0), line("given_up", id="a")], replace(GOOD, handled=0, given_up=1), id="given up"),
        pytest.param([line("given_up", id="b")], replace(GOOD, handled=0, lost=1), id="another one given up"),
        pytest.param([*HANDLED, line("given_up", id="a")], GOOD, id="a result is kept of what was handled"),
        pytest.param([*HANDLED, line("held", n=0)], replace(GOOD, again_yet=1), id="handled, and not acked"),
        pytest.param([*HANDLED, line("drained", 9.0, seconds=1.5)], replace(GOOD, done_after=1.5), id="drained"),
    ],
)
def test_each_event_ends_in_one_way(lines: list[Line], expected: Score) -> None:
    """Handled, lost, late or given up."""
    assert score(*lines) == expected


TWICE: Final = [*HANDLED, started(9.0, DIRECT), ended(9.5, DIRECT)]
LATE: Final = 3.0 + ACKED_WITHIN + 0.5  # after the first handler's ack had all the time it needs


@pytest.mark.parametrize(
    ("lines", "again", "without_reason"),
    [
        pytest.param([], 0, 1, id="nothing had happened"),
        pytest.param([line("kill", 3.1, pid=WORKER)], 1, 0, id="its worker was killed before the ack"),
        pytest.param([line("kill", LATE, pid=WORKER)], 0, 1, id="its worker was killed long after the ack"),
        pytest.param([line("kill", 3.1, pid=DIRECT)], 0, 1, id="another one was killed"),
        pytest.param([line("exit", 3.1, pid=WORKER, code=1)], 1, 0, id="its worker ended"),
        pytest.param([line("stop", 2.5, pid=WORKER), line("cont", 8.0, pid=WORKER)], 1, 0, id="its worker stood still"),
        pytest.param(
            [line("stop", 0.5, pid=WORKER), line("cont", 1.9, pid=WORKER)], 0, 1, id="it had stood still before"
        ),
        pytest.param([line("redis_kill", 2.5), line("redis_up", 2.7)], 1, 0, id="Redis was killed"),
        pytest.param([line("redis_kill", 0.5), line("redis_up", 1.5)], 0, 1, id="Redis had been killed before"),
        pytest.param([line("network", 1.0), line("heal", 2.5)], 1, 0, id="its network was cut"),
        pytest.param([line("network", LATE), line("heal", 9.0)], 0, 1, id="its network was cut long after"),
        pytest.param([line("ready", 3.5, pid=12, leader=WORKER)], 1, 0, id="its manager had to start another child"),
    ],
)
def test_a_second_beginning_needs_a_reason(lines: list[Line], again: int, without_reason: int) -> None:
    """In the time from the first beginning until its end was safely acked."""
    found = score(*TWICE, *lines)
    assert (found.again, found.again_without_reason) == (again, without_reason)


def test_a_cut_is_no_excuse_for_who_is_not_behind_it() -> None:
    """Half of the workers reach Redis without the proxy."""
    lines = [
        started(2.0, DIRECT),
        ended(3.0, DIRECT),
        started(4.0),
        ended(4.1),
        line("network", 1.0),
        line("heal", 5.0),
    ]
    assert score(*lines).again_without_reason == 1


def test_an_event_that_never_ended_is_excused_by_whatever_came_before_the_next_beginning() -> None:
    """Its worker held it until then."""
    lines = [started(2.0), line("kill", LATE, pid=WORKER), started(20.0, DIRECT), ended(20.1, DIRECT)]
    assert score(*lines).again == 1


def test_what_a_publisher_was_told() -> None:
    """An error, or nothing because it died; what happened all the same is counted beside."""
    lines = [
        line("publish", n=1), line("publish_failed", n=1, error="cut"), started(2, n=1), ended(3, n=1),
        line("publish", n=2), line("publish_failed", n=2, error="cut"),
        line("publish", n=3),
    ]  # fmt: skip
    found = judge([*CREW, *PUBLISHED, *HANDLED, *lines], events=4)
    assert found == replace(GOOD, failed=3, failed_yet_handled=1)


def test_what_keeps_a_system_awake_is_not_judged() -> None:
    """It comes after the numbered events, and some of it is always under way."""
    lines = [line("publish", n=7), line("publish_ok", n=7, id="h"), line("held", n=7), started(2, n=7), started(3, n=7)]
    assert score(*HANDLED, *lines) == GOOD


def test_faults_and_exits_are_counted() -> None:
    """Who was killed did not end by itself; a manager's new child is an exit."""
    lines = [
        line("kill", 4.0, pid=DIRECT), line("exit", 4.1, pid=DIRECT, code=-9), line("exit", 5.0, pid=WORKER, code=1),
        line("ready", 4.5, pid=12, leader=WORKER), line("redis_kill", 6.0), line("redis_up", 6.5),
        line("network", 7.0), line("heal", 7.5), line("stop", 8.0, pid=WORKER),
    ]  # fmt: skip
    assert score(*HANDLED, *lines) == replace(GOOD, ended=2, kills=1, stops=1, redis_kills=1, cuts=1)


@pytest.mark.newest_redis
async def test_what_a_stream_holds_is_what_is_not_acked(
    redis_client: redis.asyncio.Redis, redis_server: RedisServer
) -> None:
    """Pending, or not yet delivered: what is acked stays in the stream, and is over."""
    for n in range(6):
        await redis_client.xadd("taskiq", {"data": f'{{"args": ["event-{n:06d}"]}}'})
    await redis_client.xgroup_create("taskiq", "taskiq", "0")
    [[_, read]] = await redis_client.xreadgroup("taskiq", "someone", {"taskiq": ">"}, count=4)
    await redis_client.xack("taskiq", "taskiq", read[1][0], read[2][0])
    with redis_server.client() as client:
        assert remains.of_taskiq(client).held == {0, 3, 4, 5}
    await redis_client.flushall()


@pytest.mark.newest_redis
async def test_arguments_may_be_in_keys_of_their_own(
    redis_client: redis.asyncio.Redis, redis_server: RedisServer
) -> None:
    """As arq and streaq have them; what is over has a result."""
    await redis_client.zadd("arq:queue", {"a": 1})
    await redis_client.mset(
        {"arq:job:a": b"\x80pickled event-000003", "arq:job:b": b"event-000004", "arq:result:c": b"no"}
    )
    await redis_client.xadd("streaq:default:queues:normal", {"task_id": "d"})
    await redis_client.xgroup_create("streaq:default:queues:normal", "workers", "0")
    await redis_client.set("streaq:default:task:data:d", b"event-000005")
    with redis_server.client() as client:
        assert remains.of_arq(client) == remains.Remains(frozenset({3}), frozenset({"c"}))
        assert remains.of_streaq(client) == remains.Remains(frozenset({5}), frozenset())
    await redis_client.flushall()


def test_versions_are_pinned_and_none_of_them_is_a_dependency() -> None:
    """A figure belongs to a version; the lock file of this project knows none of the peers."""
    locked = set(re.findall(r'^name = "(.+)"$', (ROOT / "uv.lock").read_text(), re.MULTILINE))
    for peer in PEERS[1:]:
        pins = requirements(peer.name)
        assert set(peer.distributions) <= set(pins)
        assert all(pins.values())
        assert not locked & set(peer.distributions)
        assert re.fullmatch(r"[\w-]+ [\d.]+(, [\w-]+ [\d.]+)*", peer.title)


def test_the_table_fits_a_terminal() -> None:
    """Of 80 columns, also with the widest figures."""
    full = replace(
        GOOD, published=2000, failed=999, lost=999, stuck=999, given_up=99, again=999, ended=99, done_after=123.4
    )
    text = table(Row(peer, settings, full) for settings in SETTINGS for peer in PEERS)
    assert max(map(len, text.splitlines())) <= 80
    assert "this project" in text


@pytest.mark.newest_redis
@pytest.mark.timeout(180)
async def test_this_project_goes_through_it(
    redis_binary: ServerBinary, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With one kill of a worker and one of Redis: nothing lost, late, given up, or handled again for no reason."""
    seed: int = request.config.getoption("randomly_seed", 0)
    bout = Bout(seed, 300, Plan(4, kill=1, redis=1, network=0, stop=0, deploy=0), workers=2, patience=60)
    found = await bout.run(PEERS[0], "tuned", redis_binary, tmp_path / "bout")
    print(f"seed {seed}: {found}")
    assert found.unharmed, f"{found}; journal, logs and data: {tmp_path}"
    assert (found.published, found.failed, found.ended) == (300, 0, 0)
    assert (found.kills, found.redis_kills) == (1, 1), "a fault found nobody to hurt"
    assert found.done_after is not None
