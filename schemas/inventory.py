"""Events of the inventory area: changes of stock that are asked for, their outcomes, and stock that runs low."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.requester import Requester
from streams.events.event import Event

MOST_ITEMS: Final = 100
"""Items of one bulk update: one transaction, and one event far below the size cap."""

MOST_STOCK: Final = 1_000_000_000_000
"""More pieces of one product are a mistake; sums of them still fit into 64 bits."""

BusinessId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Sku = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Without control characters: a database may refuse them, and no label has any."""
SystemName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
RefusalReason = Literal["unknown_sku", "duplicate", "conflict", "negative", "too_large", "invalid"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StockChange(_Part):
    """One item of a bulk update: either `quantity`, what shall be there, or `delta`, what comes or goes.

    With both or neither it is refused as `invalid`, by itself: a schema that could say so would be read by few. With
    `expected_version` or `expected_quantity` it is refused as `conflict` if the level is another one by now.
    """

    sku: Sku
    quantity: int | None = Field(None, ge=-MOST_STOCK, le=MOST_STOCK)
    delta: int | None = Field(None, ge=-MOST_STOCK, le=MOST_STOCK)
    expected_version: int | None = Field(None, ge=0)
    expected_quantity: int | None = None


class StockChanged(_Part):
    """A level after its change; `version` is what an optimistic change of it would expect next."""

    sku: Sku
    quantity: int
    delta: int
    version: int


class StockRefused(_Part):
    """An item that was left as it is; `quantity` and `version` are the level's, unless there is none. `problem` says
    what is wrong with one that is `invalid`, and in which field.
    """

    sku: str
    reason: RefusalReason
    quantity: int | None = None
    version: int | None = None
    problem: str = Field("", max_length=200)


class InventorySyncRequested(Event, stream="inventory", version=1):
    """A user wants a business' stock to be read from a supplier's system: what has changed there, or all of it."""

    business_id: BusinessId
    external_system: SystemName
    sync_type: Literal["full", "incremental"] = "incremental"
    user_email: Requester = None


class InventorySyncPageDue(Event, stream="inventory", version=1):
    """The next page of a sync is to be fetched. `sync_id` is the id of the event that asked for the sync."""

    business_id: BusinessId
    external_system: SystemName
    sync_id: str = Field(min_length=1, max_length=128)
    page: int = Field(ge=0)
    user_email: Requester = None


class InventorySynced(Event, stream="inventory", version=1):
    """A sync has reached its last page. `complete` is false when the supplier had announced another number of items:
    then the next incremental sync reads the same changes again.
    """

    business_id: BusinessId
    external_system: SystemName
    sync_type: Literal["full", "incremental"]
    sync_id: str
    pages: int
    items: int
    changed: int
    refused: int
    complete: bool


class InventorySyncFailed(Event, stream="inventory", version=1):
    """A sync has stopped at a page, and does not go on by itself. A new request takes it over, where it was or anew."""

    business_id: BusinessId
    external_system: SystemName
    sync_id: str
    page: int
    problem: str = Field(max_length=500)
    user_email: Requester = None


class InventoryBulkUpdateRequested(Event, stream="inventory", version=1):
    """Up to 100 stock levels of one business are to be changed, in one transaction.

    An item that cannot be changed is refused by itself. A SKU that is named twice is refused each time: which one is
    meant is not ours to say.
    """

    business_id: BusinessId
    items: list[StockChange] = Field(min_length=1, max_length=MOST_ITEMS)
    reason: str = Field("bulk-update", min_length=1, max_length=32)


class InventoryUpdated(Event, stream="inventory", version=1):
    """The outcome of the items of a bulk update, or of a supplier's page (`reason` is `sync`).

    An item that already was as it was asked to be is neither changed nor refused.
    """

    business_id: BusinessId
    reason: str
    changed: list[StockChanged]
    refused: list[StockRefused]


class StockCheckDue(Event, stream="inventory", version=1):
    """A search is due for stock below its threshold that no event has reported; of one business, or of all."""

    business_id: BusinessId | None = None


class StockBelowThreshold(Event, stream="inventory", version=1, priority="high"):
    """The stock of one SKU has fallen below the threshold at which its business wants a message.

    It is published once for each fall, however often the stock is looked at: again only after it was at or above the
    threshold in between. `name` is the product's and `business` the business', for people; either may be empty.
    """

    business_id: int = Field(ge=0)
    sku: str = Field(min_length=1, max_length=64)
    quantity: int
    threshold: int = Field(ge=0)
    name: str = Field("", max_length=255)
    business: str = Field("", max_length=255)
