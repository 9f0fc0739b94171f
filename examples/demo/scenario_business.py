"""BusinessScenario: the second part: a stock list, sales, a supplier, a report, an export, and schedules."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.message import Message
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar

import httpx
import orjson

from processors.file import store_upload
from processors.shared.database import Database
from processors.shared.storage import Area, Storages, StorageSettings
from processors.shared.storage.file_name import safe_file_name
from schemas import (
    InventoryBulkUpdateRequested,
    InventoryExported,
    InventoryExportRequested,
    InventoryImported,
    InventorySynced,
    InventorySyncRequested,
    InventoryUpdated,
    ReportGenerated,
    ReportRequested,
    StockBelowThreshold,
    StockCheckDue,
)
from schemas.inventory import StockChange
from streams import Event, Streams
from streams.events import registered
from streams.messages.event_ids import made_at
from streams.messages.message import decode
from streams.redis import Entries

from . import ticking
from .check import NotInTime
from .child_process import ChildProcess
from .display import Display
from .environment import SUPPLIED, SUPPLIER, Environment
from .events import ALAN, GRACE
from .results import Results
from .stock_list import BUSINESS, NEW, ROWS, WRONG, StockList, stock, write_list
from .watch import Watch

_E = TypeVar("_E", bound=Event)

_LIST: Final = "Bestand November.csv"
_TICKS: Final = 3
_BY_HAND: Final = ("file.exports_cleanup", "inventory.prune_inbox", "inventory.stock_check", "report.reports_cleanup")
"""The maintenance that else comes at night, or every quarter of an hour."""


class BusinessScenario:
    """Runs the steps in an environment that has been started, publishing through `streams`."""

    def __init__(
        self,
        environment: Environment,
        streams: Streams,
        display: Display,
        look: Watch,
        results: Results,
        seed: ChildProcess,
    ) -> None:
        self._environment = environment
        self._streams = streams
        self._display = display
        self._look = look
        self._results = results
        self._seed = seed  # fills the database while the first part plays
        self._http = httpx.AsyncClient(trust_env=False)

    async def run(self) -> None:
        """All steps. Raises `NotInTime` when one of them does not get where it must."""
        database = Database()
        try:
            await self._the_business_opens()
            goods = await self._a_list_is_uploaded(database)
            await self._goods_are_sold(database, goods)
            await self._the_supplier_is_read()
            await self._a_report_is_made()
            await self._an_export_is_fetched()
            await self._schedules_fire()
        finally:
            await self._http.aclose()
            await database.aclose()

    async def _the_business_opens(self) -> None:
        self._display.step("A business opens: a database, a supplier, three more processors")
        seed = self._seed
        await self._look.until("the history to be made up", lambda: seed.returncode == 0)
        self._display.say(seed.out.read_text(encoding="utf-8").strip())
        for name in ("inventory", "file", "report"):
            self._environment.start_processor(name)
        for name in ("inventory", "file", "report"):
            await self._look.until(f"the {name} processor", partial(self._look.alive, 1, name))
        self._display.say("inventory-1, file-1 and report-1 are at work, email-2 and email-3 still are")

    async def _a_list_is_uploaded(self, database: Database) -> StockList:
        self._display.step("A stock list is uploaded; three of its rows are wrong")
        goods = await write_list(database.engine)
        storages = Storages(StorageSettings.load())
        uploaded = await store_upload(_bytes(goods.text), BUSINESS, storages, name=_LIST, user_email=GRACE)
        upload = await self._publish("upload", uploaded, key=str(BUSINESS))
        self._display.say(f"{_LIST}: {ROWS + 1} rows, separated by semicolons, in cp1252, with German headings")
        family = await self._done("the import, and all that follows", upload)
        (imported,) = _of(family, InventoryImported)
        self._display.say(f"{imported.written} rows written, {imported.refused} refused; a mail says so", "green")
        found = await stock(database.engine, list(goods.expected))
        self._results.check(
            "the right rows are in stock, the wrong ones are as they were",
            (imported.rows, imported.refused) == (ROWS + 1, len(WRONG)) and found == goods.expected,
            f"{len(found)} SKUs asked of the database, one of them new ({NEW})",
        )
        report = await self._fetch("the list of wrong rows", "exports", imported.errors_file, "import-errors.csv")
        lines = report.decode("utf-8-sig").splitlines()[1:]
        named = [int(line.split(";")[1].strip('"')) for line in lines]  # row;line;sku;..., as the list was written
        self._results.check("its report names the wrong lines", named == goods.wrong_lines, f"lines {named}")
        fallen = {event.sku for event in _of(family, StockBelowThreshold)}
        alerts = [id for id, event in family if isinstance(event, StockBelowThreshold)]
        self._display.say(f"{goods.low} has fallen below its threshold: {len(alerts)} alerts, for products without one")
        self._results.check(
            "the upload led to mails: its result, and low stock",
            goods.low in fallen and all(self._environment.mail_log.mails[id] == 1 for id in alerts),
            f"{len(alerts)} alerts mailed",
        )
        self._results.mailed["the import"] = _id(family, InventoryImported)
        self._results.mailed[f"{goods.low} is low"] = next(
            id for id, event in family if isinstance(event, StockBelowThreshold) and event.sku == goods.low
        )
        return goods

    async def _goods_are_sold(self, database: Database, goods: StockList) -> None:
        self._display.step("Goods are sold, some of them twice")
        sku, before = goods.steady, goods.expected[goods.steady]
        items = [StockChange(sku=sku, quantity=1), StockChange(sku=NEW, delta=-6)]
        update = InventoryBulkUpdateRequested(business_id=BUSINESS, items=items, reason="sale")
        family = await self._done("the sale", await self._publish("sale", update, key=str(BUSINESS)))
        (updated,) = _of(family, InventoryUpdated)
        alerts = [id for id, event in family if isinstance(event, StockBelowThreshold)]
        self._display.say(f"{sku}: {before} -> 1, an alert is mailed; {NEW}: six of five are refused (negative)")
        self._results.check(
            "stock falls once for a sale, never below zero, and the alert is mailed once",
            await stock(database.engine, [sku, NEW]) == {sku: 1, NEW: 5}
            and [item.reason for item in updated.refused] == ["negative"]
            and [self._environment.mail_log.look().mails[id] for id in alerts] == [1],
            f"{len(alerts)} alert",
        )

    async def _the_supplier_is_read(self) -> None:
        self._display.step("The supplier's system is read, although it is busy at first")
        faults = self._environment.supplier_url.replace("/items", "/faults")
        await self._http.post(faults, json={"kind": "busy", "times": 1, "after": "1"})
        wanted = InventorySyncRequested(business_id=2, external_system=SUPPLIER, sync_type="full")
        family = await self._done("the sync", await self._publish("sync", wanted, key="2"))
        (synced,) = _of(family, InventorySynced)
        self._display.say(f"429, asked to come back in 1 s; then {synced.items} items in {synced.pages} pages", "green")
        self._results.check(
            "all of the supplier's items were taken",
            (synced.items, synced.refused, synced.complete) == (SUPPLIED, 0, True),
            f"{synced.items} items in {synced.pages} pages, none refused",
        )

    async def _a_report_is_made(self) -> None:
        self._display.step("A sales report is made and mailed")
        wanted = ReportRequested(business_id=BUSINESS, report_type="sales-analysis", format="html", user_email=ALAN)
        family = await self._done("the report", await self._publish("report", wanted))
        (generated,) = _of(family, ReportGenerated)
        id = self._results.mailed["the report"] = _id(family, ReportGenerated)
        content = await self._fetch("the report", "reports", generated.file, generated.file_name)
        self._display.say(f"{generated.title}: {len(content):,} bytes of HTML with its charts, and a mail", "green")
        self._results.check(
            "the report is behind its link, and the link was mailed",
            b"<svg" in content and content.rstrip().endswith(b"</html>") and self._environment.mail_log.mails[id] == 1,
            f"{len(content):,} bytes, {self._environment.mail_log.mails[id]} mail",
        )

    async def _an_export_is_fetched(self) -> None:
        self._display.step("The stock is exported, and fetched through its link")
        wanted = InventoryExportRequested(business_id=BUSINESS, format="parquet", user_email=GRACE)
        family = await self._done("the export", await self._publish("export", wanted))
        (exported,) = _of(family, InventoryExported)
        self._results.mailed["the export"] = _id(family, InventoryExported)
        content = await self._fetch("the export", "exports", exported.file, exported.file_name)
        rows = await asyncio.to_thread(_rows, content)
        self._display.say(f"{exported.rows} products, {len(content):,} bytes of Parquet; the link is mailed", "green")
        self._results.check(
            "the file behind the link is whole",
            (len(content), rows) == (exported.bytes, exported.rows) and rows > ROWS,
            f"{rows} rows read from it by another reader",
        )

    async def _schedules_fire(self) -> None:
        self._display.step("Schedules fire")
        ticker = self._environment.start_helper("ticking", ticking.__name__, [])
        for name in _BY_HAND:
            await self._streams.schedules.run(name)
        self._display.say(f"run by hand: {', '.join(_BY_HAND)}")
        await self._look.until(f"{_TICKS} seconds' schedules", lambda: self._ticked(_TICKS))
        states = {state.name: state for state in await self._streams.schedules.ls()}
        ticker.terminate()
        await self._look.until("the ticking to end", lambda: ticker.returncode == 0)
        slots = await self._slots()
        seconds = sorted(slots)
        self._display.say(f"ticking.tick fired {len(slots)} times, once a second", "green")
        self._results.check(
            "each second had its slot, and each slot one event",
            set(slots.values()) == {1} and seconds == list(range(seconds[0], seconds[-1] + 1)),
            f"{len(slots)} seconds, {sum(slots.values())} events",
        )
        ran = [name for name in _BY_HAND if name in states]
        self._results.check("the maintenance can be run by hand", len(ran) == len(_BY_HAND), ", ".join(ran))

    async def _publish(self, name: str, event: Event, *, key: str = "") -> str:
        receipt = await self._streams.publish(event, key=key)
        self._results.business[name] = receipt.id
        return receipt.id

    async def _done(self, what: str, id: str) -> list[tuple[str, Event]]:
        """An event and all that followed from it, when every group has finished all of it."""
        await self._look.until(what, lambda: self._look.through(id))
        self._environment.mail_log.look()
        family = []
        for trail in await self._look.family(id):
            kind = registered(trail.message.type) if trail.message is not None else None
            if trail.message is not None and kind is not None:
                family.append((trail.id, kind.model_validate_json(trail.message.data)))
        return family

    async def _fetch(self, name: str, area: Area, file: str | None, file_name: str) -> bytes:
        """What is behind the link to a file, fetched as its user would; raises `NotInTime` when that is nothing."""
        if file is None:
            raise NotInTime(f"{name} has no file")
        settings = StorageSettings.load().model_copy(
            update={"links_url": f"http://127.0.0.1:{self._environment.links_port}"}
        )
        url = await Storages(settings).link(area, file, file_name, made_at=datetime.now(UTC))
        answer = await self._http.get(url)
        if answer.status_code != HTTPStatus.OK:
            raise NotInTime(f"{name}: its link answers {answer.status_code}")
        said = Message()
        said["content-disposition"] = answer.headers.get("content-disposition", "")
        saved = self._environment.downloads / safe_file_name(said.get_filename() or "", f"{name}.bin")
        self._environment.downloads.mkdir(mode=0o700, exist_ok=True)
        saved.write_bytes(answer.content)
        self._results.files[name] = saved
        self._results.links[name] = url
        return answer.content

    async def _slots(self) -> Counter[int]:
        """How many events each second has, of the schedule of every second."""
        found: Counter[int] = Counter()
        async for entry in Entries(self._streams).forward(self._streams.keys.stream(StockCheckDue.stream)):
            message = decode(entry)
            if message.type == StockCheckDue.type and orjson.loads(message.data)["business_id"] == ticking.BUSINESS:
                found[made_at(message.id) // 1000] += 1
        return found

    async def _ticked(self, times: int) -> bool:
        return len(await self._slots()) >= times


async def _bytes(text: str) -> AsyncIterator[bytes]:
    yield text.encode("cp1252")  # as a spreadsheet on Windows writes it


def _of(family: list[tuple[str, Event]], kind: type[_E]) -> list[_E]:
    return [event for _, event in family if isinstance(event, kind)]


def _id(family: list[tuple[str, Event]], kind: type[Event]) -> str:
    return next(id for id, event in family if isinstance(event, kind))


def _rows(parquet: bytes) -> int:
    import polars as pl

    return pl.read_parquet(io.BytesIO(parquet)).height
