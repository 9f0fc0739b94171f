"""Import records: which import an event begins, goes on with or finds done, and what no two processes can both note."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.file import import_record
from processors.file.dialect import Dialect
from processors.file.import_problems import note_problems
from processors.file.import_record import ImportRecord, asked
from processors.shared.database import Database
from processors.shared.database.tables import businesses, import_errors, imports
from processors.shared.storage.file_key import FileKey
from schemas import InventoryImportUploaded
from streams import DeadLetter, Retry, Snooze
from tests.processors.file.conftest import NOW, SHOP

KEY = FileKey.new(SHOP, "csv")
NOTHING: dict[str, Any] = {"refused": 0, "error": "", "error_file": ""}


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Nothing of this is of one kind of database."""
    return f"sqlite:///{tmp_path}/data.db"


@pytest.fixture
async def connection(business: Database) -> AsyncIterator[AsyncConnection]:
    """A transaction in which the business is."""
    async with business.engine.begin() as connection:
        row = {"id": SHOP, "name": "Shop", "currency": "EUR", "created_at": NOW}
        await connection.execute(insert(businesses).values(row))
        yield connection


def uploaded(content: str = "a", **said: Any) -> InventoryImportUploaded:
    """A file of the business with that content."""
    return InventoryImportUploaded(business_id=SHOP, file=KEY, sha256=content * 64, **said)


async def row(connection: AsyncConnection, record: ImportRecord) -> Any:
    """What the database says of an import."""
    return (await connection.execute(select(imports).where(imports.c.id == record.id))).one()


async def ended(
    connection: AsyncConnection, event: InventoryImportUploaded, id: str, place: int, status: str = "done"
) -> ImportRecord:
    """An import that has begun and ended."""
    record = await import_record.begin(connection, event, id, place)
    await import_record.end(connection, record, status, **NOTHING)
    return record


async def age(connection: AsyncConnection, record: ImportRecord, **since: float) -> None:
    """Makes it look as if nothing had happened to an import since then."""
    at = datetime.now(UTC) - timedelta(**since)
    await connection.execute(update(imports).where(imports.c.id == record.id).values(updated_at=at))


async def test_a_new_file_is_a_new_import(connection: AsyncConnection) -> None:
    event = uploaded(name="n" * 255)
    record = await import_record.begin(connection, event, "e1", 7)
    assert (record.status, record.position, record.uploaded, record.is_over) == ("checking", 0, 7, False)
    found = await row(connection, record)
    assert (found.event_id, found.file, found.name, found.uploaded) == ("e1", KEY, "n" * 255, 7)
    assert await import_record.find(connection, record.id) == record
    other = await import_record.begin(connection, uploaded("b"), "e2", 6)
    assert other.id != record.id


async def test_the_same_event_goes_on_where_it_was(connection: AsyncConnection) -> None:
    """However long its id is: the database keeps 128 characters."""
    id = "e" * 200
    record = await import_record.begin(connection, uploaded(), id, 7)
    await import_record.advance(connection, record, position=10, line=4, written=3, refused=1, new=2, changed=1)
    again = await import_record.begin(connection, uploaded(), id, 7)
    assert (again.id, again.position, again.line) == (record.id, 10, 4)
    assert (again.written, again.refused, again.new, again.changed, again.unchanged) == (3, 1, 2, 1, 0)
    await import_record.advance(connection, again, position=20, line=9, written=2, refused=3, new=1, changed=0)
    found = await import_record.find(connection, record.id)
    assert (found.written, found.refused, found.new, found.changed, found.unchanged) == (5, 4, 3, 1, 1)


async def test_the_file_that_was_imported_last_is_not_imported_again(connection: AsyncConnection) -> None:
    """It says what it came to. Asked for again, told other things about it, or after another file, it is imported."""
    first = await ended(connection, uploaded(), "e1", 1)
    same = await import_record.begin(connection, uploaded(), "e2", 2)
    assert (same.id, same.repeated, same.is_over) == (first.id, True, True)
    assert not (await import_record.begin(connection, uploaded(), "e1", 1)).repeated, (
        "its own event has not repeated it"
    )
    told = await ended(connection, uploaded(decimal=","), "e3", 3)
    assert told.id != first.id
    # The newest import is the one with other words: the plain one says again what is there.
    assert not (await ended(connection, uploaded(), "e4", 4)).repeated
    assert not (await ended(connection, uploaded(again=True), "e5", 5)).repeated
    await ended(connection, uploaded("b"), "e6", 6)
    last = await ended(connection, uploaded(), "e7", 7)
    assert not last.repeated
    assert (await import_record.begin(connection, uploaded(), "e8", 8)).repeated
    count = await connection.scalar(select(func.count()).select_from(imports))
    assert count == 6


