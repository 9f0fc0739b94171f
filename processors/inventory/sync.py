"""Sync: how far a business' sync from a supplier's system has come, and what a page changes.

A page's products and stock, and the position after it, are one commit: a sync that is interrupted goes on where it was.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import Row, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from processors.inventory.supplier import Expired, Unchanged
from processors.inventory.supplier_page import SupplierItem, SupplierPage
from processors.shared.database.stock import change_stock
from processors.shared.database.tables import products, stock_levels, sync_states
from processors.shared.database.transaction import in_transaction
from schemas import InventorySynced, InventorySyncPageDue, InventorySyncRequested, InventoryUpdated
from schemas.inventory import StockChange
from streams import DeadLetter, Event

log = structlog.get_logger("processors.inventory")

_STALE: Final = timedelta(minutes=15)
"""After which a sync that does not move is taken over: its page is a dead letter, or was lost with a Redis."""

_NOTHING_YET: Final = {"cursor": "", "marker": "", "next_since": None, "next_etag": None, "pages": 0, "items": 0,
                       "changed": 0, "refused": 0, "error": None}  # fmt: skip


async def find_sync(connection: AsyncConnection | AsyncSession, business_id: int, system: str) -> Row[Any] | None:
    """The state of a business' syncs from a system, None before the first."""
    found = await connection.execute(
        select(sync_states).where(sync_states.c.business_id == business_id, sync_states.c.system == system)
    )
    return found.first()


async def begin_sync(session: AsyncSession, event: InventorySyncRequested, sync_id: str) -> list[Event]:
    """Begins a sync, and returns its first page's event. One that is under way is left alone; one that is stuck is
    taken over: an incremental request goes on where it was, a full one begins anew.
    """
    business_id, system, now = event.business_id, event.external_system, datetime.now(UTC)
    await session.execute(
        _insert(session, sync_states)
        .values(business_id=business_id, system=system, updated_at=now)
        .on_conflict_do_nothing()
    )
    state = await _locked(session, business_id, system)
    page = 0
    if state.sync_id is not None:
        if state.error is None and state.updated_at > now - _STALE:
            log.info("sync.already_running", business_id=business_id, system=system, sync_id=state.sync_id)
            return []
        if event.sync_type == "incremental":
            page = state.pages
    log.info("sync.began", business_id=business_id, system=system, sync_id=sync_id, type=event.sync_type, page=page)
    fresh = {"sync_type": event.sync_type, **_NOTHING_YET} if page == 0 else {"error": None}
    await _move(session, state, sync_id=sync_id, **fresh)
    first = InventorySyncPageDue(
        business_id=business_id, external_system=system, sync_id=sync_id, page=page, user_email=event.user_email
    )
    return [first]


def is_next(state: Row[Any] | None, event: InventorySyncPageDue) -> bool:
    """Whether the page is the one that the sync waits for: not so if it was had, or another sync has taken over."""
    return state is not None and (state.sync_id, state.pages) == (event.sync_id, event.page)


async def note_failure(engine: AsyncEngine, event: InventorySyncPageDue, error: str) -> None:
    """Notes why a page was not had; from then on a new request may take the sync over."""

    async def note(connection: AsyncConnection) -> None:
        await connection.execute(
            update(sync_states)
            .where(
                sync_states.c.business_id == event.business_id,
                sync_states.c.system == event.external_system,
                sync_states.c.sync_id == event.sync_id,
                sync_states.c.pages == event.page,
            )
            .values(error=error[:500], updated_at=datetime.now(UTC))
        )

    await in_transaction(engine, note)


