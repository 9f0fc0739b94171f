"""A delayed event is in Redis and nowhere else: whatever dies, it is delivered when it is due, once, and not before."""

from __future__ import annotations

import pytest

from streams import Settings, Streams
from streams.redis.entries import milliseconds
from tests.conftest import RedisFactory
from tests.faults.conftest import ROOT, ProbeLog, SpawnProbe
from tests.support.child import Spawn
from tests.support.waiting import wait_until


@pytest.mark.timeout(90)
async def test_a_delayed_event_outlives_every_process_and_redis(
    redis_factory: RedisFactory, spawn: Spawn, spawn_probe: SpawnProbe, probe_log: ProbeLog, app: str
) -> None:
    """Its publisher is gone; the consumer and then Redis are ended with SIGKILL, and started again."""
    server = redis_factory(appendfsync="always")
    env = {
        "REDIS_URL": server.url,
        "QUEUE_PREFIX": app,
        "STREAMS_EVENTS": "tests.support.programs.probe",
        "PYTHONPATH": str(ROOT),
    }
    consumer = spawn_probe(**env)
    await wait_until(lambda: "consumer.started" in consumer.stderr(), 20)
    publisher = spawn("streams", "publish", "Probed", "n=7", "--delay", "6s", env=env)
    assert publisher.wait() == 0
    due_key = f"{{{app}:0}}:due"
    waiting_id, due = server.cli("ZRANGE", due_key, 0, -1, "WITHSCORES")

    consumer.kill()
    server.kill()
    server.start()
    assert server.cli("ZRANGE", due_key, 0, -1, "WITHSCORES") == [waiting_id, due]
    seconds, microseconds = server.cli("TIME")
    early = float(due) - (int(seconds) * 1000 + int(microseconds) / 1000)
    _ = spawn_probe(**env)

    await wait_until(lambda: probe_log.numbers("end") == [7], 40)
    assert probe_log.numbers("start") == [7]
    async with Streams(settings=Settings(redis_url=server.url, app=app)) as streams:
        trail = await streams.event(waiting_id.decode())
        late = milliseconds(trail.entry_id) - float(due)
        assert await streams.redis.zcard(due_key) == 0
    print(f"Redis was back {early:.0f} ms before it was due; released {late:+.0f} ms after")
    assert late >= 0
