"""dead: the dead letters of a group: listed, delivered again, or dropped for good."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from streams.cli.body import body, body_text
from streams.cli.commands.dead_edit import list_kinds, replay_in_stages
from streams.cli.exit import Usage, run
from streams.cli.output import brief, console, json_array, note, pairs, print_rich, row, table, write, write_json
from streams.cli.session import opened
from streams.cli.times import parse_age, parse_duration
from streams.durations import format_duration

if TYPE_CHECKING:
    from streams.dead_letters.dead_letters import DeadLetters, Tally
    from streams.dead_letters.search import Filter
    from streams.messages.letter import Letter

_ROWS: Final = 50

dead = typer.Typer(help="Shows, replays, discards dead letters.", add_completion=False, rich_markup_mode=None)

Group = Annotated[str, typer.Argument(help="The group, such as email.", metavar="GROUP")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of dead letters, or of their events.", metavar="ID...")]
Type = Annotated[str | None, typer.Option("--type", help="Only events of this type.")]
Error = Annotated[str | None, typer.Option("--error", help="Only with this in the error text.", metavar="TEXT")]
Reason = Annotated[
    str | None,
    typer.Option(
        "--reason", help="Only failed, rejected, invalid, unknown_type, too_large, unsupported or crashed ones."
    ),
]
Fingerprint = Annotated[str | None, typer.Option("--fingerprint", help="Only this kind of failure (see --group-by).")]
Since = Annotated[str, typer.Option("--since", help="Dead-lettered within this time: 1h, 2d.", metavar="TIME")]
OlderThan = Annotated[str, typer.Option("--older-than", help="Dead-lettered longer ago: 7d.", metavar="TIME")]
Limit = Annotated[int | None, typer.Option(min=1, help="The maximum number, oldest first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count them.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dead.command("ls")
def ls(
    group: Group,
    type: Type = None,
    error: Error = None,
    reason: Reason = None,
    since: Since = "",
    older_than: OlderThan = "",
    fingerprint: Fingerprint = None,
    group_by: Annotated[Literal["fingerprint"] | None, typer.Option(help="Count by kind of failure.")] = None,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """Lists dead letters, oldest first.

    The first 50 as a table; with --json all.

    streams dead ls email --type UserRegistered --since 1d
    """
    only = _filter(type, error, reason, since, older_than, fingerprint)
    run(list_kinds(group, only, json) if group_by else _ls(group, only, limit, json))


async def _ls(group: str, only: Filter, limit: int | None, json: bool) -> None:
    from streams.redis.entries import milliseconds

    async with opened() as streams:
        letters = streams.dead_letters(group)
        await letters.count()  # an unknown group is said before the array begins
        if json:
            with json_array() as item:
                async for letter in letters.ls(only, limit=limit):
                    item(letter.as_json())
            return
        made = table(
            "ID", "TYPE", "REASON", "TRIES", "DEAD SINCE", "ERROR",
            right=("TRIES",), whole=("ID", "TYPE", "REASON", "DEAD SINCE"),
        )  # fmt: skip
        rows = limit or _ROWS
        async for letter in letters.ls(only, limit=rows + (limit is None)):
            if made.row_count == rows:
                note(f"the oldest {rows}; there are more (--limit N, or a filter)")
                break
            age = f"{format_duration(max(0.0, time.time() - milliseconds(letter.entry_id) / 1000))} ago"
            row(made, letter.id, brief(letter.type), letter.reason, letter.attempts, age, letter.error)
        if made.row_count:
            print_rich(made)
        else:
            note(f"{group} has no such dead letters" if await letters.count() else f"{group} has no dead letters")


@dead.command("show")
def show(
    group: Group,
    id: Annotated[str, typer.Argument(help="The dead letter's id, or its event's.", metavar="ID")],
    reveal: Annotated[bool, typer.Option("--reveal", help="Show personal data too.")] = False,
    json: Json = False,
) -> None:
    """Shows one dead letter, whole.

    The reason, every error, the traceback, and the message.

    streams dead show email 1763960000000-0
    """
    run(_show(group, id, reveal, json))


async def _show(group: str, id: str, reveal: bool, json: bool) -> None:
    async with opened() as streams:
        letter = await streams.dead_letters(group).show(id)
        origin = streams.partitions[letter.partition].keys.short(letter.carried.origin)
    if json:
        shown = body(letter.type, letter.data, reveal=reveal)
        write_json(letter.as_json() | {"traceback": letter.traceback, "data": shown})
        return
    print_rich(pairs(_lines(letter, origin, reveal), several=("traceback",)))
    if letter.carried.errors:
        write()
        made = table("ATTEMPT", "AT", "ERROR", right=("ATTEMPT",), whole=("AT",))
        for failure in letter.carried.errors:
            if isinstance(failure, dict):
                at = str(failure.get("at", ""))[:23].replace("T", " ")
                row(made, failure.get("attempt", ""), at, failure.get("error", ""))
        print_rich(made)
    write()
    write(f"deliver it again:  streams dead replay {letter.group} {letter.id}")


def _lines(letter: Letter, origin: str, reveal: bool) -> list[tuple[str, object]]:
    message, size = letter.message, letter.left_behind
    left = f"{size:,} bytes, which are in {origin or 'its stream'} as long as that keeps them" if size else ""
    return [
        ("id", letter.id),
        ("event", letter.event_id),
        ("type", f"{letter.type} (version {message.version})"),
        ("reason", letter.reason),
        ("error", letter.error),
        ("attempts", letter.attempts),
        ("deliveries", letter.deliveries),
        ("replays", letter.carried.replays or None),
        ("fingerprint", letter.fingerprint),
        ("first failed", letter.first_failed_at),
        ("last failed", letter.last_failed_at),
        ("came from", origin),
        ("source", message.source),
        ("made", message.time),
        ("key", message.key),
        ("cause", message.causation_id),
        ("trace", message.traceparent),
        ("data", left or body_text(letter.type, letter.data, reveal=reveal)),
        ("traceback", letter.traceback.rstrip()),
    ]


@dead.command("replay")
def replay(
    group: Group,
    ids: Ids = None,
    type: Type = None,
    error: Error = None,
    reason: Reason = None,
    since: Since = "",
    older_than: OlderThan = "",
    fingerprint: Fingerprint = None,
    limit: Limit = None,
    rate: Annotated[float | None, typer.Option(help="The maximum number per second.", metavar="N")] = None,
    canary: Annotated[
        bool, typer.Option("--canary", help="Replay one, then ten, then the rest; stop at a failure.")
    ] = False,
    within: Annotated[str, typer.Option(help="The time limit of a stage of --canary.", metavar="TIME")] = "2m",
    force: Annotated[bool, typer.Option("--force", help="Include parked dead letters.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Delivers dead letters again.

    To this group only; their attempt counters start from zero. Replays the named ones, else those that match, else
    (after asking) all. A letter that fails again meanwhile is not replayed again; parked ones are skipped.

    streams dead replay email --error "mailbox full" --rate 50
    """
    if rate is not None and not rate > 0:
        raise Usage(f"--rate {rate:g} must be above 0 (dead letters a second)")
    only = _filter(type, error, reason, since, older_than, fingerprint)
    options: dict[str, Any] = {"rate": rate, "force": force}
    if not canary or dry_run:
        run(_act("replay", "replayed", group, ids or [], only, limit, dry_run, yes, json, options))
    elif ids:
        raise Usage("--canary takes filters, not ids")
    else:
        run(replay_in_stages(group, only, limit=limit, within=parse_duration(within, "--within"), json=json, **options))


