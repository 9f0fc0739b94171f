"""Play: the command `streams demo`, from an empty directory to an exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streams.cli.exit import EXIT_NOBODY_READS
from streams.errors import APPLICATION, StreamsError, extra

if TYPE_CHECKING:
    from processors.demo.cast import Cast
    from processors.demo.screen import Screen
    from processors.demo.told import Told

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything up afterwards.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object; what is seen goes to stderr.")] = False,
    dir: Annotated[Path | None, typer.Option("--dir", help="Where to write; made anew unless given.")] = None,
    with_env: Annotated[
        bool, typer.Option("--with-env", help="Use DATABASE_URL (empty) and STORAGE_URL for the business, as set.")
    ] = False,
    stop: Annotated[
        Path | None,
        typer.Option("--stop", help="End what a demo with --keep left up in this directory.", metavar="DIR"),
    ] = None,
) -> None:
    """Shows it all, on a Redis of its own.

    Publishes, fails, kills, retries, replays; ends with what happened to each event. Exits 0 when all that it says
    was checked and held.

    streams demo --keep
    """
    if stop is not None:
        _stop(stop)
        return
    with extra("demo", of=APPLICATION, for_="streams demo"):
        import processors.demo.business  # noqa: F401 - what it imports is in that extra, and is needed much later
        from processors.demo.cast import Cast

    directory = _directory(dir)
    try:
        code = asyncio.run(_play(Cast(directory, **(_stores() if with_env else {})), keep=keep, json=json))
    except BrokenPipeError:
        raise typer.Exit(EXIT_NOBODY_READS) from None
    finally:
        with suppress(OSError):
            directory.rmdir()  # empty when nothing could be started
    raise typer.Exit(code)


def _stores() -> dict[str, str]:
    return {name: os.environ.get(name.upper(), "") for name in ("database_url", "storage_url")}


def _stop(directory: Path) -> None:
    from processors.demo import guard

    names = guard.stop(directory.resolve())
    typer.echo(f"ended {', '.join(names)}" if names else "nothing was running any more")


def _directory(chosen: Path | None) -> Path:
    """An empty directory that only its owner may enter: the mails and the log are in it."""
    try:
        if chosen is not None:
            chosen.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(chosen.iterdir()):
                raise StreamsError(f"{chosen} is not empty; name a new directory")
            return chosen.resolve()
        home = Path(os.environ.get("STREAMS_HOME") or ".streams")
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="demo-", dir=home)).resolve()
    except OSError as error:
        raise StreamsError(f"{error.filename} cannot be used ({error.strerror}); name another with --dir") from None


async def _play(cast: Cast, *, keep: bool, json: bool) -> int:
    from processors.demo.screen import Screen
    from streams.cli.output import console

    interrupted = asyncio.Event()
    caught: list[int] = []

    def interrupt(number: int) -> None:
        caught.append(number)
        interrupted.set()

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    screen = Screen(console(stderr=json))
    try:
        performing = asyncio.create_task(_perform(cast, screen, keep=keep, json=json))
        waiting = asyncio.create_task(interrupted.wait())
        await asyncio.wait([performing, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        while not performing.done():
            # Again and again: before Python 3.12 a call of redis-py may swallow the first one.
            performing.cancel()
            await asyncio.wait([performing], timeout=0.2)
        if not performing.cancelled():
            return performing.result()
    finally:
        cast.stop()  # unless it was left up on purpose
    screen.show(f"\ninterrupted after {screen.seconds:.0f} s; nothing is left running, the logs are in {cast.logs}")
    return 128 + caught[0]


async def _perform(cast: Cast, screen: Screen, *, keep: bool, json: bool) -> int:
    from processors.demo import closing
    from processors.demo.claim import Claim

    told, failure = await _tell(cast, screen)
    claims = list(told.claims)
    if failure:
        claims.append(Claim("the demo plays to its end", held=False, found=failure))
    up = keep and all(claim.held for claim in claims)
    cast.drain()
    if up:
        for _ in range(2):
            cast.start_consumer(traced=False)
        for name in ("inventory", "file", "report"):
            cast.start_processor(name, traced=False)
        cast.leave_up()
    else:
        cast.stop()
        left = cast.running()
        claims.append(Claim("nothing is left running", held=not left, found=", ".join(left)))
    held = all(claim.held for claim in claims)
    closing.show_fates(told, cast, screen)
    closing.show_state(told, screen)
    closing.show_results(told, cast, screen, kept=up)
    closing.show_claims(claims, screen)
    closing.show_places(cast, screen, kept=up)
    screen.show(closing.verdict(claims, cast, screen.seconds))
    if json:
        _write(told, claims, cast, screen.seconds)
    return 0 if held else 1


async def _tell(cast: Cast, screen: Screen) -> tuple[Told, str]:
    from observability import flush, instrument
    from processors.demo import programme
    from processors.demo.claim import NotInTime
    from processors.demo.closing import near
    from processors.demo.story import Story
    from streams import Streams

    screen.show(f"Everything is written to {near(cast.directory)}")
    with screen.moving():
        screen.act("A Redis, a mail server and a trace receiver start")
        cast.start(programme.misbehaving())
        screen.say(cast.redis.describe().partition(" in ")[0])
        screen.say(f"a mail server on this machine ({cast.smtp_url}) that will misbehave")
        seed = cast.start_business()
        screen.say("a business database, which is being filled, and a supplier's system")
        # This process takes part as well, and must not use what the caller has set for another Redis.
        ours = cast.environment()
        os.environ.clear()
        os.environ.update(ours)
        async with Streams(middleware=instrument("planning-bord-demo")) as streams:
            story = Story(cast, streams, screen, seed)
            try:
                await story.play()
            except (NotInTime, StreamsError) as error:
                return story.told, str(error)
            finally:
                await asyncio.to_thread(flush, 2.0)
            return story.told, ""


def _write(told: Told, claims: list[Any], cast: Cast, seconds: float) -> None:
    from dataclasses import asdict

    from processors.demo import closing
    from streams.cli.output import write_json

    write_json(
        {
            "ok": all(claim.held for claim in claims),
            "seconds": round(seconds, 1),
            "directory": str(cast.directory),
            "mails": str(cast.mailbox.directory),
            "redis_url": cast.redis.url,
            "running": cast.running(),
            "events": closing.fates(told, cast),
            "business": told.business,
            "files": {name: str(file) for name, file in told.files.items()},
            "links": told.links,
            "in_flight_at_the_kill": told.in_flight,
            "duplicates": cast.mailbox.duplicates(told.crowd),
            "checks": [asdict(claim) for claim in claims],
        }
    )
