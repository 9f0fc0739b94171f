"""Document: what a report says, before it is a file of any format. Money is in cents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import polars as pl

Kind = Literal["text", "count", "decimal", "money", "share", "change", "day", "state"]
Tone = Literal["good", "warning", "bad", "plain"]
State = Literal["in stock", "low", "out"]

TONES: dict[str, Tone] = {"in stock": "good", "low": "warning", "out": "bad"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that matters; `change` is a share more or less than before, `tone` how good it is. None is no
    figure: the mean of no sales.
    """

    label: str
    value: float | None
    kind: Kind
    note: str = ""
    change: float | None = None
    tone: Tone = "plain"


def alarm(label: str, count: int, note: str, tone: Tone) -> Figure:
    """A count that is good while it is nothing."""
    return Figure(label, count, "count", note=note, tone=tone if count else "plain")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; `minor` ones are left out where there is no room."""

    key: str
    title: str
    kind: Kind = "text"
    minor: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a few columns; `rows` has a column for each key."""

    columns: Sequence[Column]
    rows: pl.DataFrame
    note: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Values of a chart, by its labels. A faint one is there to compare with."""

    name: str
    values: Sequence[float | None]
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines and columns go from left to right, bars from top to bottom, and shares are parts of one bar."""

    shape: Literal["line", "columns", "bars", "shares"]
    labels: Sequence[str]
    series: Sequence[Series]
    kind: Kind
    tones: Sequence[Tone] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report with a title of its own."""

    title: str
    text: str = ""
    chart: Chart | None = None
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """All of it. `details` are all rows that a spreadsheet gets, with a column for each of `detail_columns`."""

    title: str
    about: str
    business: str
    currency: str
    made_at: datetime
    figures: Sequence[Figure]
    sections: Sequence[Section]
    details: pl.LazyFrame
    detail_columns: Sequence[Column]
    notes: Sequence[str] = field(default=())
