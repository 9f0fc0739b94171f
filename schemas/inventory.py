"""Events of the inventory area."""

from __future__ import annotations

from pydantic import Field

from schemas.event import Event


class StockBelowThreshold(Event, stream="inventory", version=1):
    """The stock of one SKU has fallen below the threshold at which its business wants to be told."""

    business_id: int = Field(ge=0)
    sku: str = Field(min_length=1, max_length=64)
    quantity: int
    threshold: int = Field(ge=0)
