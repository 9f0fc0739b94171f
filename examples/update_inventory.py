"""Stock is updated: what can be changed is changed in one transaction, and the rest is named with its reason.

    python -m examples.update_inventory

On an empty database it makes up a business first.
"""

from __future__ import annotations

import asyncio
import sys

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.stage import a_business, follow, on_stage
from processors.shared.database import open_database
from processors.shared.database.tables import products, stock_levels
from schemas import InventoryBulkUpdateRequested, InventoryUpdated
from schemas.inventory import StockChange
from streams import Streams, StreamsError


async def news(engine: AsyncEngine, business_id: int) -> list[StockChange]:
    """What a business has to say of its stock: sold, counted, and two items that cannot be right."""
    async with engine.connect() as connection:
        found = await connection.scalars(
            select(products.c.sku)
            .join(stock_levels, stock_levels.c.product_id == products.c.id)
            .where(products.c.business_id == business_id)
            .order_by(stock_levels.c.quantity.desc())
            .limit(3)
        )
        sold, counted, impossible = found.all()
    return [
        StockChange(sku=sold, delta=-2),
        StockChange(sku=counted, quantity=40),
        StockChange(sku=impossible, delta=-1_000_000),
        StockChange(sku="NO-SUCH-SKU", delta=1),
    ]


async def main() -> None:
    """Publishes the update under the business' key, so that updates of one business are handled in their order."""
    async with open_database() as database, Streams() as streams, on_stage("inventory"):
        business_id = await a_business(database.engine)
        items = await news(database.engine, business_id)
        receipt = await streams.publish(
            InventoryBulkUpdateRequested(business_id=business_id, items=items, reason="example"), key=str(business_id)
        )
        print(f"event {receipt.id} asks for {len(items)} changes of business {business_id}")
        trail = await follow(streams, receipt.id, "inventory")
        for follow_up in trail.follow_ups:
            print(f"  followed by {follow_up.type} {follow_up.id}")
            if follow_up.type == InventoryUpdated.type:
                await show(streams, follow_up.id)


async def show(streams: Streams, id: str) -> None:
    """Prints the outcome of each item."""
    message = (await streams.event(id)).message
    if message is None:
        return
    updated = InventoryUpdated.decode(message.data, message.version)
    for item in updated.changed:
        print(f"    {item.sku}: {item.quantity} ({item.delta:+})")
    for refused in updated.refused:
        print(f"    {refused.sku}: refused, {refused.reason}")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except StreamsError as error:
        sys.exit(f"error: {error}")
