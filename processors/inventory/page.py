"""Page: what a supplier's system answers, item by item, with what cannot be true left out and named."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from schemas.inventory import MOST_STOCK, Sku, StockRefused

_PLAIN: Final = r"^[^\x00-\x1f\x7f]*$"
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=_PLAIN)]


class SupplierItem(BaseModel):
    """One product as the supplier has it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sku: Sku
    name: Name
    price: Decimal = Field(ge=0, max_digits=12, decimal_places=2, allow_inf_nan=False)
    quantity: int = Field(ge=0, le=MOST_STOCK)


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="ignore")

    items: list[Any]
    next: Annotated[str, Field(min_length=1, max_length=1024, pattern=_PLAIN)] | None = None
    since: Annotated[str, Field(max_length=255, pattern=_PLAIN)] | None = None
    total: int | None = Field(None, ge=0, le=MOST_STOCK)


@dataclass(frozen=True, slots=True)
class Page:
    """A page: `next` is the cursor of the one after it, None on the last; `since` the mark to ask for changes with.

    `count` is how many items the supplier has sent, `refused` those of them that cannot be true.
    """

    items: tuple[SupplierItem, ...]
    refused: tuple[StockRefused, ...]
    count: int
    next: str | None
    since: str | None
    total: int | None
    etag: str | None


def read_page(body: bytes, *, most: int, etag: str | None = None) -> Page:
    """Reads the JSON of a page; raises `ValueError` when it is no page, or has more items than were asked for."""
    envelope = _Envelope.model_validate(from_json(body))
    if len(envelope.items) > most:
        raise ValueError(f"{len(envelope.items)} items where {most} were asked for")
    items: dict[str, SupplierItem] = {}
    twice: set[str] = set()
    refused: list[StockRefused] = []
    for given in envelope.items:
        try:
            item = SupplierItem.model_validate(given)
        except ValidationError:
            refused.append(StockRefused(sku=_label(given), reason="invalid"))
            continue
        if item.sku in items:
            twice.add(item.sku)
        items[item.sku] = item
    refused += [StockRefused(sku=sku, reason="duplicate") for sku in sorted(twice)]  # which one is meant, nobody knows
    return Page(
        items=tuple(item for sku, item in items.items() if sku not in twice),
        refused=tuple(refused),
        count=len(envelope.items),
        next=envelope.next,
        since=envelope.since,
        total=envelope.total,
        etag=etag if etag is not None and len(etag) <= 255 else None,
    )


def _label(given: Any) -> str:
    sku = given.get("sku") if isinstance(given, dict) else None
    return "".join(character for character in str(sku)[:64] if character.isprintable())
