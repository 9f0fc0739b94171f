"""SupplierPage: what a supplier's system answers, item by item, with what cannot be true left out and named."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from schemas.inventory import MOST_STOCK, Sku, StockRefused

_PLAIN: Final = r"^[^\x00-\x1f\x7f]*$"
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=_PLAIN)]


_AROUND: Final = "\u200b\u200c\u200d\u2060\ufeff"
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{0,60})?")
_CENT: Final = Decimal("0.01")


def trimmed(value: Any) -> Any:
    """Text without what cannot be seen at its ends, in one normal form; anything else as it is."""
    if not isinstance(value, str):
        return value
    before = None
    while value != before:
        before, value = value, value.strip().strip(_AROUND)
    return unicodedata.normalize("NFC", value)


def _amount(value: Any) -> Decimal:
    """A number of JSON, or one written in plain digits, to the cent: a program that adds floats writes 0.1 + 0.2 with
    17 digits, and means 0.30.
    """
    number = _number(value)
    with localcontext(prec=120):
        return number.quantize(_CENT, ROUND_HALF_UP)


def _whole(value: Any) -> int:
    number = _number(value)
    if number != number.to_integral_value():
        raise ValueError("is not a whole number")
    return int(number)


def _number(value: Any) -> Decimal:
    if isinstance(value, bool):
        raise ValueError("is true or false, and no number")  # Python counts with them
    if isinstance(value, str):
        text = trimmed(value)
        if not _NUMBER.fullmatch(text):
            raise ValueError("is no number in plain digits")
        return Decimal(text)
    if isinstance(value, float) and (not math.isfinite(value) or abs(value) > 1e30):
        raise ValueError("is no number that can be meant")
    if isinstance(value, int) and abs(value) > 10**30:
        raise ValueError("is too large")
    if not isinstance(value, int | float):
        raise ValueError(f"is {_kind(value)}, and no number")
    return Decimal(str(value))


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "something else")


_KINDS: Final[dict[type, str]] = {
    bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object",
    type(None): "null",
}  # fmt: skip


class SupplierItem(BaseModel):
    """One product as the supplier has it: its texts trimmed, its price to the cent."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sku: Annotated[Sku, BeforeValidator(trimmed)]
    name: Annotated[Name, BeforeValidator(trimmed)]
    price: Annotated[Decimal, BeforeValidator(_amount), Field(ge=0, max_digits=12, decimal_places=2)]
    quantity: Annotated[int, BeforeValidator(_whole), Field(ge=0, le=MOST_STOCK)]


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="ignore")

    items: list[Any]
    next: Annotated[str, Field(min_length=1, max_length=1024, pattern=_PLAIN)] | None = None
    since: Annotated[str, Field(max_length=255, pattern=_PLAIN)] | None = None
    total: Annotated[int, BeforeValidator(_whole), Field(ge=0, le=MOST_STOCK)] | None = None


@dataclass(frozen=True, slots=True)
class SupplierPage:
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


def read_supplier_page(body: bytes, *, most: int, etag: str | None = None) -> SupplierPage:
    """Reads the JSON of a page; raises `ValueError`, in words, when it is no page, or has more items than were asked
    for. A byte order mark before it does no harm.
    """
    envelope = _envelope(body)
    if len(envelope.items) > most:
        raise ValueError(f"{len(envelope.items)} items where {most} were asked for")
    items: dict[str, SupplierItem] = {}
    twice: set[str] = set()
    refused: list[StockRefused] = []
    for given in envelope.items:
        try:
            item = SupplierItem.model_validate(given)
        except ValidationError as error:
            problem = in_words(error) if isinstance(given, dict) else f"is {_kind(given)}, and no object"
            refused.append(StockRefused(sku=_label(given), reason="invalid", problem=problem[:200]))
            continue
        if item.sku in items:
            twice.add(item.sku)
        items[item.sku] = item
    refused += [StockRefused(sku=sku, reason="duplicate") for sku in sorted(twice)]  # which one is meant is unknown
    return SupplierPage(
        items=tuple(item for sku, item in items.items() if sku not in twice),
        refused=tuple(refused),
        count=len(envelope.items),
        next=envelope.next,
        since=envelope.since,
        total=envelope.total,
        etag=etag if etag is not None and len(etag) <= 255 else None,
    )


def _envelope(body: bytes) -> _Envelope:
    try:
        given = from_json(body.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise ValueError(f"it is no JSON ({error})") from None
    if not isinstance(given, dict):
        raise ValueError(f"it is {_kind(given)}, and must be an object with items")
    if "items" not in given:
        names = ", ".join(_plain(str(name), 40) for name in list(given)[:5])
        raise ValueError(f"it has no items; it has {names or 'nothing'}")
    try:
        return _Envelope.model_validate(given)
    except ValidationError as error:
        raise ValueError(in_words(error)) from None


def in_words(error: ValidationError) -> str:
    """What is wrong with each field, the first three of them: `price: is missing; quantity: is not a whole number`."""
    parts = []
    for each in error.errors(include_url=False, include_context=True)[:3]:
        field = ".".join(str(part) for part in each["loc"] if isinstance(part, str))
        parts.append(f"{field}: {_text_of(each)}")
    return "; ".join(parts)


def _text_of(error: Any) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "is missing"
        case "string_type":
            return f"is {_kind(error['input'])}, and must be text"
        case "list_type":
            return f"is {_kind(error['input'])}, and must be a list"
        case "string_too_short":
            return "is empty"
        case "string_too_long":
            return f"has more than {context['max_length']} letters"
        case "string_pattern_mismatch":
            return "has a control character"
        case "greater_than_equal":
            return f"is less than {context['ge']}"
        case "less_than_equal":
            return f"is more than {context['le']:,}"
        case "decimal_max_digits" | "decimal_whole_digits":
            return "is too large"
        case "value_error":
            return str(context["error"])
        case _:
            return str(error["msg"])


def _plain(text: str, most: int) -> str:
    return "".join(character for character in text[:most] if character.isprintable())


def _label(given: Any) -> str:
    sku = given.get("sku") if isinstance(given, dict) else None
    return _plain(str(trimmed(sku)), 64)
