"""Explanation: why one group is not done with an event, in one sentence, and the command that is the remedy. Pure.

The causes and their sentences are the table in docs/operate/why.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streams.durations import format_duration
from streams.inspecting.states import Cause, Facts, Reason
from streams.phrases import counted
from streams.redis.untrusted import is_entry_id

if TYPE_CHECKING:
    from streams.inspecting.group_status import GroupStatus


def explain(group: GroupStatus, facts: Facts) -> Reason:
    """Says why the group is not done with the event."""
    match group.state:
        case "running":
            return _held(group, facts)
        case "retrying" | "snoozed" if group.where == "due":
            return _waits(group, facts)
        case "unread" | "retrying" | "snoozed":
            return _unread(group, facts)
        case "queued" if group.queued_behind == "limit":
            return _at_limit(group, facts)
        case "queued":
            text = f"{group.group} handles one message of a key at a time: {group.reason}"
            before = next((word for word in group.reason.split() if is_entry_id(word)), facts.id)
            return _stopped(group, facts) or _because(group, "key", text, f"streams doctor why {before}")
        case _:
            return _over(group, facts)


def delayed(group: GroupStatus, facts: Facts) -> Reason:
    """Why a delayed event is in no group yet."""
    due_in = group.due_in or 0.0
    if due_in < 0:
        return _overdue(group, due_in, facts)
    text = f"it is delayed: due in {format_duration(due_in)}, for every group that reads {facts.stream}"
    return _because(group, "", text, f"wait, or cancel it: streams cancel {facts.id}")


def _because(group: GroupStatus, cause: Cause, why: str, remedy: str = "") -> Reason:
    return Reason(group.group, group.state, cause, why, remedy)


def _over(group: GroupStatus, facts: Facts) -> Reason:
    name = group.group
    last = group.history[-1] if group.history else {}
    by = f" by {last['consumer']}" if last.get("consumer") else ""
    at = f" at {last['at'][:19].replace('T', ' ')} UTC" if last.get("at") else ""
    match group.state:
        case "dead" if group.dead_letter:
            tries = counted(group.attempts, "attempt")
            text = f"{name} dead-lettered it after {tries} ({group.reason}): {group.error[:200]}"
            if group.reason == "crashed":
                text = f"it is in the dead letters of {name}: {group.error[:200]}"
            return _because(group, "", text, f"streams dead show {name} {group.dead_letter}")
        case "dead":
            gone = f"was discarded{by}{at}" if last.get("outcome") == "discarded" else "is gone"
            return _because(group, "discarded", f"{name} dead-lettered it, and the dead letter {gone}")
        case "cancelled":
            return _because(group, "", f"it was cancelled{by}{at}", "publish it anew, if that was wrong")
        case "expired":
            text = f"it expired before {name} began it: {group.reason}"
            return _because(group, "", text, f"start more consumers of {name}, or publish with a longer expires=")
        case "skipped":
            text = f"{name} began at a later entry of {facts.stream} than this event: it never received it"
            return _because(group, "missed", text, f"streams replay {facts.stream.partition(':')[0]} --group {name}")
    handled = [report.version for report in facts.reports.values()]
    if handled and not any(handled) and not group.history:
        text = f"{name} has no handler for {facts.type}: there was nothing to do"
        return replace(_because(group, "no_handler", text), state="skipped")
    tries = f" at the {_nth(group.attempts)} attempt" if group.attempts > 1 else ""
    return _because(group, "", f"{name} is done with it{tries}")


def _held(group: GroupStatus, facts: Facts) -> Reason:
    """It is delivered: somebody has it."""
    name, who, idle = group.group, group.consumer, group.idle or 0.0
    if who not in facts.alive:
        return _left_behind(group, facts)
    report = facts.reports.get(who)
    if report is None:
        age = facts.beats[who]
        text = f"{who} holds it and does not answer: a handler blocks its event loop, or the process was stopped"
        remedy = f"look at its handlers (its last heartbeat was {format_duration(age)} ago), or restart it"
        if age > facts.lease / 2:
            text = f"{who} holds it and is silent for {format_duration(age)} (stopped or cut off)"
            remedy = f"wait {format_duration(max(0.0, facts.lease - idle))} until its lease ends, or restart it"
        return _because(group, "unresponsive", text, remedy)
    if facts.cancelled:
        return _because(group, "cancelling", f"it was cancelled while {who} had it: its handler is being stopped")
    match report.phase:
        case "running":
            so_far, limit = format_duration(report.seconds), format_duration(report.limit)
            text = f"{who} is handling it, for {so_far} of at most {limit}{_tries(group)}"
            if report.seconds <= report.limit + facts.lease / 4:
                return _because(group, "", text, f"wait, or cancel it: streams cancel {facts.id}")
            why = (
                "in a thread, which cannot be interrupted" if report.in_thread else "and its handler ignores its cancel"
            )
            return _because(group, "", f"{text}, {why}", f"wait until it ends, or restart {who}")
        case "settling" | "":
            return _because(group, "", f"{who} has just handled it, or is about to begin", "look again")
        case "suspect":
            died = f"its process died {counted(_crashes(group), 'time')} while handling it"
            text = f"{died} (dead-lettered at {facts.deliveries}); {who} runs it by itself when all else is done"
            return _because(group, "suspect", text, f"see what it does to the process: streams event {facts.id}")
    stopped = _stopped(group, facts)
    if stopped is not None:
        return stopped
    if report.stuck and report.quiet > facts.lease:
        text = f"{who} holds it, runs nothing, and has begun and settled nothing for {format_duration(report.quiet)}"
        return _because(group, "stuck", text, f"restart {who}: another takes it over")
    reserved = f", {report.reserved} reserved for high" if report.reserved else ""
    slots = (
        f"{report.running} of {report.concurrency} slots{reserved}, the longest for {format_duration(report.longest)}"
    )
    text = f"{who} has it in memory, behind the messages that it runs now ({slots})"
    return _because(group, "ready", text, f"wait, or start another: {_start(name)}")


def _left_behind(group: GroupStatus, facts: Facts) -> Reason:
    name, who, idle = group.group, group.consumer, group.idle or 0.0
    age = facts.beats.get(who)
    since = f"is silent for {format_duration(age)}" if age is not None else "is gone"
    crashes = f"; it is its {_nth(group.deliveries)} delivery of {facts.deliveries}" if group.deliveries > 1 else ""
    if not facts.alive:
        text = f"{who}, which had it, {since}, and no other consumer of {name} is alive to take it over{crashes}"
        return _because(group, "silent", text, _start(name))
    left = max(0.0, facts.lease - idle)
    ends = f"its lease ends in {format_duration(left)}, then" if left else "its lease has ended:"
    count = len(facts.alive)
    text = f"{who}, which had it, {since}; {ends} another takes it over ({counted(count, 'consumer')} alive){crashes}"
    return _because(group, "silent", text, f"wait {format_duration(left + facts.lease / 4)}")


def _waits(group: GroupStatus, facts: Facts) -> Reason:
    name, due = group.group, group.due_in or 0.0
    if due < 0:
        return _overdue(group, due, facts)
    soon = f"it is tried again in {format_duration(due)}"
    match group.reason.partition(":")[0]:
        case "unavailable":
            detail = group.reason.partition(":")[2].strip()
            text = f"the breaker of {name} opened, something it needs does not answer ({detail}); {soon}, not counted"
            return _because(group, "breaker", text, f"repair what does not answer: {detail}")
        case "unsupported":
            detail = group.reason.partition(":")[2].strip()
            remedy = f"deploy the code of {name} that knows version {facts.version}"
            return _because(group, "unsupported", f"{detail}; {soon}, not counted", remedy)
        case reason if reason.startswith("limited"):
            return _at_limit(group, facts)
    if group.state == "snoozed":
        return _because(
            group, "", f"its handler snoozed it ({group.reason}); {soon}", f"wait, or streams cancel {facts.id}"
        )
    text = f"attempt {group.attempts} failed ({group.error[:200]}); {soon}"
    return _because(group, "", text, f"wait, or fix the cause; streams event {facts.id} shows every error")


def _at_limit(group: GroupStatus, facts: Facts) -> Reason:
    stopped = _stopped(group, facts)
    if stopped is not None:
        return stopped
    again = f"; it is tried again in {format_duration(group.due_in)}" if group.due_in else ""
    text = f"{group.group} is at its limit ({group.reason}){again}, not counted"
    return _because(group, "limit", text, "wait, or raise the limit")


def _overdue(group: GroupStatus, due: float, facts: Facts) -> Reason:
    name, late = group.group, f"it is due since {format_duration(-due)}"
    if not facts.alive:
        return _because(group, "no_consumer", f"{late}, and {_nobody(name, facts)}", _start(name))
    return _because(
        group, "overdue", f"{late}, and no consumer has moved it yet", "look again; if it stays: streams doctor"
    )


def _unread(group: GroupStatus, facts: Facts) -> Reason:
    """It stands in a stream or in the inbox, and nobody has been given it."""
    name = group.group
    if not facts.reads and facts.alive:
        text = f"{name} was on {facts.stream} once, but what runs of it has no handler for anything there"
        return _because(group, "unsubscribed", text, "deploy a handler for it")
    stopped = _stopped(group, facts)
    if stopped is not None:
        return stopped
    count = len(facts.alive)
    if facts.alive and not facts.reports:
        beat = format_duration(max(facts.beats[who] for who in facts.alive))
        text = f"no consumer of {name} answers ({count} alive, last heartbeat {beat} ago): a handler blocks its"
        remedy = f"look at its handlers, or restart it; or {_start(name)}"
        return _because(group, "unresponsive", f"{text} event loop, or the process was stopped", remedy)
    behind = ""
    if facts.ahead:
        behind = f"; {facts.ahead:,} unread are before it"
        if facts.rate > 0:
            behind += f", {facts.rate:,.0f} a second are read: about {format_duration(facts.ahead / facts.rate)}"
    if all(report.is_full for report in facts.reports.values()) and not facts.rate:
        longest = max(report.longest for report in facts.reports.values())
        slots = sum(report.concurrency for report in facts.reports.values())
        reserved = sum(report.reserved for report in facts.reports.values())
        kept = f" but {reserved} reserved for high" if reserved else ""
        busy = f"all {counted(slots, 'slot')} of {name}{kept} are busy, the longest for {format_duration(longest)}"
        text = f"unread: {busy}{behind}"
        return _because(group, "busy", text, f"start another: {_start(name)}, or raise STREAMS_CONCURRENCY")
    if facts.ahead:
        return _because(group, "behind", f"unread{behind}", f"wait, or start another: {_start(name)}")
    return _because(group, "", f"unread: {name} is about to read it ({counted(count, 'consumer')} alive)", "look again")


def _stopped(group: GroupStatus, facts: Facts) -> Reason | None:
    """What keeps a group from beginning anything at all."""
    name = group.group
    if facts.paused:
        return _because(group, "paused", f"{name} is paused: no handler starts", f"streams resume {name}")
    if not facts.alive:
        return _because(group, "silent" if facts.beats else "no_consumer", _nobody(name, facts), _start(name))
    open_ = [report for report in facts.reports.values() if report.breaker]
    if open_ and len(open_) == len(facts.reports):
        what, again = open_[0].breaker, max(report.breaker_for for report in open_)
        text = f"the breaker of {name} is open: {what} does not answer, the next try is in {format_duration(again)}"
        return _because(group, "breaker", text, f"repair {what}; the consumers notice by themselves")
    return None


def _nobody(name: str, facts: Facts) -> str:
    if facts.beats:
        listed = ", ".join(f"{who} for {format_duration(age)}" for who, age in sorted(facts.beats.items())[:3])
        return f"every consumer of {name} is silent: {listed} (killed, stopped or cut off)"
    if facts.last_seen is not None:
        return f"no consumer of {name} runs; the last one was there {format_duration(facts.last_seen)} ago"
    return f"no consumer of {name} runs, and none ever did"


def _start(name: str) -> str:
    return f"python -m processors.{name}"


def _crashes(group: GroupStatus) -> int:
    return max(1, group.deliveries - group.attempts + 1)


def _tries(group: GroupStatus) -> str:
    return f"; it is its {_nth(group.attempts)} attempt" if group.attempts > 1 else ""


def _nth(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
