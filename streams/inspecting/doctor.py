"""Doctor: the checks of `streams doctor`, each one sentence and its remedy. Pure: a snapshot in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from streams.durations import format_duration
from streams.phrases import counted, meant

if TYPE_CHECKING:
    from streams.inspecting.consumer_report import Answer
    from streams.inspecting.damage import Damage
    from streams.inspecting.snapshot import GroupState, Snapshot
    from streams.redis.server import Server
    from streams.scheduling.admin import ScheduleState
    from streams.settings import Settings
    from streams.settling.unsupported import UnsupportedMessages

_OLD_UNREAD: Final = 60.0  # seconds an event may lie unread before somebody should look
_OVERDUE: Final = 5.0  # seconds a waiting message may be late: a mover looks every half second
_CLOCK_WARN: Final = 2.0
_CLOCK_FAIL: Final = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: `ok`, `warn` or `fail`, one sentence, and the command or setting that mends it."""

    check: str
    status: Literal["ok", "warn", "fail"]
    text: str
    remedy: str = ""


def check_settings(settings: Settings, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Settings that are not settings: a misspelt variable is otherwise ignored in silence."""
    known = {f"STREAMS_{name.upper()}" for name in type(settings).model_fields} | {"STREAMS_APP"}
    unknown = sorted(name for name in environment if name.startswith("STREAMS_") and name not in known)
    for name in unknown:
        yield Finding(
            "settings", "warn", f"{name} is set, but the engine has no such setting",
            meant(name, known, f"unset {name}, unless another program reads it"),
        )  # fmt: skip
    if settings.accept_risk:
        yield Finding(
            "settings", "warn", f"STREAMS_ACCEPT_RISK accepts {', '.join(sorted(settings.accept_risk))}", "unset it"
        )
    if not unknown and not settings.accept_risk:
        yield Finding("settings", "ok", f"the environment is understood; keys begin with {settings.app}")


def check_server(server: Server) -> Iterator[Finding]:
    """Whether the server would lose events, as the boot check judges it; an accepted risk fails here all the same."""
    from streams.redis.server import judge  # and redis-py with it, which no other command's start need wait for

    problems = {problem.check: problem for problem in judge(server.version, server.maxmemory_policy, aof=server.aof)}
    for check, text in {
        "version": f"Redis {server.version}",
        "policy": "maxmemory-policy is noeviction",
        "aof": "the append-only file is on",
    }.items():
        problem = problems.get(check)
        if problem is None:
            yield Finding(check, "ok", text)
        else:
            yield Finding(check, "fail", problem.text, problem.remedy)
    yield from _check_fsync(server)
    yield from _check_memory(server)


def _check_fsync(server: Server) -> Iterator[Finding]:
    match server.appendfsync:
        case "always":
            yield Finding("appendfsync", "ok", "every acknowledged event is on disk")
        case "everysec":
            yield Finding("appendfsync", "ok", "everysec: a crash of the machine may lose the last 2 s")
        case "no":
            yield Finding(
                "appendfsync", "warn", "no: a crash of the machine may lose the last 30 s",
                "redis-cli CONFIG SET appendfsync everysec",
            )  # fmt: skip
        case _:
            yield Finding("appendfsync", "ok", "unknown: this Redis does not show its configuration")


def _check_memory(server: Server) -> Iterator[Finding]:
    limit, what = server.maxmemory or server.system_memory, "maxmemory" if server.maxmemory else "the machine's memory"
    if not limit:
        yield Finding(
            "memory", "ok", f"{server.used_memory / 2**20:,.1f} MB used; this Redis does not report its limit"
        )
        return
    share = server.used_memory / limit
    text = f"{share:.0%} of {what} used ({server.used_memory / 2**20:,.1f} of {limit / 2**20:,.0f} MB)"
    if share < 0.75:
        yield Finding("memory", "ok", text)
    else:
        remedy = "raise maxmemory, or let the consumers catch up; a full Redis refuses new events"
        yield Finding("memory", "fail" if share >= 0.9 else "warn", text, remedy)


def check_partitions(snapshot: Snapshot) -> Finding:
    """Whether this process knows of all partitions: what it does not know of, nobody here sees or handles."""
    if snapshot.partitions == snapshot.registered:
        return Finding("partitions", "ok", f"{snapshot.partitions}, on {counted(len(snapshot.servers), 'server')}")
    return Finding(
        "partitions", "fail",
        f"STREAMS_PARTITIONS is {snapshot.partitions} here, and the app has {snapshot.registered}",
        f"set STREAMS_PARTITIONS={snapshot.registered}, or streams partitions --set {snapshot.partitions}",
    )  # fmt: skip


def check_clock(difference: float) -> Finding:
    """Compares this machine's clock with Redis': event ids and `--at` are made by this one."""
    text = f"this machine's clock is {abs(difference):.1f} s {'ahead of' if difference > 0 else 'behind'} Redis'"
    if abs(difference) < _CLOCK_WARN:
        return Finding("clock", "ok", "this machine's clock and Redis' agree")
    return Finding("clock", "fail" if abs(difference) >= _CLOCK_FAIL else "warn", text, "set both by NTP")


def check_state(snapshot: Snapshot, lease: float) -> Iterator[Finding]:
    """The groups, what waits, and who is gone."""
    if not snapshot.groups:
        yield Finding(
            "groups", "warn", "no group has ever started: published events are kept, and no group handles them",
            "python -m processors.email",
        )  # fmt: skip
    for group in snapshot.groups:
        yield _check_group(group)
        yield from _check_gone(group, lease)
        if group.dead:
            yield Finding(
                f"dead {group.name}", "warn", f"{counted(group.dead, 'dead letter')} in {group.name}",
                f"streams dead ls {group.name}",
            )  # fmt: skip
    waiting = snapshot.waiting
    late = -(waiting.next_due or 0.0)
    if waiting.overdue and late > _OVERDUE:
        yield Finding(
            "waiting", "fail",
            f"{waiting.overdue:,} of {waiting.total:,} that wait are overdue, the oldest for {format_duration(late)}",
            "start a consumer: each one moves what is due",
        )  # fmt: skip
    else:
        yield Finding("waiting", "ok", f"{waiting.total:,} wait, none is late")


def check_standstill(answers: Sequence[Answer], lease: float) -> Iterator[Finding]:
    """Consumers that are alive, hold something, and do nothing with it; and handlers that do not end."""
    for group, name, report in answers:
        check = f"consumer {name}"
        if report is None:
            yield Finding(
                check, "fail",
                f"{name} of {group} holds messages and does not answer: a handler blocks its event loop, or the "
                "process was stopped", "look at its handlers, or restart it: the others take over what it holds",
            )  # fmt: skip
        elif report.stuck and report.quiet > lease:
            yield Finding(
                check, "fail",
                f"{name} of {group} holds {counted(report.stuck, 'message')}, runs nothing, and has begun and settled "
                f"nothing for {format_duration(report.quiet)}", "restart it: the others take over what it holds",
            )  # fmt: skip
        elif report.overdue > lease:
            yield Finding(
                check, "warn",
                f"a handler of {name} of {group} is {format_duration(report.overdue)} over its timeout, and keeps its "
                "slot: it ignores its cancel, or is a plain def in a thread, which cannot be interrupted",
                "see handler.overran in its log for the place; give what it waits for a timeout, and restart it",
            )  # fmt: skip


def check_ledger(snapshot: Snapshot, settings: Settings) -> Iterator[Finding]:
    """Whether everything is accounted for, who holds back what could be removed, and how full the dead letters are."""
    gaps = list(snapshot.accounts.gaps())
    for gap in gaps:
        where = f"{gap.where} of {gap.group}" if gap.group and gap.group not in gap.where else gap.where
        if gap.count < 0:
            yield Finding(
                "ledger", "warn", f"{where} settled {-gap.count:,} more than was published: it was made anew",
                f"streams gaps --accept {gap.group or 'all'}",
            )  # fmt: skip
            continue
        between = f" between {gap.after} and {gap.before}" if gap.before else ""
        yield Finding(
            "ledger", "fail", f"{gap.count:,} in {where} are gone{between}: removed before they were settled",
            f"find the program that ran XTRIM, XDEL or DEL; then streams gaps --accept {gap.group or 'all'}",
        )  # fmt: skip
    if not gaps:
        yield Finding("ledger", "ok", "everything that was published is accounted for")
    alive = {group.name for group in snapshot.groups if group.alive}
    for account in snapshot.accounts.groups:
        since = snapshot.at.timestamp() - account.last_seen
        if account.group not in alive and account.last_seen and since > settings.abandoned_after:
            yield Finding(
                f"abandoned {account.group}", "warn",
                f"{account.group} had no consumer for {format_duration(since)}; "
                "no event it has not handled can be trimmed",
                f"start it, or streams retire {account.group}",
            )  # fmt: skip
    for group in snapshot.groups:
        most = settings.dead_most
        if most is not None and group.dead >= 0.8 * most:
            yield Finding(
                f"cap {group.name}", "fail" if group.dead >= most else "warn",
                f"{group.dead:,} dead letters of {group.name}, at most {most:,} stay (STREAMS_DEAD_MOST)",
                f"streams dead ls {group.name} --group-by fingerprint",
            )  # fmt: skip


def check_schedules(schedules: Sequence[ScheduleState]) -> Iterator[Finding]:
    """Schedules that nobody runs, that cannot be read, or whose slots were missed."""
    for schedule in schedules:
        name = f"schedule {schedule.name}"
        if schedule.problem:
            yield Finding(
                name, "fail", f"its definition is unreadable: {schedule.problem}", "deploy its processor anew"
            )
        elif schedule.paused:
            yield Finding(name, "ok", "it is paused")
        elif not schedule.alive:
            yield Finding(
                name, "fail", f"no consumer of {schedule.processor} is alive ({schedule.words})",
                f"python -m processors.{schedule.processor}, or streams schedules forget {schedule.name}",
            )  # fmt: skip
        elif schedule.missed:
            yield Finding(
                name, "warn", f"{counted(schedule.missed, 'slot')} of it passed while no consumer ran",
                "keep one consumer running at any time; see docs/concepts/schedules.md",
            )  # fmt: skip
        else:
            yield Finding(name, "ok", f"it runs ({schedule.words})")


def check_damage(found: Sequence[Damage]) -> Iterator[Finding]:
    """Keys that hold what the engine did not write."""
    for each in found:
        yield Finding("damage", "fail" if each.severe else "warn", f"{each.key}: {each.what}", each.remedy)
    if not found:
        yield Finding("damage", "ok", "every key of the engine holds what the engine wrote")


def check_newer(found: Sequence[UnsupportedMessages], settings: Settings, now: datetime) -> Iterator[Finding]:
    """What waits for a deploy: it fails nothing, but not for ever."""
    for newer in found:
        age = max(0.0, (now - newer.since).total_seconds())
        yield Finding(
            f"newer {newer.group}",
            "fail" if age > settings.unsupported_for / 2 else "warn",
            f"{counted(newer.count, 'message')} of {newer.type} version {newer.version} newer than the code that met "
            f"{'it' if newer.count == 1 else 'them'}, the oldest since {format_duration(age)}",
            f"deploy the code of {newer.group} that knows version {newer.version}; after "
            f"{format_duration(settings.unsupported_for)} they are dead letters (STREAMS_UNSUPPORTED_FOR)",
        )


def _check_group(group: GroupState) -> Finding:
    name, start = f"group {group.name}", f"python -m processors.{group.name}"
    work = f"{group.lag:,} unread, {group.pending:,} pending, {group.waiting:,} waiting"
    if not group.alive:
        if group.lag or group.pending or group.waiting:
            return Finding(name, "fail", f"no consumer of {group.name} is alive: {work}", start)
        return Finding(name, "warn", f"no consumer of {group.name} is alive; it has nothing to do now", start)
    alive = counted(group.alive, "consumer")
    if group.oldest_unread is not None and group.oldest_unread > _OLD_UNREAD:
        return Finding(
            name, "warn",
            f"{group.name} falls behind with {alive}: {work}, "
            f"the oldest unread for {format_duration(group.oldest_unread)}",
            f"start another: {start}, or raise STREAMS_CONCURRENCY",
        )  # fmt: skip
    return Finding(name, "ok", f"{alive} of {group.name} alive: {work}")


def _check_gone(group: GroupState, lease: float) -> Iterator[Finding]:
    gone = [consumer for consumer in group.consumers if not consumer.alive and consumer.pending]
    if not gone:
        return
    held = sum(consumer.pending for consumer in gone)
    text = f"{counted(len(gone), 'consumer')} of {group.name} gone, still holding {held:,}"
    if group.alive:
        yield Finding(
            f"gone {group.name}", "warn", text, f"wait {format_duration(1.25 * lease)}: the others take it over"
        )
    else:
        yield Finding(f"gone {group.name}", "fail", text, f"python -m processors.{group.name}: it takes it over")