@dead.command("discard")
def discard(
    group: Group,
    ids: Ids = None,
    type: Type = None,
    error: Error = None,
    reason: Reason = None,
    since: Since = "",
    older_than: OlderThan = "",
    fingerprint: Fingerprint = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Deletes dead letters for good.

    The group's history keeps a line of each.

    streams dead discard email --older-than 30d --dry-run
    """
    only = _filter(type, error, reason, since, older_than, fingerprint)
    run(_act("discard", "discarded", group, ids or [], only, limit, dry_run, yes, json, {}))


async def _act(
    command: str,
    past: str,
    group: str,
    ids: list[str],
    only: Filter,
    limit: int | None,
    dry_run: bool,
    yes: bool,
    json: bool,
    options: dict[str, Any],
) -> None:
    from streams.dead_letters.search import EVERYTHING

    if ids and (only != EVERYTHING or limit):
        raise Usage("give ids or filters, not both")
    async with opened() as streams:
        letters = streams.dead_letters(group)
        if not (ids or dry_run or yes or only != EVERYTHING):
            await _confirm(letters, command, limit)
        with ExitStack() as stack:
            act = letters.discard if command == "discard" else letters.replay
            tally = await act(ids, only, limit=limit, dry_run=dry_run, progress=_progress(stack, past), **options)
    if json:
        parked = {} if command == "discard" else {"parked": tally.parked}
        write_json({"group": group, "matched": tally.matched, past: tally.done, **parked, "dry_run": dry_run})
        return
    gone = tally.matched - tally.done - tally.parked
    parked_text = (
        f"; {tally.parked:,} are parked (replayed too often: give their ids, or --force)" if tally.parked else ""
    )
    if dry_run:
        write(f"would {command} {gone:,} of {group}{parked_text}")
    else:
        write(f"{past} {tally.done:,} of {group}" + (f"; {gone:,} were gone already" if gone else "") + parked_text)


async def _confirm(letters: DeadLetters, command: str, limit: int | None) -> None:
    count = await letters.count()
    count = count if limit is None else min(count, limit)
    if count <= 1:
        return
    if not sys.stdin.isatty():
        raise Usage(f"this would {command} {count:,} dead letters of {letters.group}; give ids, a filter, or --yes")
    if not typer.confirm(f"{command} {count:,} dead letters of {letters.group}?", err=True):
        raise typer.Abort


def _progress(stack: ExitStack, past: str) -> Any:
    """A count on stderr when that is a terminal."""
    if not sys.stderr.isatty():
        return None
    line = stack.enter_context(console(stderr=True).status(past))

    def show(tally: Tally) -> None:
        line.update(f"{past} {tally.done:,} of {tally.matched:,} seen")

    return show


def _filter(
    type: str | None, error: str | None, reason: str | None, since: str, older_than: str, fingerprint: str | None
) -> Filter:
    from streams.dead_letters.search import Filter

    return Filter(
        type,
        error,
        reason,
        parse_age(since, "--since") if since else None,
        parse_age(older_than, "--older-than") if older_than else None,
        fingerprint,
    )
