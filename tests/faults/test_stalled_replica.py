"""A replica that hears nothing and says it is well: the one failover that no setting of the master notices (N5).

The master's data is held up on its way to the replica while the replica's acknowledgements pass, so that
`min-replicas-to-write` is content. Then the replica is promoted.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from streams import Consumer, NotReplicated, Processor, Settings, Streams
from streams.sql import CurrentTransaction, SqlInbox, create_tables, make_engine
from tests.conftest import RedisFactory
from tests.sql.ledger import enter, entries, open_ledger
from tests.streams.consuming.test_consumer import settled
from tests.support.events import Noted
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.newest_redis, pytest.mark.timeout(60)]

BEFORE, STALLED = 50, 100


def settings_of(server: RedisServer, app: str) -> Settings:
    """For either of the two."""
    return Settings(redis_url=SecretStr(server.url), app=app, lease=1.0, block=0.2, replicated_within=0.1)


async def test_what_replicas_confirmed_outlives_a_stalled_one(
    redis_factory: RedisFactory, app: str, tmp_path: Path
) -> None:
    """100 events that the master took and the replica never had are lost, and it was said of each of those that had
    asked. What was acked there only is handled again, and its effect in SQL is there once.
    """
    engine = make_engine(f"sqlite:///{tmp_path}/ledger.db")
    await create_tables(engine)
    await open_ledger(engine)
    ledger = Processor("ledger", transaction=SqlInbox(engine))

    @ledger.on(Noted)
    async def book(event: Noted, session: AsyncSession = CurrentTransaction()) -> None:
        await enter(session, event.n)

    async def consume(server: RedisServer) -> Consumer:
        consumer = Consumer(ledger, Streams(settings=settings_of(server, app)))
        await consumer.start()
        return consumer

    content = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "10"]
    master = redis_factory(args=[*content, "--repl-diskless-sync-delay", "0"])
    replica = redis_factory()
    async with Proxy("127.0.0.1", master.port) as proxy:
        replica.cli("REPLICAOF", "127.0.0.1", proxy.port)

        def in_step() -> bool:
            return bool(replica.cli("INFO", "replication").get("master_link_status") == "up")

        await wait_until(lambda: asyncio.to_thread(in_step), 20)
        async with Streams(settings=settings_of(master, app)) as streams:
            confirmed = [Noted(n=n) for n in range(BEFORE)]
            await streams.publish_many(confirmed, replicated=True)
            proxy.mode = "stall"
            consumer = await consume(master)
            told = 0
            for n in range(STALLED):
                try:
                    await streams.publish(Noted(n=1000 + n), replicated=n % 10 == 0)
                except NotReplicated:
                    told += 1
            await wait_until(lambda: settled(streams, "ledger"))
            await consumer.stop()
            assert master.cli("INFO", "replication")["connected_slaves"] == 1
            first = await entries(engine)
    assert len(first) == BEFORE + STALLED
    assert told == STALLED // 10
    master.kill()
    replica.cli("REPLICAOF", "NO", "ONE")
    async with Streams(settings=settings_of(replica, app)) as streams:
        there = await streams.redis.xlen(streams.keys.stream("notes"))
        assert there == BEFORE, "what replicas had confirmed is there"
        consumer = await consume(replica)
        await wait_until(lambda: settled(streams, "ledger"))
        (account,) = (await streams.accounts()).groups
        await consumer.stop()
    assert account.acked == BEFORE, "all of it was handled again: its acks were with the dead master"
    assert await entries(engine) == first, "an effect happened twice"
    print(
        f"{BEFORE} replicated: lost 0, handled again {BEFORE}, effects once; {STALLED} others: lost {STALLED}, "
        f"and the {told} that asked for it were told so"
    )
    await engine.dispose()
