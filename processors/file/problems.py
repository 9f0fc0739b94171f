"""What can be wrong with a row, and what its sender can do about it."""

from __future__ import annotations

from typing import Any, Final

Problem = dict[str, Any]
"""`line` and `row` in the file, `field`, `sku`, `value` as the file has it, and `problem`."""

UNKNOWN: Final = "is unknown, and a new product needs a name"
LOST_ZEROS: Final = "is unknown, and is {!r} but for what a spreadsheet may have changed"

TWIN: Final = "differs from {!r}, which is in the file as well, by no more than a spreadsheet may change"
UNCOUNTED: Final = "is missing, and a new product needs one"

_CURES: Final = (
    ("is missing, and a new", "enter the quantity of the new product"),
    ("is blank for another", "enter the quantity of each location, or choose one of them"),
    ("could be", "write it without thousands, as 1000, or with both signs, as 1.000,00; or choose the decimal sign"),
    ("has a decimal", "write it as the other numbers, or choose the other decimal sign"),
    ("is unknown, and a new", "correct the SKU, or give the product a name"),
    ("is unknown, and is", "write the SKU as Planning Bord has it; give the column the type Text in the spreadsheet"),
    ("was shortened", "give the column the type Text in the spreadsheet, and enter the SKU anew"),
    ("looks like a date", "give the column the type Text in the spreadsheet, and enter the SKU anew"),
    ("looks like a total", "delete this row"),
    ("looks like a comment", "delete this row"),
    ("looks like a line of a template", "delete this row"),
    ("is also on line", "keep one of the rows"),
    ("is in the file twice", "keep one of the rows"),
    ("is negative", "enter what is there: 0 or more"),
    ("is not a whole", "enter a whole number, as 12"),
    ("is no amount", "enter an amount, as 12.50, without other signs"),
    ("is more than", "enter a smaller number"),
    ("has more than", "shorten it"),
    ("may be cut off", "put the number into quotes, or write it without a comma"),
    ("is no SKU", "enter the SKU"),
    ("is shown as", "give the column the type Text in the spreadsheet, and enter the SKU as it is to be"),
    ("begins with an", "remove the apostrophe"),
    ("looks like yes", "give the column the type Text in the spreadsheet, and enter the SKU anew"),
    ("differs from", "write the SKU in one way"),
    ("has more fields", "remove what stands behind the last column, or put quotes around text with a delimiter"),
    ("has control", "remove line breaks and invisible characters"),
    ("is a formula", "enter the value in its place"),
    ("is missing", "fill the cell, or delete the row"),
    ("belongs to", "correct the other row"),
)  # fmt: skip


def cure_of(problem: str) -> str:
    """What to do about a problem, in one phrase; empty when it is not known."""
    return next((cure for start, cure in _CURES if problem.startswith(start)), "")
