"""Kill points of the processors: an import, an export or a mail whose process died is ended by its successor."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import func, select

from examples.fakes.mail_server import MailServer
from processors.shared.database import Database
from processors.shared.database.tables import stock_movements
from processors.shared.storage import Storages
from processors.shared.storage.file_key import FileKey
from schemas import (
    InventoryExported,
    InventoryExportRequested,
    InventoryImported,
    ReportGenerated,
    ReportRequested,
    UserRegistered,
)
from streams import Streams
from tests.faults.conftest import ROOT
from tests.faults.test_points import Lives
from tests.processors.file.conftest import SHOP, levels, published, put, shop, storages
from tests.processors.shared.database.conftest import business
from tests.sql.conftest import database_url, postgres, postgres_url
from tests.support.programs.processor_points import POINTS
from tests.support.waiting import wait_until

__all__ = ["business", "database_url", "postgres", "postgres_url", "shop", "storages"]

pytestmark = pytest.mark.timeout(240)

ROWS, CHUNK, MAILS = 40, 10, 3


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[MailServer]:
    """The mail server."""
    with MailServer(tmp_path / "mails") as sink:
        yield sink


@pytest.fixture
def ambiguous(request: pytest.FixtureRequest) -> str:
    """What becomes of a mail of which nobody knows whether it was sent."""
    return getattr(request, "param", "resend")


@pytest.fixture
def environment(
    database_url: str, tmp_path: Path, sink: MailServer, ambiguous: str, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, str]:
    """What the processors read, and this process to set up what they work on."""
    (tmp_path / "temporary").mkdir()
    values = {
        "STREAMS_HOME": str(tmp_path / "home"), "FILE_CHUNK_ROWS": str(CHUNK), "DATABASE_URL": database_url,
        "TMPDIR": str(tmp_path / "temporary"), "EMAIL_AMBIGUOUS": ambiguous,
        "SMTP_URL": f"smtp://127.0.0.1:{sink.port}", "EMAIL_FROM": "bord@example.com", "OTEL_SDK_DISABLED": "true",
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def lives(streams_env: Mapping[str, str], environment: Mapping[str, str], tmp_path: Path) -> Iterator[Lives]:
    settings = {"STREAMS_LEASE": "0.5", "PYTHONPATH": str(ROOT), "LOG_LEVEL": "ERROR", "POLARS_MAX_THREADS": "1"}
    made = Lives({**streams_env, **environment, **settings}, tmp_path, "tests.support.programs.processor_points")
    yield made
    made.end()


class World:
    """What the processors work on, and what must have become of it."""

    def __init__(self, streams: Streams, shop: Database, storages: Storages, sink: MailServer) -> None:
        self.streams, self.shop, self.storages, self.sink = streams, shop, storages, sink
        self.expected: dict[str, int] = {}
        self.imports = self.exports = self.reports = self.mails = 0

    async def ask(self, point: str) -> None:
        """Gives the processor of a point something to do."""
        match point.partition(":")[0]:
            case "import":
                stock = {f"S{self.imports}-{n:03d}": n + 1 for n in range(ROWS)}
                lines = ["sku,quantity,name", *(f"{sku},{quantity},A thing" for sku, quantity in stock.items())]
                await self.streams.publish(await put(self.storages, "\n".join(lines).encode()))
                self.expected |= stock
                self.imports += 1
            case "export":
                await self.streams.publish(InventoryExportRequested(business_id=SHOP, format="csv"))
                self.exports += 1
            case "report":
                await self.streams.publish(
                    ReportRequested(
                        business_id=SHOP, report_type="inventory-summary", format="csv", user_email="ada@example.com"
                    )
                )
                self.reports += 1
            case _:
                for n in range(self.mails, self.mails + MAILS):
                    await self.streams.publish(UserRegistered(user_id=n, email=f"u{n}@example.com", name=f"U {n}"))
                self.mails += MAILS

    async def is_done(self) -> bool:
        """Whether it is all done."""
        streams = self.streams
        for stream, group in (("files", "file"), ("reports", "report"), ("users", "email")):
            for key in (*streams.keys.by_priority(stream), streams.keys.inbox(group)):
                for info in await streams.redis.xinfo_groups(key) if await streams.redis.exists(key) else []:
                    if info["name"] == group.encode() and (info["pending"] or info["lag"]):
                        return False
        return not await streams.redis.zcard(streams.keys.due())

    async def check(self, point: str) -> None:
        """Whether it was done once."""
        assert await levels(self.shop) == self.expected, point
        async with self.shop.engine.connect() as connection:
            moved = await connection.scalar(select(func.count()).select_from(stock_movements))
        assert moved == len(self.expected), point
        assert len(await published(self.streams, InventoryImported)) == self.imports, point
        exported = await published(self.streams, InventoryExported)
        assert len(exported) == self.exports, point
        files = [found async for found in self.storages.exports.ls()]
        assert len(files) == self.exports, f"{point}: a file that nobody knows of, or one too few"
        for found in files:
            lines = b"".join([block async for block in self.storages.exports.read(found.key)]).splitlines()
            assert (len(lines) - 1) % ROWS == 0, f"{point}: half an export under its name"
        assert len(await published(self.streams, ReportGenerated, "reports")) == self.reports, point
        assert len([found async for found in self.storages.reports.ls()]) == self.reports, point
        ids = Counter(line["message_id"] for line in self.sink.events("accepted"))
        ids = Counter({id: count for id, count in ids.items() if ".welcome@" in id})  # reports are written of too
        assert len(ids) == self.mails, point
        assert max(ids.values(), default=0) <= 2, point
        for group in ("file", "report", "email"):
            assert not await self.streams.redis.xlen(self.streams.keys.dead(group)), point


async def sweep(world: World, lives: Lives, seed: int, most: int = len(POINTS)) -> None:
    """Every point (or so many of them), in an order of the seed; an import first: then there is something to tell."""
    dice = random.Random(seed)
    first = dice.choice(sorted(point for point in POINTS if point.startswith("import")))
    points = [first, *dice.sample(sorted(set(POINTS) - {first}), most - 1)]
    for point in points:
        await world.ask(point)
        assert lives.ask(f"first {point}") == -9, point
        successor = lives.ask(f"successor {point}")
        await wait_until(world.is_done, 20, f"all is done after {point!r}")
        assert lives.ask(f"end {successor}") == 0, point
        await world.check(point)
    drafts = [path.name for path in (world.storages.exports.directory or Path()).glob("*/*#*")]
    assert all(FileKey.checked(f"{SHOP}/{name.partition('#')[0]}") for name in drafts)
    sent = [line for line in world.sink.events("accepted") if ".welcome@" in line["message_id"]]
    print(
        f"seed {seed}: {len(points)} points; {world.imports} imports of {ROWS} rows once, {world.exports} exports and "
        f"{world.reports} reports whole, {world.mails} mails and {len(sent) - world.mails} second copies with the same "
        f"Message-ID, {len(drafts)} draft(s) left"
    )


@pytest.mark.newest_redis
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_death_at_some_points_of_the_processors(
    streams: Streams, shop: Database, storages: Storages, sink: MailServer, lives: Lives, request: pytest.FixtureRequest
) -> None:
    """Three of them, by the seed of the run."""
    await sweep(World(streams, shop, storages, sink), lives, request.config.getoption("randomly_seed", 0), 3)


@pytest.mark.newest_redis
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("ambiguous", ["hold"], indirect=True)
async def test_a_death_after_the_content_is_no_second_mail_where_it_is_held(
    streams: Streams, shop: Database, storages: Storages, sink: MailServer, lives: Lives
) -> None:
    """Whatever was under way is with the server once, or nowhere, and then it is a dead letter for somebody to see."""
    world, point = World(streams, shop, storages, sink), "mail: the server has the content"
    await world.ask(point)
    assert lives.ask(f"first {point}") == -9
    successor = lives.ask(f"successor {point}")
    await wait_until(world.is_done, 20)
    assert lives.ask(f"end {successor}") == 0
    sent = Counter(line["message_id"] for line in sink.events("accepted"))
    held = [letter async for letter in streams.dead_letters("email").ls()]
    assert max(sent.values()) == 1, "a held mail was sent again"
    assert held, "a death after the content is a doubt"
    assert len(sent) + len(held) >= MAILS


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_death_at_every_point_of_the_processors(
    streams: Streams, shop: Database, storages: Storages, sink: MailServer, lives: Lives, seed: int
) -> None:
    """On each Redis, and on both databases."""
    await sweep(World(streams, shop, storages, sink), lives, seed)