async def test_a_file_that_is_under_way_for_another_event_is_waited_for(connection: AsyncConnection) -> None:
    """For a minute after its last step; then no process is at it, and the import goes over to the new event."""
    record = await import_record.begin(connection, uploaded(), "e1", 1)
    await age(connection, record, seconds=55)
    with pytest.raises(Snooze, match="another event imports the same file"):
        await import_record.begin(connection, uploaded(), "e2", 2)
    await age(connection, record, seconds=65)
    taken = await import_record.begin(connection, uploaded(), "e2", 2)
    assert (taken.id, taken.event_id) == (record.id, "e2")
    for step in (
        import_record.advance(connection, record, position=1, line=1, written=1, refused=0, new=0, changed=0),
        import_record.check_again(connection, record),
        import_record.end(connection, record, "done", **NOTHING),
    ):
        with pytest.raises(Retry, match="another process has taken this import over"):
            await step
    await import_record.end(connection, taken, "done", **NOTHING)


async def test_an_earlier_upload_comes_first(connection: AsyncConnection) -> None:
    """Unless nothing has happened to it for five minutes, or it is over."""
    first = await import_record.begin(connection, uploaded("a"), "e1", 1)
    with pytest.raises(Snooze, match="has uploaded before"):
        await import_record.begin(connection, uploaded("b"), "e2", 2)
    await age(connection, first, minutes=4.9)
    with pytest.raises(Snooze, match="has uploaded before"):
        await import_record.begin(connection, uploaded("b"), "e2", 2)
    await age(connection, first, minutes=5.1)
    second = await import_record.begin(connection, uploaded("b"), "e2", 2)
    await age(connection, first, minutes=0)
    # It checks still, and the earlier one has come back: it goes first.
    with pytest.raises(Snooze, match="has uploaded before"):
        await import_record.begin(connection, uploaded("b"), "e2", 2)
    await connection.execute(update(imports).where(imports.c.id == second.id).values(status="running"))
    assert (await import_record.begin(connection, uploaded("b"), "e2", 2)).status == "running", "what writes goes on"


async def test_one_that_failed_is_begun_anew_by_another_event(connection: AsyncConnection) -> None:
    """In its place, without its problems and counts; an aborted one likewise."""
    for number, status in enumerate(("failed", "aborted")):
        event = uploaded("ab"[number])
        record = await import_record.begin(connection, event, f"e{number}", number)
        problem = {"line": 3, "row": 3, "field": "sku", "sku": "A", "value": "A", "problem": "no"}
        await note_problems(connection, record.id, [problem])  # type: ignore[list-item]
        await import_record.advance(connection, record, position=9, line=3, written=2, refused=1, new=1, changed=1)
        record.position = 9
        await import_record.end(connection, record, status, refused=1, error="no", error_file="f")
        anew = await import_record.begin(connection, event, f"again{number}", 10 + number)
        assert anew.id == record.id
        found = await row(connection, anew)
        assert (found.status, found.position, found.line, found.rows_done, found.rows_refused) == (
            "checking",
            0,
            0,
            0,
            0,
        )
        assert (found.rows_new, found.rows_changed, found.uploaded, found.error) == (0, 0, 10 + number, None)
        assert (found.error_file, found.finished_at, found.event_id) == (None, None, f"again{number}")
        assert await connection.scalar(select(func.count()).select_from(import_errors)) == 0
        await import_record.end(connection, anew, "done", **NOTHING)


async def test_what_was_given_up_goes_on_where_it_was(connection: AsyncConnection) -> None:
    """By a replay of its dead letter: what ended it was not the file."""
    record = await import_record.begin(connection, uploaded(), "e1", 1)
    await connection.execute(update(imports).values(status="running", position=5))
    given_up = await import_record.fail(connection, "e1", "r" * 1_200)
    assert given_up is not None
    assert (given_up.id, given_up.status, given_up.error) == (record.id, "failed", "r" * 1_000)
    assert (await row(connection, record)).finished_at is not None
    assert await import_record.fail(connection, "e1", "once more") is None
    assert await import_record.fail(connection, "e2", "another") is None
    again = await import_record.begin(connection, uploaded(), "e1", 1)
    assert (again.status, again.position, again.is_over) == ("running", 5, False)
    assert (await row(connection, record)).error is None


