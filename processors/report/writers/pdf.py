"""write_pdf: a report as PDF, set by typst, which brings its fonts and takes texts as data and never as markup."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import typst

from processors.report.charts import draw
from processors.report.document import TONES, Column, Document, Section
from processors.report.formatting import as_headline, in_words
from processors.report.writers.html import NUMBERS
from processors.shared.safe_text import text_shown

_WIDTH: Final = 640
_SIZE: Final = 9.0  # points of a table's letters
_SMALLEST: Final = 4.5
_FOR_NUMBERS: Final = 62  # letters of that size, beside which there is room for what is sold and its SKU
_LONG: Final = 14  # letters: a column of longer SKUs takes a share of the width; the template breaks longer words
_TEMPLATE: Final = Path(__file__).parents[1] / "templates" / "report.typ"
# The page's colours, on paper.
_STYLE: Final = (
    "<style>text{font-family:'Libertinus Serif';font-size:13px}.t{fill:#5b6675}.v{fill:#16202e;font-weight:600}"
    "line.g{stroke:#e2e7ee}line.z{stroke:#5b6675}rect.g{fill:#eef1f5}.l0{fill:none;stroke:#2b5fd9;stroke-width:2.5}"
    ".l1{fill:none;stroke:#a9b6c8;stroke-width:2;stroke-dasharray:4 4}.a0{fill:#e9effb}.f0{fill:#2b5fd9}"
    ".f1{fill:#a9b6c8}.h{fill:none}.t-good{fill:#1f9d78}.t-warning{fill:#d98a12}.t-bad{fill:#d0453f}.t-plain{fill:#2b5fd9}</style>"
)


def write_pdf(document: Document, path: Path) -> None:
    """Writes it."""
    data = {
        "title": text_shown(document.title), "about": text_shown(document.about),
        "business": text_shown(document.business), "notes": [text_shown(note) for note in document.notes],
        "made": f"{document.made_at.day} {document.made_at:%B %Y, %H:%M %Z}",
        "figures": [
            {
                "label": text_shown(figure.label), "value": as_headline(figure.value, figure.kind, document.currency),
                "note": text_shown(figure.note), "tone": figure.tone,
                "change": "" if figure.change is None else in_words(figure.change, "change"),
                "up": figure.change is not None and figure.change >= 0,
            }
            for figure in document.figures
        ],
        "sections": [_section(section, document.currency) for section in document.sections],
    }  # fmt: skip
    compiler = typst.Compiler(_TEMPLATE, root=_TEMPLATE.parent)
    made = compiler.compile(
        format="pdf", sys_inputs={"data": orjson.dumps(data).decode()}, timestamp=int(document.made_at.timestamp())
    )
    assert isinstance(made, bytes)
    path.write_bytes(made)


def _section(section: Section, currency: str) -> dict[str, Any]:
    drawn = draw(section.chart, _WIDTH, currency, name=section.title) if section.chart else ""
    start = drawn.find(">") + 1
    table: dict[str, Any] | None = None
    if section.table is not None and section.table.rows.height:
        columns = section.table.columns
        rows = section.table.rows.select(column.key for column in columns).rows()
        texts = [
            [in_words(value, column.kind, currency) for value, column in zip(row, columns, strict=True)] for row in rows
        ]
        table = {
            "titles": [column.title for column in columns],
            "right": [column.kind in NUMBERS for column in columns],
            **_layout(columns, texts),
            "rows": [
                [
                    {
                        "text": text_shown(shown),
                        "breaks": column.kind == "text",
                        "tone": TONES[value] if column.kind == "state" else _tone(value, column.kind),
                    }
                    for shown, value, column in zip(words, row, columns, strict=True)
                ]
                for words, row in zip(texts, rows, strict=True)
            ],
            "note": text_shown(section.table.note),
        }
    return {
        "title": text_shown(section.title), "text": text_shown(section.text),
        "chart": drawn[:start] + _STYLE + drawn[start:] if drawn else "",
        "table": table,
    }  # fmt: skip


def _layout(columns: Sequence[Column], texts: Sequence[Sequence[str]]) -> dict[str, Any]:
    """How wide the columns are (0: as their texts, else a share of the rest), and the letters' size.

    A column that is as wide as its texts takes all that it wants: only what is short may be one, and long numbers are
    set in smaller letters, so that what they count keeps its room.
    """
    longest = [max(len(text) for text in column) for column in zip(*texts, strict=True)]
    widths = [
        0 if column.kind != "text" or (column.key == "sku" and most <= _LONG) else 2 if column.key == "sku" else 3
        for column, most in zip(columns, longest, strict=True)
    ]
    taken = sum(
        max(most, len(column.title)) + 2
        for column, most, width in zip(columns, longest, widths, strict=True)
        if width == 0
    )
    return {"widths": widths, "size": max(_SMALLEST, _SIZE * min(1.0, _FOR_NUMBERS / taken)) if taken else _SIZE}


def _tone(value: Any, kind: str) -> str:
    if kind != "change" or value is None:
        return ""
    return "good" if value >= 0 else "bad"
