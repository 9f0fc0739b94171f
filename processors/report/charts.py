"""draw: a chart as SVG. Its colours are CSS classes, so that a page can have them follow light and dark."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final
from xml.sax.saxutils import escape

from processors.report.document import Chart, Kind
from processors.report.formatting import in_short, in_words
from processors.shared.safe_text import text_shown

_NOT_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_LETTER: Final = 6.6  # width of a letter at 12 px, about
_TICKS: Final = 4


def draw(chart: Chart, width: int, currency: str, *, name: str) -> str:
    """An `<svg>` of a width in pixels, whose text is of 12 pixels; `name` is what is read out instead of it."""
    chart = replace(
        chart,
        labels=[text_shown(label) for label in chart.labels],
        series=[replace(series, name=text_shown(series.name)) for series in chart.series],
    )
    height, parts = {"line": _line, "columns": _columns, "bars": _bars, "shares": _shares}[chart.shape](
        chart, width, currency
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" width="{width}" '
        f'height="{height:.0f}" class="chart" role="img" aria-label="{_text(name)}">{"".join(parts)}</svg>'
    )


def _line(chart: Chart, width: int, currency: str) -> tuple[float, Iterator[str]]:
    height = 240 if width > 500 else 200

    def parts() -> Iterator[str]:
        yield from _legend(chart, width)
        box = _Box(chart, width, height, currency)
        yield from box.frame()
        for number, series in reversed(list(enumerate(chart.series))):
            points = [
                (box.x(at), box.y(value), at, value) for at, value in enumerate(series.values) if value is not None
            ]
            if not points:
                continue
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
            if not series.faint:
                left, right, base = points[0][0], points[-1][0], box.y(0)
                yield f'<polygon class="a0" points="{left:.1f},{base:.1f} {line} {right:.1f},{base:.1f}"/>'
            yield f'<polyline class="l{number}" points="{line}"/>'
        yield from box.hints()

    return height, parts()


def _columns(chart: Chart, width: int, currency: str) -> tuple[float, Iterator[str]]:
    height = 220 if width > 500 else 190

    def parts() -> Iterator[str]:
        yield from _legend(chart, width)
        box = _Box(chart, width, height, currency, between=True)
        yield from box.frame()
        room = box.step * 0.72 / len(chart.series)
        for number, series in enumerate(chart.series):
            for at, value in enumerate(series.values):
                if value:
                    left, y, zero = box.x(at) + (number - len(chart.series) / 2) * room, box.y(value), box.y(0)
                    yield _rect(left + 1, min(y, zero), room - 2, abs(zero - y), f"f{number}", 3)
                    short = in_short(value, chart.kind, currency)
                    if len(chart.series) == 1 and len(short) * _LETTER < box.step:
                        yield _label(box.x(at), y - 5 if value > 0 else y + 15, short, "v", "middle")
        yield from box.hints()

    return height, parts()


def _bars(chart: Chart, width: int, currency: str) -> tuple[float, Iterator[str]]:
    row = 40 + 8 * (len(chart.series) - 1)
    legend = _legend_height(chart)
    low, high = _ends(chart)
    scale = width / ((high - low) or 1)

    def parts() -> Iterator[str]:
        yield from _legend(chart, width)
        for at, label in enumerate(chart.labels):
            y = legend + at * row
            value = chart.series[0].values[at] or 0
            shown = in_short(value, chart.kind, currency)
            yield _label(0, y + 14, _cut(label, width - len(shown) * _LETTER - 20), "t")
            yield _label(width, y + 14, shown, "v", "end")
            yield _rect(0, y + 21, width, 10, "g", 5)
            for number, series in enumerate(chart.series):
                size = (series.values[at] or 0) * scale
                left, place = -low * scale + min(0.0, size), y + 21 if number == 0 else y + 34
                yield _rect(left, place, abs(size), 10 if number == 0 else 4, f"f{number}", 5 if number == 0 else 2)

    return legend + row * len(chart.labels), parts()


def _shares(chart: Chart, width: int, currency: str) -> tuple[float, Iterator[str]]:
    values = [max(0, value or 0) for value in chart.series[0].values]
    whole = sum(values) or 1

    def parts() -> Iterator[str]:
        at = 0.0
        for value, tone in zip(values, chart.tones, strict=True):
            size = value / whole * width
            yield _rect(min(at, width - 1.0), 4, max(size - 2, 1), 22, f"t-{tone}", 4)
            at += size
        for number, (label, value, tone) in enumerate(zip(chart.labels, values, chart.tones, strict=True)):
            y = 50 + 22 * number
            words = f"{in_words(value, chart.kind, currency)}  ({in_words(value / whole, 'share')})"
            yield _rect(0, y - 9, 10, 10, f"t-{tone}", 3)
            yield _label(18, y, _cut(label, width - len(words) * _LETTER - 30), "t")
            yield _label(width, y, words, "v", "end")

    return 42 + 22 * len(values), parts()


class _Box:
    """The part of a chart within its axes; values below zero hang down from the line of zero."""

    def __init__(self, chart: Chart, width: int, height: int, currency: str, *, between: bool = False) -> None:
        self._chart, self._currency = chart, currency
        low, high = _ends(chart)
        self._unit = _unit(high - low, chart.kind)
        self._below = math.ceil(-low / self._unit - 1e-9)
        self._ticks = max(1, self._below + math.ceil(high / self._unit - 1e-9))
        named = [in_short(self._unit * (tick - self._below), chart.kind, currency) for tick in range(self._ticks + 1)]
        self._named = named
        self._left = max(len(name) for name in named) * _LETTER + 10
        # Beneath a column that hangs down its value is written, and beneath that what it is.
        under = 38 if between and low < 0 else 24
        self._right, self._top, self._bottom = width - (0 if between else 8), 16 + _legend_height(chart), height - under
        self._foot = height - 6.0
        count = len(chart.labels)
        self.step = (self._right - self._left) / max(1, count if between else count - 1)
        self._shift = self.step / 2 if between else 0.0

    def x(self, at: int) -> float:
        return self._left + self._shift + at * self.step

    def y(self, value: float) -> float:
        share = (value / self._unit + self._below) / self._ticks
        return self._bottom - (self._bottom - self._top) * share

    def frame(self) -> Iterator[str]:
        for tick, name in enumerate(self._named):
            y = self.y((tick - self._below) * self._unit)
            kind = "z" if self._below and tick == self._below else "g"
            yield f'<line class="{kind}" x1="{self._left:.1f}" x2="{self._right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield _label(self._left - 8, y + 4, name, "t", "end")
        labels = self._chart.labels
        every = max(1, math.ceil((max(map(len, labels), default=0) * _LETTER + 14) / max(self.step, 1.0)))
        end = 0.0
        for at in range(0, len(labels), every):
            label = _cut(labels[at], self._right - self._left)
            half = len(label) * _LETTER / 2
            x = min(max(self.x(at), self._left + half - 10), self._right - half)
            if x - half >= end:  # the last one may have been moved to the left
                yield _label(x, self._foot, label, "t", "middle")
                end = x + half + 8

    def hints(self) -> Iterator[str]:
        """The texts of the places that the pointer may rest on."""
        for at, label in enumerate(self._chart.labels):
            values = "; ".join(
                f"{series.name}: {in_words(value, self._chart.kind, self._currency)}"
                for series in self._chart.series
                if (value := series.values[at]) is not None
            )
            left, right = self.x(at) - self.step / 2, self.x(at) + self.step / 2
            left, right = max(left, 0.0), min(right, self._right)
            yield (
                f'<rect class="h" x="{left:.1f}" y="{self._top:.1f}" width="{right - left:.1f}" '
                f'height="{self._bottom - self._top:.1f}"><title>{_text(f"{label} - {values}")}</title></rect>'
            )


def _ends(chart: Chart) -> tuple[float, float]:
    """The least and the greatest value; zero is always between them."""
    values = [value for series in chart.series for value in series.values if value is not None]
    return min(0, *values) if values else 0, max(0, *values) if values else 0


def _legend_height(chart: Chart) -> int:
    return 24 if len(chart.series) > 1 else 0


def _legend(chart: Chart, width: int) -> Iterator[str]:
    if len(chart.series) < 2:
        return
    room, x = width / len(chart.series), 0.0
    for number, series in enumerate(chart.series):
        yield _rect(x, 5, 14, 4, f"f{number}", 2)
        name = _cut(series.name, room - 30)
        yield _label(x + 20, 12, name, "t")
        x += 20 + len(name) * _LETTER + 18


def _unit(most: float, kind: Kind) -> float:
    """A round distance between two lines, of which there are about four."""
    rough = max(most, 100 if kind == "money" else 1) / _TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    unit = next(size * step for step in (1, 2, 2.5, 5, 10) if size * step >= rough - 1e-9)
    return max(unit, 1.0) if kind == "count" else unit


def _rect(x: float, y: float, width: float, height: float, kind: str, round: float) -> str:
    round = min(round, width / 2, height / 2)
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" '
        f'rx="{max(round, 0):.1f}"/>'
    )


def _label(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    placed = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{placed}>{_text(text)}</text>'


def _cut(text: str, room: float) -> str:
    most = max(4, int(room / _LETTER))
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}\u2026"


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text), {'"': "&quot;"})
