"""digest_text: a digest in the words of its mail: amounts, counts and changes as people write them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from processors.shared.safe_text import name_shown

if TYPE_CHECKING:
    from processors.email.digest import Digest

_LONGEST: Final = 200  # characters of a reason, which may be another system's


def digest_text(digest: Digest) -> dict[str, Any]:
    """The values of the template `daily_digest`, but for the link."""
    sold, before = digest.sold, digest.week_before
    return {
        "business": digest.business,
        "day": f"{digest.day:%A}, {digest.day.day} {digest.day:%B %Y}",
        "revenue": f"{sold.revenue:,} {digest.currency}",
        "sold": f"{_count(sold.pieces, 'piece')} in {_count(sold.sales, 'sale')}" if sold.sales else "",
        "change": _change(sold.revenue, before.revenue, f"{digest.day:%A}"),
        "best": [
            {"sku": sku, "name": name_shown(name) or sku, "pieces": f"{pieces:,}", "revenue": f"{revenue:,}"}
            for sku, name, pieces, revenue in digest.best
        ],
        "below": [
            {"sku": sku, "name": name_shown(name) or sku, "quantity": f"{quantity:,}", "threshold": f"{threshold:,}"}
            for sku, name, quantity, threshold in digest.below
        ],
        "below_count": f"{digest.below_count:,}" if digest.below_count else "",
        "more_below": _more(digest.below_count - len(digest.below)),
        "imports": _imports(digest),
        "exports": _count(digest.exports, "export") if digest.exports else "",
        "failed": [{"what": what, "why": why[:_LONGEST]} for what, why in digest.failed],
    }


def _count(number: int, singular: str) -> str:
    return f"{number:,} {singular}" if number == 1 else f"{number:,} {singular}s"


def _more(number: int) -> str:
    return f"and {number:,} more" if number > 0 else ""


def _change(now: Decimal, before: Decimal, weekday: str) -> str:
    """How it was compared with a week before; nothing to compare with is no change."""
    if not before:
        return ""
    percent = round((now - before) / before * 100)
    if percent == 0:
        return f"as much as the {weekday} before"
    return f"{abs(percent):,} % {'more' if percent > 0 else 'less'} than the {weekday} before"


def _imports(digest: Digest) -> str:
    if not digest.imports:
        return ""
    refused = f", {_count(digest.rows_refused, 'row')} refused" if digest.rows_refused else ""
    return f"{_count(digest.imports, 'import')} of {_count(digest.rows_imported, 'row')}{refused}"
