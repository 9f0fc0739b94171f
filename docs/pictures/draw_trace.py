"""Draws the trace of the demo's retried mail as docs/pictures/trace.svg: `make picture`.

It reads what `streams demo` prints from standard input, so that the picture shows a run that took place.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

PICTURE: Final = Path(__file__).with_name("trace.svg")
TITLE: Final = "The spans of one event"
ALTERNATIVE: Final = "The trace of one event: published, refused twice by the mail server, sent at the third attempt"
ROW, NAMES, BARS, MARGIN = 26, 180, 600, 16  # pixels

# "│   ├── process users  CONSUMER email-1  +37.6 ms  107.9 ms  attempt 1, retried, Deferred"
_LINE: Final = re.compile(
    r"(?P<branches>[│├└─ ]*)(?P<name>\S.*?)  (?P<kind>[A-Z]+) (?P<process>\S+)  "
    r"\+(?P<begin>[\d.,]+) ms  (?P<took>[\d.,]+) ms(?:  (?P<note>.*))?"
)

_STYLE: Final = """
  text {
    font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328;
  }
  .quiet { fill: #59636e; stroke: #ffffff; stroke-width: 4px; paint-order: stroke; }
  .paper { fill: #ffffff; stroke: #d1d9e0; }
  .grid { stroke: #d1d9e0; }
  .ok { fill: #1a7f37; } .retried { fill: #bc4c00; } .plain { fill: #0969da; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .quiet { fill: #9198a1; stroke: #0d1117; }
    .paper { fill: #0d1117; stroke: #3d444d; }
    .grid { stroke: #3d444d; }
    .ok { fill: #3fb950; } .retried { fill: #f0883e; } .plain { fill: #58a6ff; }
  }
"""


@dataclass(frozen=True)
class Span:
    """One line of the demo's tree. Times are milliseconds after the first span began."""

    depth: int
    name: str
    process: str
    begin: float
    took: float
    note: str


def read_spans(text: str) -> list[Span]:
    """The spans below the demo's first heading of spans."""
    _, heading, rest = text.partition(TITLE)
    if not heading:
        raise SystemExit(f"error: no line {TITLE!r} in standard input: streams demo | python {sys.argv[0]}")
    spans: list[Span] = []
    for line in rest.splitlines()[2:]:
        found = _LINE.fullmatch(line.rstrip())
        if found is None:
            break
        begin, took = (float(found[name].replace(",", "")) for name in ("begin", "took"))
        spans.append(
            Span(len(found["branches"]) // 4, found["name"], found["process"], begin, took, found["note"] or "")
        )
    return spans


def draw(spans: list[Span]) -> str:
    """A waterfall: one row for a span, its bar where it ran."""
    whole = max(span.begin + span.took for span in spans)
    width, height = NAMES + BARS + 2 * MARGIN, (len(spans) + 1) * ROW + MARGIN
    rows = [_axis(whole, height)]
    rows += [_row(span, number, whole) for number, span in enumerate(spans)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">\n'
        f"<title>{ALTERNATIVE}</title>\n"
        f"<style>{_STYLE}</style>\n"
        f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>\n'
        + "\n".join(rows)
        + "\n</svg>\n"
    )


def _axis(whole: float, height: int) -> str:
    left = MARGIN + NAMES
    marks = []
    for second in range(int(whole / 1000) + 1):
        x = left + second * 1000 / whole * BARS
        marks.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{ROW + 6}" y2="{height - 10}"/>')
        marks.append(f'<text class="quiet" x="{x:.1f}" y="{ROW - 2}">{second} s</text>')
    return "\n".join(marks)


def _row(span: Span, number: int, whole: float) -> str:
    y = (number + 1) * ROW + MARGIN
    begin, took = span.begin / whole * BARS, max(span.took / whole * BARS, 3)
    left = MARGIN + NAMES + begin
    colour = "ok" if "acked" in span.note else "retried" if re.search(r"retried|\d{3}", span.note) else "plain"
    replied = f"replied {span.note}" if span.note.isdigit() else span.note
    note = re.sub(r", \w+$", "", replied) if replied.count(",") > 1 else replied  # without the class of the error
    label = f"{span.process} {note}".strip()
    # A label that would leave the picture stands before its bar.
    beside = left + took + 8 + 7.9 * len(label) < MARGIN + NAMES + BARS
    x, anchor = (left + took + 8, "start") if beside else (left - 8, "end")
    return (
        f'<text x="{MARGIN + 18 * (span.depth - 1)}" y="{y + 4}">{escape(span.name)}</text>'
        f'<rect class="{colour}" x="{left:.1f}" y="{y - 7}" width="{took:.1f}" height="14" rx="2"/>'
        f'<text class="quiet" x="{x:.1f}" y="{y + 4}" text-anchor="{anchor}">{escape(label)}</text>'
    )


if __name__ == "__main__":
    spans = read_spans(sys.stdin.read())
    PICTURE.write_text(draw(spans), encoding="utf-8")
    sys.stdout.write(f"{PICTURE}: {len(spans)} spans\n")
