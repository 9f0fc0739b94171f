"""trace_tree: the scenario of an event as a tree for a terminal, across the traces that its retries began."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from rich.text import Text
from rich.tree import Tree

from ..fakes.otlp_collector import Span

_LONGEST_NAME: Final = 80
_STYLES: Final = {"PRODUCER": "cyan", "CONSUMER": "green", "CLIENT": "magenta"}
_SHOWN: Final = (  # attribute, how it is written
    ("messaging.redis.message.attempt", "attempt {}"),
    ("messaging.redis.outcome", "{}"),
    ("error.type", "{}"),
)


def trace_tree(spans: Iterable[Span], of: str | None = None) -> Tree:
    """Draws spans as a tree: name, kind and service, when each began after the first, and how long it took (ms).

    A span hangs under its parent, or else under the span it links to, so the retries of an event (roots of their own
    traces) stand beside its first attempt. With `of`, an event id or a trace id, only that scenario is drawn: its own
    spans, what led to them and what came of them.
    """
    known = {span.span_id: span for span in sorted(spans, key=lambda span: (span.start_ns, span.span_id))}
    above = {span.span_id: _above(span, known) for span in known.values()}
    if of is not None:
        chosen = _related(of, known, above)
        known = {span_id: span for span_id, span in known.items() if span_id in chosen}
    if not known:
        return Tree(Text("no spans"))
    below: dict[str, list[Span]] = defaultdict(list)
    for span in known.values():
        upper = above[span.span_id]
        below[upper if upper in known else ""].append(span)
    first = min(span.start_ns for span in known.values())
    took = max(span.end_ns for span in known.values()) - first
    traces = len({span.trace_id for span in known.values()})
    tree = Tree(Text(f"{_counted(len(known), 'span')} in {_counted(traces, 'trace')}, {_ms(took)}", style="bold"))
    _grow(tree, below, first)
    return tree


def _above(span: Span, known: dict[str, Span]) -> str:
    if span.parent_id in known and known[span.parent_id].trace_id == span.trace_id:
        return span.parent_id
    # Only back in time: a batch's `publish` links to what it created after it began, and is no child of it.
    earlier = (link.span_id for link in span.links if link.span_id in known)
    return next((upper for upper in earlier if known[upper].start_ns < span.start_ns), "")


def _related(of: str, known: dict[str, Span], above: dict[str, str]) -> set[str]:
    own = {span_id for span_id, span in known.items() if of in _ids(span)}
    chosen = set(own)
    for span_id in own:
        upper = above[span_id]
        while upper and upper not in chosen:
            chosen.add(upper)
            upper = above[upper]
    below: dict[str, list[str]] = defaultdict(list)
    for span_id, upper in above.items():
        below[upper].append(span_id)
    waiting = list(own)
    while waiting:
        lower = [span_id for span_id in below[waiting.pop()] if span_id not in chosen]
        chosen.update(lower)
        waiting.extend(lower)
    return chosen


def _ids(span: Span) -> tuple[object, ...]:
    return span.trace_id, span.attributes.get("messaging.message.id"), span.attributes.get("cloudevents.event_id")


def _grow(tree: Tree, below: dict[str, list[Span]], first: int) -> None:
    # A loop and not a recursion: spans come from outside, and so may their depth.
    waiting = [(tree, span) for span in reversed(below[""])]
    while waiting:
        branch, span = waiting.pop()
        grown = branch.add(_line(span, first))
        waiting.extend((grown, lower) for lower in reversed(below[span.span_id]))


def _line(span: Span, first: int) -> Text:
    line = Text(_plain(span.name), style=_STYLES.get(span.kind, ""))
    line.append(f"  {span.kind} {_plain(span.service)}".rstrip(), style="dim")
    line.append(f"  +{_ms(span.start_ns - first)}  {_ms(span.end_ns - span.start_ns)}")
    shown = [form.format(_plain(str(span.attributes[name]))) for name, form in _SHOWN if name in span.attributes]
    if shown:
        line.append(f"  {', '.join(shown)}", style="red" if span.status == "ERROR" else "yellow")
    return line


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_LONGEST_NAME])


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1_000_000:,.1f} ms"


def _counted(count: int, singular: str) -> str:
    return f"{count} {singular}" if count == 1 else f"{count} {singular}s"
