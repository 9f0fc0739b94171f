"""Stock: changes levels, writes the movements, and notices what falls below its threshold, once for each fall.

All of it happens in the caller's transaction. Rows are locked in the order of their products, so that two changes of
the same products wait for each other and never for both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Row, Select, and_, bindparam, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from processors.shared.database.tables import businesses, products, stock_levels, stock_movements
from schemas import StockBelowThreshold
from schemas.inventory import MOST_STOCK, RefusalReason, StockChange, StockChanged, StockRefused

_LONGEST_NAME: Final = 255  # characters, as StockBelowThreshold has them

_LEVEL: Final = (
    products.c.id,
    products.c.business_id,
    products.c.sku,
    products.c.name,
    businesses.c.name.label("business"),
    products.c.threshold,
    stock_levels.c.quantity,
    stock_levels.c.version,
    stock_levels.c.below_since,
)


@dataclass(slots=True)
class Changes:
    """The outcome of the items, and what fell below its threshold through them."""

    changed: list[StockChanged] = field(default_factory=list)
    refused: list[StockRefused] = field(default_factory=list)
    fallen: list[StockBelowThreshold] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check has noted; `more` says that there may be more of it."""

    fallen: list[StockBelowThreshold]
    rearmed: int
    more: bool


async def has_business(session: AsyncSession | AsyncConnection, business_id: int) -> bool:
    """Whether there is a business of that number."""
    found = await session.scalar(select(businesses.c.id).where(businesses.c.id == business_id))
    return found is not None


async def change_stock(
    session: AsyncSession, business_id: int, items: Sequence[StockChange], *, reason: str, reference: str
) -> Changes:
    """Changes what can be changed and refuses the rest, item by item; `reason` and `reference` go to the movements.

    A product without a row in `stock_levels` counts as unknown.
    """
    named = Counter(item.sku for item in items)
    found = await session.execute(
        _levels()
        .where(products.c.business_id == business_id, products.c.sku.in_(named))
        .order_by(products.c.id)
        .with_for_update(of=stock_levels)
    )
    levels = {level.sku: level for level in found}
    changes, now = Changes(), datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    movements: list[dict[str, Any]] = []
    for item in items:
        level = levels.get(item.sku)
        target = _target(item, level.quantity if level is not None else 0)
        problem = "duplicate" if named[item.sku] > 1 else _problem(item, level, target)
        if problem is not None or level is None:
            known = (level.quantity, level.version) if level is not None else (None, None)
            changes.refused.append(
                StockRefused(sku=item.sku, reason=problem or "unknown_sku", quantity=known[0], version=known[1])
            )
            continue
        if target == level.quantity:
            continue
        is_below = target < level.threshold
        if is_below and level.below_since is None:
            changes.fallen.append(_fallen(level, target))
        below_since = (level.below_since or now) if is_below else None
        rows.append({"key": level.id, "target": target, "since": below_since, "now": now})
        delta = target - level.quantity
        movements.append({"product_id": level.id, "delta": delta, "quantity": target, "reason": reason,
                          "reference": reference, "moved_at": now})  # fmt: skip
        changes.changed.append(StockChanged(sku=item.sku, quantity=target, delta=delta, version=level.version + 1))
    if rows:
        connection = await session.connection()
        await connection.execute(
            update(stock_levels)
            .where(stock_levels.c.product_id == bindparam("key"))
            .values(
                quantity=bindparam("target"),
                version=stock_levels.c.version + 1,
                below_since=bindparam("since"),
                updated_at=bindparam("now"),
            ),
            rows,
        )
        await connection.execute(insert(stock_movements), movements)
    return changes


async def check_stock(session: AsyncSession, business_id: int | None, *, most: int) -> Checked:
    """Finds up to `most` levels that are below their threshold without an alert (the threshold was raised, or another
    program wrote to the table), notes that they have one now, and re-arms those that are not below any more.
    """
    below = stock_levels.c.quantity < products.c.threshold
    stale = or_(
        and_(below, stock_levels.c.below_since.is_(None)),
        and_(~below, stock_levels.c.below_since.is_not(None)),
    )
    query = _levels().where(stale).order_by(products.c.id).limit(most).with_for_update(of=stock_levels)
    if business_id is not None:
        query = query.where(products.c.business_id == business_id)
    # A check that waits for a row that another has just noted finds it no longer stale, and leaves it out.
    levels = (await session.execute(query)).all()
    now = datetime.now(UTC)
    rows = [
        {"key": level.id, "since": now if level.quantity < level.threshold else None, "now": now} for level in levels
    ]
    if rows:
        connection = await session.connection()
        await connection.execute(
            update(stock_levels)
            .where(stock_levels.c.product_id == bindparam("key"))
            .values(below_since=bindparam("since"), updated_at=bindparam("now")),
            rows,
        )
    fallen = [_fallen(level, level.quantity) for level in levels if level.quantity < level.threshold]
    return Checked(fallen, len(levels) - len(fallen), len(levels) == most)


def _levels() -> Select[Any]:
    joined = products.join(stock_levels, stock_levels.c.product_id == products.c.id)
    return select(*_LEVEL).select_from(joined.join(businesses, businesses.c.id == products.c.business_id))


def _target(item: StockChange, quantity: int) -> int:
    return item.quantity if item.quantity is not None else quantity + (item.delta or 0)


def _problem(item: StockChange, level: Row[Any] | None, target: int) -> RefusalReason | None:
    if (item.quantity is None) == (item.delta is None):
        return "invalid"
    if level is None:
        return "unknown_sku"
    if item.expected_version not in (None, level.version) or item.expected_quantity not in (None, level.quantity):
        return "conflict"
    if target < 0:
        return "negative"
    return "too_large" if target > MOST_STOCK else None


def _fallen(level: Row[Any], quantity: int) -> StockBelowThreshold:
    return StockBelowThreshold(
        business_id=level.business_id,
        sku=level.sku,
        quantity=quantity,
        threshold=level.threshold,
        name=level.name[:_LONGEST_NAME],
        business=level.business[:_LONGEST_NAME],
    )