async def take_page(
    session: AsyncSession,
    event: InventorySyncPageDue,
    fetched: SupplierPage | Unchanged | Expired,
    *,
    reference: str,
    most: int,
) -> list[Event]:
    """Takes a page that was fetched for `event`, and returns what follows: what changed, and the next page or the end.

    Raises `DeadLetter` when the supplier goes in circles, or on and on.
    """
    state = await _locked(session, event.business_id, event.external_system)
    if not is_next(state, event):
        log.info("sync.superseded", business_id=event.business_id, sync_id=event.sync_id, page=event.page)
        return []
    if fetched == "unchanged":
        return [await _finish(session, state, event, complete=True, pages=state.pages)]
    if fetched == "expired":
        if state.cursor == "" and (state.since is None or state.sync_type == "full"):
            raise DeadLetter(f"supplier {event.external_system}: 410 to a first page, which cannot have expired")
        # Its cursor or its mark is no more: all of it is read again. Pages go on counting, so that it has an end.
        fresh = {**_NOTHING_YET, "pages": state.pages + 1, "sync_type": "full", "since": None, "etag": None}
        await _move(session, state, **fresh)
        return [event.model_copy(update={"page": event.page + 1})]
    page = fetched
    if page.next is not None and page.next in (state.cursor, state.marker):
        raise DeadLetter(f"supplier {event.external_system}: page {event.page} leads back to one that was before it")
    if page.next is not None and event.page + 1 >= most:
        raise DeadLetter(f"supplier {event.external_system}: more than {most} pages (INVENTORY_PAGES_MOST)")
    await _take_products(session, event.business_id, page.items)
    changes = await change_stock(
        session,
        event.business_id,
        [StockChange(sku=item.sku, quantity=item.quantity) for item in page.items],
        reason="sync",
        reference=reference,
    )
    refused = [*page.refused, *changes.refused]
    follow_ups: list[Event] = [*changes.fallen]
    if changes.changed or refused:
        follow_ups.append(
            InventoryUpdated(business_id=event.business_id, reason="sync", changed=changes.changed, refused=refused)
        )
    first = state.cursor == ""
    moved: dict[str, Any] = {
        "pages": state.pages + 1,
        "items": state.items + page.count,
        "changed": state.changed + len(changes.changed),
        "refused": state.refused + len(refused),
        # The mark and the ETag of the first page: what changes while the others are read is read again next time.
        "next_since": page.since if first else state.next_since,
        "next_etag": page.etag if first else state.next_etag,
        "error": None,
    }
    if page.next is not None:
        # Brent's way to notice a circle of any length with one cursor kept: it is that of the last power of two.
        is_power = (event.page & (event.page + 1)) == 0
        moved |= {"cursor": page.next, "marker": page.next if is_power else state.marker}
        await _move(session, state, **moved)
        return [*follow_ups, event.model_copy(update={"page": event.page + 1})]
    await _move(session, state, **moved)
    state = await _locked(session, event.business_id, event.external_system)
    complete = page.total is None or page.total == state.items
    return [*follow_ups, await _finish(session, state, event, complete=complete, pages=state.pages)]


async def _finish(
    session: AsyncSession, state: Row[Any], event: InventorySyncPageDue, *, complete: bool, pages: int
) -> InventorySynced:
    now = datetime.now(UTC)
    reached = {"since": state.next_since or state.since, "etag": state.next_etag or state.etag, "completed_at": now}
    await _move(session, state, sync_id=None, error=None, **(reached if complete else {}))
    log.info("sync.finished", business_id=event.business_id, system=event.external_system, pages=pages,
             items=state.items, complete=complete)  # fmt: skip
    return InventorySynced(
        business_id=event.business_id,
        external_system=event.external_system,
        sync_type=state.sync_type,
        sync_id=event.sync_id,
        pages=pages,
        items=state.items,
        changed=state.changed,
        refused=state.refused,
        complete=complete,
    )


async def _take_products(session: AsyncSession, business_id: int, items: tuple[SupplierItem, ...]) -> None:
    """Adds the products that are new, without stock yet, and corrects names and prices."""
    if not items:
        return
    known = products.c.business_id == business_id, products.c.sku.in_([item.sku for item in items])
    found = await session.execute(select(products.c.sku, products.c.name, products.c.price).where(*known))
    there = {row.sku: (row.name, row.price) for row in found}
    now = datetime.now(UTC)
    new = [item for item in items if item.sku not in there]
    if new:
        await session.execute(
            _insert(session, products).on_conflict_do_nothing(),
            [{"business_id": business_id, "sku": item.sku, "name": item.name, "price": item.price,
              "created_at": now, "updated_at": now} for item in new],
        )  # fmt: skip
    without_level = (
        select(products.c.id)
        .outerjoin(stock_levels, stock_levels.c.product_id == products.c.id)
        .where(*known, stock_levels.c.product_id.is_(None))
    )
    keys = (await session.scalars(without_level)).all()
    if keys:
        levels = [{"product_id": key, "quantity": 0, "version": 1, "updated_at": now} for key in keys]
        await session.execute(_insert(session, stock_levels).on_conflict_do_nothing(), levels)
    corrected = [
        {"sku_": item.sku, "name_": item.name, "price_": item.price}
        for item in items
        if item.sku in there and there[item.sku] != (item.name, item.price)
    ]
    if corrected:
        connection = await session.connection()
        await connection.execute(
            update(products)
            .where(products.c.business_id == business_id, products.c.sku == bindparam("sku_"))
            .values(name=bindparam("name_"), price=bindparam("price_"), updated_at=now),
            corrected,
        )


async def _locked(session: AsyncSession, business_id: int, system: str) -> Row[Any]:
    found = await session.execute(
        select(sync_states)
        .where(sync_states.c.business_id == business_id, sync_states.c.system == system)
        .with_for_update()
    )
    state = found.first()
    if state is None:
        raise DeadLetter(f"no sync of business {business_id} from {system} was ever begun")
    return state


async def _move(session: AsyncSession, state: Row[Any], **values: Any) -> None:
    await session.execute(
        update(sync_states)
        .where(sync_states.c.business_id == state.business_id, sync_states.c.system == state.system)
        .values(**values, updated_at=datetime.now(UTC))
    )


def _insert(session: AsyncSession, table: Any) -> Any:
    """An INSERT that may leave out what is there already: both databases have it, under names of their own."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    return dialect.insert(table)
