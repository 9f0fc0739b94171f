"""The ticking processor: a schedule of every second, so that the demo need not wait for a quarter of an hour."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from observability import instrument
from schemas import StockCheckDue
from streams import Processor, run

BUSINESS: Final = 3
"""Whose stock is checked every second; nothing else in the demo asks for that."""

ticking = Processor("ticking")


@ticking.every(timedelta(seconds=1))
def tick() -> StockCheckDue:
    """A check of one business' stock."""
    return StockCheckDue(business_id=BUSINESS)


if __name__ == "__main__":
    run(ticking, middleware=instrument("planning-bord-ticking"))
