"""PageTransaction: fetches a supplier's page first, and opens the transaction when it is there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from uncalled_for import FailedDependency, resolved_dependencies

from processors.inventory.supplier import Expired, Suppliers, Unchanged, open_suppliers
from processors.inventory.supplier_page import SupplierPage
from processors.inventory.sync import find_sync, is_next, note_failure
from processors.shared.database import Database, open_database
from schemas import InventorySyncPageDue
from streams import DeadLetter, Retry, Shared, Snooze, Unavailable

if TYPE_CHECKING:
    from streams.handlers import Handle
    from streams.messages import Delivery, Message

Fetched = SupplierPage | Unchanged | Expired | None

_fetched: ContextVar[Fetched] = ContextVar("fetched_page")


class PageTransaction:
    """The inbox for `InventorySyncPageDue`. Within a transaction the wait for a supplier would hold a connection and,
    on SQLite, the writes of all others.
    """

    async def run(self, delivery: Delivery, handle: Handle) -> Sequence[Message]:
        """Fetches the page that the sync waits for, for `fetched_page()`, and does as `SqlInbox.run`."""
        async with resolved_dependencies(_needed) as found:
            for dependency in found.values():
                if isinstance(dependency, FailedDependency):
                    raise dependency.error
            database: Database = found["database"]
            message = delivery.message
            event = InventorySyncPageDue.decode(message.data, message.version)
            try:
                token = _fetched.set(await _fetch(database, found["suppliers"], event))
                try:
                    return await database.inbox.run(delivery, handle)
                finally:
                    _fetched.reset(token)
            except (Snooze, Unavailable):
                raise
            except Exception as error:
                await _note(error, event, database)
                raise


def fetched_page() -> Fetched:
    """What was fetched for the delivery that is handled; None when the sync does not wait for that page."""
    return _fetched.get()


async def _fetch(database: Database, suppliers: Suppliers, event: InventorySyncPageDue) -> Fetched:
    async with database.engine.connect() as connection:
        state = await find_sync(connection, event.business_id, event.external_system)
    if state is None or not is_next(state, event):
        return None
    begins, incremental = not state.cursor, state.sync_type == "incremental"
    return await suppliers.fetch(
        event.external_system,
        event.business_id,
        cursor=state.cursor or "",
        since=state.since if incremental else None,
        etag=state.etag if incremental and begins else None,
    )


async def _note(error: Exception, event: InventorySyncPageDue, database: Database) -> None:
    """Notes why the page was not had at this try."""
    ours = f"something went wrong at our side ({type(error).__name__})"
    with suppress(Exception):  # the database may be what is wrong: the error itself is what counts
        await note_failure(database.engine, event, str(error) if isinstance(error, Retry | DeadLetter) else ours)


def _needed(database: Database = Shared(open_database), suppliers: Suppliers = Shared(open_suppliers)) -> None:
    """What `run` needs, in the words of the resolver."""
