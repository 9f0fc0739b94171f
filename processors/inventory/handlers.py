"""The inventory processor's handlers and schedules. Each handler is one SQL transaction, and happens once."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from processors.inventory.page_transaction import PageTransaction, fetched_page
from processors.inventory.settings import InventorySettings
from processors.inventory.supplier import Suppliers, open_suppliers
from processors.inventory.sync import begin_sync, note_failure, take_page
from processors.shared.database import BusinessInbox, Database, open_database
from processors.shared.database.stock import change_stock, check_stock, has_business
from processors.shared.failure_notice import noted, reason_of
from schemas import (
    InventoryBulkUpdateRequested,
    InventorySyncFailed,
    InventorySyncPageDue,
    InventorySyncRequested,
    InventoryUpdated,
    StockCheckDue,
)
from streams import Backoff, CurrentDelivery, DeadLetter, DeadLettered, Delivery, Event, Limit, Processor, Shared
from streams.sql import CurrentTransaction

log = structlog.get_logger(__name__)

_CHECKED_AT_ONCE: Final = 500
"""Levels that one delivery of a stock check notes: its follow-ups are published in one script call."""

_PAGES: Final = Limit(rate=10, burst=5, by=lambda event: event.external_system)
"""Ten pages a second from one system, over all processes: a supplier's patience ends before ours."""

inventory = Processor("inventory", transaction=BusinessInbox(), ordered=True)
"""The inventory processor: consumer group `inventory`. Run it with `python -m processors.inventory`.

Events that are published with the business as their `key=` are handled in their order.
"""


@inventory.on(InventoryBulkUpdateRequested)
async def update_in_bulk(
    event: InventoryBulkUpdateRequested,
    session: AsyncSession = CurrentTransaction(),
    delivery: Delivery = CurrentDelivery(),
) -> list[Event]:
    """Changes the levels that can be changed, and says which could not be and why."""
    if not await has_business(session, event.business_id):
        raise DeadLetter(f"there is no business {event.business_id}")
    changes = await change_stock(
        session, event.business_id, event.items, reason=event.reason, reference=delivery.message.id[:128]
    )
    updated = InventoryUpdated(
        business_id=event.business_id, reason=event.reason, changed=changes.changed, refused=changes.refused
    )
    return [updated, *changes.fallen]


@inventory.on(StockCheckDue)
async def check(event: StockCheckDue, session: AsyncSession = CurrentTransaction()) -> list[Event]:
    """Publishes an alert for stock below its threshold that has none yet. A second check finds nothing."""
    noted = await check_stock(session, event.business_id, most=_CHECKED_AT_ONCE)
    log.info("stock.checked", fallen=len(noted.fallen), rearmed=noted.rearmed)
    return [*noted.fallen, event] if noted.more else [*noted.fallen]


@inventory.on(InventorySyncRequested)
async def begin(
    event: InventorySyncRequested,
    session: AsyncSession = CurrentTransaction(),
    suppliers: Suppliers = Shared(open_suppliers),
    delivery: Delivery = CurrentDelivery(),
) -> list[Event]:
    """Begins a sync, unless one of the same business and system is under way; a page at a time follows."""
    if not suppliers.known(event.external_system):
        raise DeadLetter(f"supplier {event.external_system}: not in INVENTORY_SUPPLIERS")
    if not await has_business(session, event.business_id):
        raise DeadLetter(f"there is no business {event.business_id}")
    return await begin_sync(session, event, delivery.message.id[:128])


@inventory.on(
    InventorySyncPageDue,
    transaction=PageTransaction(),
    retry=Backoff(attempts=8, first=2.0, most=300.0),
    timeout=60,
    limit=_PAGES,
)
async def take(
    event: InventorySyncPageDue,
    session: AsyncSession = CurrentTransaction(),
    suppliers: Suppliers = Shared(open_suppliers),
    delivery: Delivery = CurrentDelivery(),
) -> list[Event]:
    """Takes the page that was fetched; its rows and the position of the sync are one commit."""
    fetched = fetched_page()
    if fetched is None:
        log.info("sync.page_not_awaited", business_id=event.business_id, sync_id=event.sync_id, page=event.page)
        return []
    most = suppliers.settings.inventory_pages_most
    return await take_page(session, event, fetched, reference=delivery.message.id[:128], most=most)


@inventory.on_dead_letter(InventorySyncRequested)
async def fail_beginning(
    event: InventorySyncRequested, letter: DeadLettered, delivery: Delivery = CurrentDelivery()
) -> InventorySyncFailed:
    """Says that a sync did not begin."""
    return InventorySyncFailed(
        business_id=event.business_id,
        external_system=event.external_system,
        sync_id=delivery.message.id[:128],
        page=0,
        problem=reason_of(delivery, letter),
        user_email=event.user_email,
    )


@inventory.on_dead_letter(InventorySyncPageDue)
async def fail_sync(
    event: InventorySyncPageDue,
    letter: DeadLettered,
    database: Database = Shared(open_database),
    delivery: Delivery = CurrentDelivery(),
) -> InventorySyncFailed:
    """Notes that a sync has stopped, and says so."""
    reason = reason_of(delivery, letter)
    await noted(note_failure(database.engine, event, reason))
    return InventorySyncFailed(
        business_id=event.business_id,
        external_system=event.external_system,
        sync_id=event.sync_id,
        page=event.page,
        problem=reason,
        user_email=event.user_email,
    )


@inventory.cron("*/15 * * * *")
def stock_check() -> StockCheckDue:
    """A check every quarter of an hour."""
    return StockCheckDue()


@inventory.cron("17 3 * * *")
async def prune_inbox(database: Database = Shared(open_database)) -> None:
    """Removes rows of the SQL inbox that no event can come back to, once a night."""
    days = InventorySettings.load().inventory_inbox_days
    pruned = await database.inbox.prune(timedelta(days=days))
    log.info("inbox.pruned", rows=pruned, days=days)
