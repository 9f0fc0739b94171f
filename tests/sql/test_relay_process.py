"""`python -m streams.sql.relay`: how it ends, and what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import func, select

from streams.sql import Outbox, create_tables, make_engine
from streams.sql.relay import main
from streams.sql.tables import outbox
from tests.conftest import RedisFactory
from tests.support.events import Noted

pytestmark = pytest.mark.newest_redis


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, streams_env: Mapping[str, str]) -> pytest.MonkeyPatch:
    """The environment of a relay, for this process."""
    for name in ("REDIS_URL", "QUEUE_PREFIX", "STREAMS_PARTITIONS"):
        monkeypatch.setenv(name, streams_env[name])
    monkeypatch.setenv("DATABASE_URL", "sqlite://")
    return monkeypatch


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"DATABASE_URL": "nonsense"}, "database URL"),
        ({"REDIS_URL": "http://h"}, "use redis://"),
        ({"STREAMS_LEASE": "soon"}, "lease"),
    ],
)
def test_a_wrong_setting_ends_it_with_2(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: dict[str, str], said: str
) -> None:
    """In one line that names it."""
    for name, value in settings.items():
        environment.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    line = err.splitlines()[-1]
    assert (out, line.startswith("error: ")) == ("", True)
    assert said.lower() in line.lower()


def test_an_unsafe_redis_ends_it_with_78(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], redis_factory: RedisFactory, tmp_path: Path
) -> None:
    """It would lose what is committed; the row stays where it is."""
    url = f"sqlite:///{tmp_path}/outbox.db"

    async def fill() -> None:
        engine = make_engine(url)
        await create_tables(engine)
        async with engine.begin() as connection:
            await Outbox().publish(connection, Noted(n=1))
        await engine.dispose()

    async def left() -> int:
        engine = make_engine(url)
        async with engine.connect() as connection:
            count = await connection.scalar(select(func.count()).select_from(outbox))
        await engine.dispose()
        return int(count or 0)

    asyncio.run(fill())
    server = redis_factory(args=["--maxmemory-policy", "allkeys-lru"])
    environment.setenv("REDIS_URL", server.url)
    environment.setenv("DATABASE_URL", url)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 78
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    assert asyncio.run(left()) == 1
