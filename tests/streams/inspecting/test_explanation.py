"""Why an event is not done, from given facts: which state it is, and the figures that its sentence has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from streams.inspecting.consumer_report import Report
from streams.inspecting.explanation import delayed, explain
from streams.inspecting.group_status import GroupStatus
from streams.inspecting.states import Facts, Reason

NOBODY: Final = Facts("e-1", "Noted", 2, "notes", lease=30.0, deliveries=5)
IDLE: Final = Report("t", 2, 4, 0, 1, 0.0, False)
ALIVE: Final = replace(NOBODY, beats={"c-1": 1.0}, reports={"c-1": IDLE})
HELD: Final = GroupStatus("email", "running", "notes 1-0", 1, 1, consumer="c-1", idle=2.0)
UNREAD: Final = GroupStatus("email", "unread", "notes 1-0", 0, 0)
WAITS: Final = GroupStatus("email", "retrying", "due", 2, 2, due_in=60.0, error="451 later")
BEHIND: Final = replace(WAITS, state="queued", queued_behind="key")
AT_LIMIT: Final = replace(WAITS, state="queued", queued_behind="limit")


def report(**change: Any) -> Facts:
    """The only consumer answers so."""
    return replace(ALIVE, reports={"c-1": replace(IDLE, **change)})


def said(group: GroupStatus, facts: Facts) -> tuple[str, str]:
    """What keeps it, or its state where that says it all; and the sentence."""
    reason = explain(group, facts)
    assert isinstance(reason, Reason)
    assert reason.group == "email"
    return reason.cause or reason.state, reason.why


@pytest.mark.parametrize(
    ("facts", "state", "part"),
    [
        (report(phase="running", seconds=37.5, limit=30.0), "running", "for 38 s of at most 30 s"),
        (report(phase="running", seconds=37.6, limit=30.0), "running", "and its handler ignores its cancel"),
        (report(phase="running", seconds=60.0, limit=30.0, in_thread=True), "running", "cannot be interrupted"),
        (report(phase="settling"), "running", "has just handled it"),
        (report(), "running", "or is about to begin"),
        (report(phase="suspect"), "suspect", "died 1 time while handling it (dead-lettered at 5)"),
        (replace(ALIVE, cancelled=True), "cancelling", "its handler is being stopped"),
        (report(phase="ready", running=4, longest=9.0), "ready", "(4 of 4 slots, the longest for 9.0 s)"),
        (report(phase="ready", running=3, longest=9.0, reserved=1), "ready", "3 of 4 slots, 1 reserved for high"),
        (report(phase="ready", stuck=1, quiet=30.0), "ready", "behind the messages"),
        (report(phase="ready", stuck=1, quiet=30.1), "stuck", "begun and settled nothing for 30 s"),
        (report(phase="ready", stuck=0, quiet=99.0), "ready", "behind the messages"),
        (replace(report(phase="ready"), paused=True), "paused", "email is paused"),
        (replace(ALIVE, reports={}), "unresponsive", "does not answer"),
        (replace(ALIVE, reports={}, beats={"c-1": 15.0}), "unresponsive", "does not answer"),
        (replace(ALIVE, reports={}, beats={"c-1": 15.1}), "unresponsive", "is silent for 15 s"),
    ],
)
def test_what_is_held_by_a_consumer_that_is_alive(facts: Facts, state: str, part: str) -> None:
    found, why = said(HELD, facts)
    assert (found, part in why) == (state, True), why
    assert ("ignores" in why or "interrupted" in why) == ("ignores" in part or "interrupted" in part)


def test_what_is_held_by_a_consumer_that_is_gone() -> None:
    """Another takes it over when the lease ends; how often that was is said from the second time on."""
    others = replace(NOBODY, beats={"c-1": 40.0, "c-2": 1.0, "c-3": 30.0})
    state, why = said(HELD, others)
    assert (state, why.startswith("c-1, which had it, is silent for 40 s; ")) == ("silent", True)
    assert why.endswith("its lease ends in 28 s, then another takes it over (2 consumers alive)")
    assert explain(HELD, others).remedy == "wait 36 s"
    assert "its lease has ended: another" in said(replace(HELD, idle=30.0), others)[1]
    for deliveries, nth in ((1, ""), (2, "; it is its 2nd delivery of 5"), (3, "; it is its 3rd delivery of 5")):
        assert said(replace(HELD, deliveries=deliveries), others)[1].endswith(f"alive){nth}")
    alone = said(replace(HELD, deliveries=11), replace(NOBODY, beats={"c-2": 31.0}))[1]
    assert alone.startswith("c-1, which had it, is gone, and no other consumer of email is alive")
    assert alone.endswith("; it is its 11th delivery of 5")


@pytest.mark.parametrize(
    ("facts", "state", "part"),
    [
        (ALIVE, "unread", "about to read it (1 consumer alive)"),
        (replace(ALIVE, ahead=0), "unread", "about to read it"),
        (replace(ALIVE, ahead=1_200), "behind", "; 1,200 unread are before it"),
        (replace(ALIVE, ahead=1_200, rate=10.0), "behind", "10 a second are read: about 2 min"),
        (report(running=4, held=4, longest=9.0), "busy", "all 4 slots of email are busy, the longest for 9.0 s"),
        (replace(report(running=4, held=4, longest=9.0), rate=1.0), "unread", "about to read it"),
        (replace(ALIVE, reads=False), "unsubscribed", "has no handler for anything there"),
        (replace(ALIVE, paused=True), "paused", "no handler starts"),
        (replace(ALIVE, reports={}), "unresponsive", "(1 alive, last heartbeat 1.0 s ago)"),
        (report(breaker="smtp", breaker_for=4.0), "breaker", "smtp does not answer, the next try is in 4.0 s"),
        (NOBODY, "no_consumer", "no consumer of email runs, and none ever did"),
        (replace(NOBODY, reads=False), "no_consumer", "none ever did"),
        (replace(NOBODY, last_seen=7_200.0), "no_consumer", "the last one was there 2 h ago"),
        (replace(NOBODY, beats={"c-1": 31.0}), "silent", "every consumer of email is silent: c-1 for 31 s"),
        (replace(NOBODY, beats={"c-1": 30.0}), "unresponsive", "1 alive"),
    ],
)
def test_what_nobody_has_been_given(facts: Facts, state: str, part: str) -> None:
    found, why = said(UNREAD, facts)
    assert (found, part in why) == (state, True), (found, why)


def test_a_breaker_that_one_consumer_has_open_stops_nobody_else() -> None:
    """Only if all of them have it."""
    both = replace(ALIVE, beats={"c-1": 1.0, "c-2": 1.0})
    opened = replace(IDLE, breaker="smtp", breaker_for=4.0)
    assert said(UNREAD, replace(both, reports={"c-1": opened, "c-2": IDLE}))[0] == "unread"
    longer = replace(opened, breaker_for=8.0)
    assert "next try is in 8.0 s" in said(UNREAD, replace(both, reports={"c-1": opened, "c-2": longer}))[1]


@pytest.mark.parametrize(
    ("group", "state", "part"),
    [
        (WAITS, "retrying", "attempt 2 failed (451 later); it is tried again in 60 s"),
        (replace(WAITS, due_in=0.0), "retrying", "in 0.0 s"),
        (replace(WAITS, due_in=-1.0), "overdue", "due since 1.0 s, and no consumer has moved it yet"),
        (replace(WAITS, state="snoozed", reason="not before noon"), "snoozed", "snoozed it (not before noon)"),
        (replace(WAITS, state="snoozed", reason="unavailable: smtp"), "breaker", "does not answer (smtp)"),
        (
            replace(WAITS, state="snoozed", reason="unsupported: version 3"),
            "unsupported",
            "version 3; it is tried again",
        ),
        (replace(WAITS, state="snoozed", reason="limited: its entry was deleted"), "limit", "tried again in 60 s"),
        (
            replace(AT_LIMIT, due_in=None, reason="5 in 1 s"),
            "limit",
            "at its limit (5 in 1 s), not",
        ),
        (
            replace(BEHIND, reason="it queues behind notes 7-0"),
            "key",
            "behind notes 7-0",
        ),
    ],
)
def test_what_waits(group: GroupStatus, state: str, part: str) -> None:
    found, why = said(group, ALIVE)
    assert (found, part in why) == (state, True), (found, why)


def test_what_waits_for_another_of_its_key_is_explained_by_that() -> None:
    group = replace(
        WAITS, state="queued", queued_behind="key", reason="it queues behind notes 7-0 with the same key ada"
    )
    assert explain(group, ALIVE).remedy == "streams doctor why 7-0"
    assert said(group, replace(ALIVE, paused=True))[0] == "paused"
    assert said(replace(group, queued_behind="limit"), NOBODY)[0] == "no_consumer"
    assert said(replace(WAITS, due_in=-1.0), NOBODY)[0] == "no_consumer"


DEAD: Final = {"state": "dead", "dead_letter": "7-0"}
LINE: Final = {"consumer": "ada@desk", "at": "2026-11-24T09:00:00.123Z"}
DISCARDED: Final = LINE | {"outcome": "discarded"}


@pytest.mark.parametrize(
    ("change", "state", "part"),
    [
        (DEAD | {"attempts": 1, "reason": "failed", "error": "no"}, "dead", "after 1 attempt (failed): no"),
        (DEAD | {"attempts": 2, "reason": "failed", "error": "no"}, "dead", "after 2 attempts"),
        (DEAD | {"reason": "crashed", "error": "x"}, "dead", "it is in the dead letters of email: x"),
        (
            {"state": "dead", "history": (DISCARDED,)},
            "discarded",
            "discarded by ada@desk at 2026-11-24 09:00:00 UTC",
        ),
        ({"state": "cancelled", "history": ({},)}, "cancelled", "it was cancelled"),
        ({"state": "expired", "reason": "at noon"}, "expired", "before email began it: at noon"),
        ({"state": "skipped"}, "missed", "began at a later entry of notes than this event"),
        ({"state": "acked", "attempts": 1}, "acked", "email is done with it"),
        ({"state": "acked", "attempts": 22}, "acked", "done with it at the 22nd attempt"),
        ({"state": "acked", "attempts": 13}, "acked", "at the 13th attempt"),
    ],
)
def test_what_is_over(change: dict[str, Any], state: str, part: str) -> None:
    found, why = said(replace(HELD, **change), ALIVE)
    assert (found, part in why) == (state, True), (found, why)


def test_what_there_was_nothing_to_do_for() -> None:
    """No consumer of the group has a handler for the type, and nothing was ever noted of it."""
    acked = replace(HELD, state="acked")
    assert said(acked, report(version=0))[0] == "no_handler"
    assert said(acked, report(version=2))[0] == "acked"
    assert said(replace(acked, history=(LINE,)), report(version=0))[0] == "acked"
    assert said(acked, NOBODY)[0] == "acked"


def test_what_is_delayed() -> None:
    """Until it is due; then it is late, and a consumer has to move it."""
    late = replace(UNREAD, state="waiting", where="due", due_in=-0.1)
    assert delayed(replace(late, due_in=60.0), ALIVE).cause == ""
    assert delayed(replace(late, due_in=0.0), ALIVE).cause == ""
    assert delayed(late, ALIVE).cause == "overdue"
    assert delayed(late, NOBODY).cause == "no_consumer"
