"""What a supplier's page may hold: numbers that are numbers, prices to the cent, texts trimmed, and faults in words."""

from __future__ import annotations

import json
import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.inventory.supplier_page import SupplierPage, read_supplier_page


def page(*items: Any, **more: Any) -> SupplierPage:
    """A page of items as JSON writes them."""
    return read_supplier_page(json.dumps({"items": list(items), **more}).encode(), most=100)


def item(**given: Any) -> dict[str, Any]:
    """An item that is right, but for what is given."""
    return {"sku": "A-1", "name": "Screw", "price": 1.5, "quantity": 4, **given}


@pytest.mark.parametrize(
    ("price", "cents"),
    [
        (19.989999999999998, "19.99"), (0.1 + 0.2, "0.30"), ("19.989999999999998", "19.99"), (12, "12.00"),
        (2.675, "2.68"),
        ("0012.5", "12.50"), ("0." + "0" * 60, "0.00"), (" 3.10 ", "3.10"), (0.005, "0.01"),
        ("9999999999.99", "9999999999.99"),
    ],
)  # fmt: skip
def test_a_price_is_rounded_and_its_stock_counts(price: Any, cents: str) -> None:
    (found,) = page(item(price=price)).items
    assert (str(found.price), found.quantity) == (cents, 4)


@settings(deadline=None, max_examples=300)
@given(st.floats(min_value=0, max_value=9_999_999_999, allow_nan=False))
def test_every_float_of_json_is_the_price_that_it_shows(price: float) -> None:
    (found,) = page(item(price=price)).items
    assert found.price == Decimal(repr(price)).quantize(Decimal("0.01"), ROUND_HALF_UP)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"quantity": True}, "quantity: is true or false, and no number"),
        ({"quantity": False}, "quantity: is true or false, and no number"),
        ({"price": True}, "price: is true or false, and no number"),
        ({"quantity": 1.5}, "quantity: is not a whole number"),
        ({"quantity": "\uff11\uff12"}, "quantity: is no number in plain digits"),
        ({"quantity": "1_000"}, "quantity: is no number in plain digits"),
        ({"quantity": None}, "quantity: is null, and no number"),
        ({"quantity": [3]}, "quantity: is a list, and no number"),
        ({"quantity": -1}, "quantity: is less than 0"),
        ({"quantity": 10**13}, "quantity: is more than 1,000,000,000,000"),
        ({"quantity": 10**400}, "quantity: is too large"),
        ({"price": "12,50"}, "price: is no number in plain digits"),
        ({"price": "0." + "0" * 100_000}, "price: is no number in plain digits"),
        ({"price": "1e2"}, "price: is no number in plain digits"),
        ({"price": 10**10}, "price: is too large"),
        ({"price": float("nan")}, "price: is no number that can be meant"),
        ({"name": " \u200b "}, "name: is empty"),
        ({"name": 7}, "name: is a number, and must be text"),
        ({"name": "a\x00b"}, "name: has a control character"),
        ({"sku": "x" * 65}, "sku: has more than 64 letters"),
        ({"sku": None}, "sku: is null, and must be text"),
    ],
)
def test_an_item_that_cannot_be_true_is_refused_with_its_field(wrong: dict[str, Any], problem: str) -> None:
    """And the next one counts."""
    found = page(item(**wrong), item(sku="B"))
    assert [(each.reason, each.problem) for each in found.refused] == [("invalid", problem)]
    assert [each.sku for each in found.items] == ["B"]


def test_fields_that_are_missing_are_all_named() -> None:
    found = page({"sku": "A"}, 7)
    assert [each.problem for each in found.refused] == [
        "name: is missing; price: is missing; quantity: is missing", "is a number, and no object",
    ]  # fmt: skip


def test_texts_are_trimmed_and_in_one_form() -> None:
    """So that a SKU is the one that an import has written."""
    found = page(item(sku=" \u00a0S14\u200b ", name="\ufeff  Screw\t"), item(sku="MU\u0308-1"), item(sku="S14"))
    assert [(each.sku, each.name) for each in found.items] == [("M\u00dc-1", "Screw")]
    assert [(each.sku, each.reason) for each in found.refused] == [("S14", "duplicate")]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"items": [], "next": 2}', "next: is a number, and must be text"),
        (b'{"items": [], "next": ""}', "next: is empty"),
        (b'{"items": [], "since": 17}', "since: is a number, and must be text"),
        (b'{"items": [], "total": true}', "total: is true or false, and no number"),
        (b'{"items": [], "total": -1}', "total: is less than 0"),
        (b'{"items": {}}', "items: is an object, and must be a list"),
        (b'{"data": {"items": []}, "meta": {}}', "it has no items; it has data, meta"),
        (b"{}", "it has no items; it has nothing"),
        (b"[]", "it is a list, and must be an object with items"),
        (b"<html>", "it is no JSON"),
        (b"", "it is no JSON"),
        (b"\xff\xfe{\x00}\x00", "it is no JSON"),
    ],
)
def test_what_is_no_page_is_said_in_words(body: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        read_supplier_page(body, most=10)


def test_a_byte_order_mark_does_no_harm() -> None:
    assert read_supplier_page(b"\xef\xbb\xbf" + json.dumps({"items": [item()]}).encode(), most=1).count == 1
