"""write_html: a report as one HTML file, which needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from processors.report.charts import draw
from processors.report.document import TONES, Chart, Document, Kind, Table
from processors.report.formatting import as_headline, in_words
from processors.shared.safe_text import text_shown

_WIDE, _NARROW = 720, 328
NUMBERS: Final = ("count", "decimal", "money", "share", "change", "day")
"""What stands on the right of a column."""

_html: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=lambda value: text_shown(value) if type(value) is str else value,  # names are untrusted; Markup is ours
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_html(document: Document, path: Path) -> None:
    """Writes it."""

    def chart(chart: Chart, name: str) -> Markup:
        # Shrunk to a phone, what is legible on a screen is not: each is drawn twice, and the page shows one.
        drawn = (
            (kind, draw(chart, width, document.currency, name=name))
            for kind, width in (("wide", _WIDE), ("narrow", _NARROW))
        )
        # Made by `draw`, which escapes every text.
        return Markup("").join(Markup(f'<div class="{kind}">{svg}</div>') for kind, svg in drawn)  # noqa: S704 - our own drawing, whose texts are escaped

    def cell(value: Any, kind: Kind) -> str:
        return in_words(value, kind, document.currency)

    def rows(table: Table) -> list[tuple[Any, ...]]:
        return table.rows.select(column.key for column in table.columns).rows()

    def headline(value: float | None, kind: Kind) -> Markup:
        # A long amount may break behind a comma, and nowhere else.
        return Markup(",<wbr>").join(as_headline(value, kind, document.currency).split(","))

    template = _html.get_template("report.html.j2")
    text = template.render(
        document=document, chart=chart, cell=cell, rows=rows, headline=headline, numbers=NUMBERS, tones=TONES,
    )  # fmt: skip
    path.write_text(text, encoding="utf-8", errors="replace")