async def test_what_never_gets_on_is_given_up(connection: AsyncConnection) -> None:
    """Ten times at one place; every step begins the count anew."""
    record = await import_record.begin(connection, uploaded(), "e1", 1)
    for _ in range(9):
        record = await import_record.begin(connection, uploaded(), "e1", 1)
    with pytest.raises(DeadLetter, match="begun 10 times at byte 0 and never got on"):
        await import_record.begin(connection, uploaded(), "e1", 1)
    await import_record.advance(connection, record, position=8, line=2, written=1, refused=0, new=0, changed=0)
    for _ in range(10):
        await import_record.begin(connection, uploaded(), "e1", 1)
    with pytest.raises(DeadLetter, match="begun 10 times at byte 8"):
        await import_record.begin(connection, uploaded(), "e1", 1)


async def test_a_second_check_keeps_what_is_written(connection: AsyncConnection) -> None:
    """And says that levels of this very upload are left as they are: a sale may have changed them since."""
    record = await import_record.begin(connection, uploaded(), "e1", 7)
    assert record.later == 8
    await import_record.advance(connection, record, position=8, line=2, written=3, refused=0, new=1, changed=1)
    record = await import_record.find(connection, record.id)
    await import_record.check_again(connection, record)
    again = await import_record.find(connection, record.id)
    assert (again.status, again.position, again.line, again.later) == ("checking", 0, 0, 7)
    assert (again.written, again.new, again.changed) == (3, 1, 1)


def test_rows_of_an_import() -> None:
    """What is neither written nor refused is missing; before the rows are counted none is."""
    record = ImportRecord("i", "e", "running", written=5, refused=2, new=1, changed=3)
    assert (record.unchanged, record.missing) == (1, 0)
    record.options["rows"] = 9
    assert record.missing == 2
    assert record.rows_key(SHOP) != ImportRecord("j", "e", "running").rows_key(SHOP)
    assert record.rows_key(SHOP).business_id == SHOP


def test_what_a_sender_says_makes_another_import() -> None:
    """Each word of it; what is not said makes none. The order of mapped columns says nothing."""
    said = [
        uploaded(encoding="cp1252"), uploaded(decimal=","), uploaded(sheet="Stock"), uploaded(location="Ulm"),
        uploaded(map={"sku": "Code"}), uploaded(blank_quantity="zero"),
    ]  # fmt: skip
    assert len({asked(event) for event in said}) == len(said)
    assert "" not in {asked(event) for event in said}
    assert asked(uploaded()) == asked(uploaded("b", name="other.csv")) == ""
    one, other = {"sku": "Code", "quantity": "Zahl"}, {"quantity": "Zahl", "sku": "Code"}
    assert asked(uploaded(map=one)) == asked(uploaded(map=other))


async def test_what_was_checked_is_noted(connection: AsyncConnection) -> None:
    """With the problems of this check in the place of those of an earlier one; rows are counted by their lines."""
    record = await import_record.begin(connection, uploaded(), "e1", 7)
    problem: Any = {"line": 3, "row": 3, "field": "sku", "sku": "A", "value": "A", "problem": "no"}
    await note_problems(connection, record.id, [problem | {"line": 99}])
    problems = [problem, problem | {"field": "quantity"}, problem | {"line": 4}]
    dialect = Dialect("utf-8", ",", "\n", 1, 1, {"sku": 0, "quantity": 1}, ["sku", "quantity"], [1])
    await import_record.checked(connection, record, dialect, rows=5, bytes=123, problems=problems)
    found = await row(connection, record)
    assert (found.status, found.rows_refused, found.rows_done) == ("running", 2, 0)
    options = orjson.loads(found.options)
    assert (options["rows"], options["bytes"], options["dialect"]) == (5, 123, dialect.as_json())
    lines = select(import_errors.c.line).order_by(import_errors.c.line)
    assert list(await connection.scalars(lines)) == [3, 3, 4]
