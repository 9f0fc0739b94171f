"""BusinessInbox: the transaction of handlers whose effects are in the business database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from uncalled_for import FailedDependency, resolved_dependencies

from processors.shared.database.database import Database, open_database
from streams import Shared

if TYPE_CHECKING:
    from streams.handlers import Handle
    from streams.messages import Delivery, Message


class BusinessInbox:
    """`Processor("inventory", transaction=BusinessInbox())`: the `SqlInbox` of the configured database.

    It is opened at the first delivery, so that importing a processor reads no settings, and is closed when the consumer
    stops. A handler that asks for `Shared(open_database)` is given the same one.
    """

    async def run(self, delivery: Delivery, handle: Handle) -> Sequence[Message]:
        """As `SqlInbox.run`."""
        async with resolved_dependencies(_needed) as found:
            database: Database | FailedDependency = found["database"]
            if isinstance(database, FailedDependency):
                raise database.error
            return await database.inbox.run(delivery, handle)


def _needed(database: Database = Shared(open_database)) -> None:
    """What `run` needs, in the words of the resolver."""
