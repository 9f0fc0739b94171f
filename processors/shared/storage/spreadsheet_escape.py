"""escape_formulas: text that no spreadsheet takes for a formula."""

from __future__ import annotations

from typing import Final

import polars as pl

_TRIGGER: Final = r"^([\s\"']*[=+\-@＝＋－＠\t\r\x00])"


def escape_formulas(cell: pl.Expr) -> pl.Expr:
    """Puts an apostrophe before what begins with `= + - @` (in full width too), a tab, a carriage return or a zero
    byte, spaces and quotes left aside (OWASP's list for CSV injection). Numbers are typed, and need none.
    """
    return cell.str.replace(_TRIGGER, "'$1")
