"""The tree tells the whole story of one event, and only that."""

from __future__ import annotations

import dataclasses
import io

from rich.console import Console

from examples.demo.trace_tree import trace_tree
from examples.fakes.otlp_collector import Link, Span

MS = 1_000_000


def span(name: str, trace: str, id: str, start: int, took: int, parent: str = "", **more: object) -> Span:
    attributes = {"messaging.message.id": "event-1", **dict(more.pop("attributes", {}))}  # type: ignore[call-overload]
    made = Span(name, "CONSUMER", trace, id, parent, start * MS, (start + took) * MS, "email", attributes=attributes)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


PUBLISH = span("publish users", "t1", "p", 0, 2, kind="PRODUCER", service="shop")
FIRST = span(
    "process users", "t1", "c1", 5, 10, "p", links=(Link("t1", "p"),), status="ERROR",
    attributes={"messaging.redis.message.attempt": 1, "messaging.redis.outcome": "retried", "error.type": "Gone"},
)  # fmt: skip
SECOND = span(
    "process users", "t2", "c2", 2005, 7, links=(Link("t1", "p"),),
    attributes={"messaging.redis.message.attempt": 2, "messaging.redis.outcome": "acked"},
)  # fmt: skip
SMTP = span("send smtp", "t2", "s2", 2006, 5, "c2", kind="CLIENT", attributes={"messaging.message.id": None})
FOLLOW_UP = span("publish emails", "t2", "f", 2009, 1, "c2", kind="PRODUCER", attributes={"messaging.message.id": "2"})
OTHER = span("process users", "t9", "x", 1, 1, attributes={"messaging.message.id": "event-9"})


def drawn(*spans: Span, of: str | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(trace_tree(spans, of))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_retries_of_other_traces_stand_beside_the_first_attempt() -> None:
    assert drawn(SMTP, OTHER, SECOND, FOLLOW_UP, FIRST, PUBLISH, of="event-1") == [
        "5 spans in 2 traces, 2,012.0 ms",
        "└── publish users  PRODUCER shop  +0.0 ms  2.0 ms",
        "    ├── process users  CONSUMER email  +5.0 ms  10.0 ms  attempt 1, retried, Gone",
        "    └── process users  CONSUMER email  +2,005.0 ms  7.0 ms  attempt 2, acked",
        "        ├── send smtp  CLIENT email  +2,006.0 ms  5.0 ms",
        "        └── publish emails  PRODUCER email  +2,009.0 ms  1.0 ms",
    ]


def test_times_count_from_the_first_span() -> None:
    """Spans begin when they begin: in nanoseconds since 1970, and not at zero."""
    since = 1_700_000_000_000_000_000
    later = [
        dataclasses.replace(one, start_ns=one.start_ns + since, end_ns=one.end_ns + since) for one in (PUBLISH, SECOND)
    ]
    assert drawn(*later, of="event-1") == drawn(PUBLISH, SECOND, of="event-1")


def test_a_batch_shows_only_the_way_of_the_event() -> None:
    batch = span("publish users", "t1", "b", 0, 9, kind="CLIENT", attributes={"messaging.message.id": None})
    mine = span("create users", "t1", "m", 1, 1, "b", kind="PRODUCER")
    theirs = dataclasses.replace(mine, span_id="o", attributes={"messaging.message.id": "event-2"})
    batch = dataclasses.replace(batch, links=(Link("t1", "m"), Link("t1", "o")))
    lines = drawn(batch, mine, theirs, of="event-1")
    assert [line.strip("└─ ").split("  ")[0] for line in lines[1:]] == ["publish users", "create users"]
    assert len(drawn(batch, mine, theirs)) == 4
    assert len(drawn(batch, mine, theirs, OTHER, of="t1")) == 4


def test_without_spans_it_says_so() -> None:
    assert drawn() == drawn(OTHER, of="event-1") == ["no spans"]


def test_names_from_outside_are_text() -> None:
    (_, line) = drawn(dataclasses.replace(PUBLISH, name="[red]\x1b[31m\n" + "x" * 500))
    assert "[red]?[31m?xxx" in line
    assert len(line) < 150


def test_loops_end() -> None:
    one = span("one", "t", "1", 0, 1, "2", links=(Link("t", "2"),))
    two = span("two", "t", "2", 0, 1, "1", links=(Link("t", "2"), Link("t", "1")))
    assert drawn(one, two, of="event-1")[0] == "2 spans in 1 trace, 1.0 ms"
