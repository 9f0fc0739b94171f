"""The command `streams demo`, from an empty directory to an exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streams.cli.exit import EXIT_BROKEN_PIPE
from streams.errors import APPLICATION, StreamsError, extra

if TYPE_CHECKING:
    from .display import Display
    from .environment import Environment
    from .results import Results

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
        from . import scenario_business  # noqa: F401 - what it imports is in that extra, and is needed much later
        from .environment import Environment

    directory = _directory(dir)
    try:
        code = asyncio.run(_run(Environment(directory, **(_stores() if with_env else {})), keep=keep, json=json))
    except BrokenPipeError:
        raise typer.Exit(EXIT_BROKEN_PIPE) from None
    finally:
        with suppress(OSError):
            directory.rmdir()  # empty when nothing could be started
    raise typer.Exit(code)


def _stores() -> dict[str, str]:
    return {name: os.environ.get(name.upper(), "") for name in ("database_url", "storage_url")}


def _stop(directory: Path) -> None:
    from . import reaper

    names = reaper.stop(directory.resolve())
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


async def _run(environment: Environment, *, keep: bool, json: bool) -> int:
    from streams.cli.output import console

    from .display import Display

    interrupted = asyncio.Event()
    caught: list[int] = []

    def interrupt(number: int) -> None:
        caught.append(number)
        interrupted.set()

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    display = Display(console(stderr=json))
    try:
        running = asyncio.create_task(_run_and_report(environment, display, keep=keep, json=json))
        waiting = asyncio.create_task(interrupted.wait())
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        while not running.done():
            # Again and again: before Python 3.12 a call of redis-py may swallow the first one.
            running.cancel()
            await asyncio.wait([running], timeout=0.2)
        if not running.cancelled():
            return running.result()
    finally:
        environment.stop()  # unless it was left up on purpose
    display.show(
        f"\ninterrupted after {display.seconds:.0f} s; nothing is left running, the logs are in {environment.logs}"
    )
    return 128 + caught[0]


async def _run_and_report(environment: Environment, display: Display, *, keep: bool, json: bool) -> int:
    from . import summary
    from .check import Check

    results, failure = await _run_scenario(environment, display)
    checks = list(results.checks)
    if failure:
        checks.append(Check("the demo plays to its end", held=False, found=failure))
    up = keep and all(check.held for check in checks)
    environment.drain()
    if up:
        for _ in range(2):
            environment.start_consumer(traced=False)
        for name in ("inventory", "file", "report"):
            environment.start_processor(name, traced=False)
        environment.leave_up()
    else:
        environment.stop()
        left = environment.running()
        checks.append(Check("nothing is left running", held=not left, found=", ".join(left)))
    held = all(check.held for check in checks)
    summary.show_fates(results, environment, display)
    summary.show_state(results, display)
    summary.show_results(results, environment, display, kept=up)
    summary.show_claims(checks, display)
    summary.show_places(environment, display, kept=up)
    display.show(summary.verdict(checks, environment, display.seconds))
    if json:
        _write(results, checks, environment, display.seconds)
    return 0 if held else 1


async def _run_scenario(environment: Environment, display: Display) -> tuple[Results, str]:
    from observability import flush, instrument
    from streams import Streams

    from . import events as demo_events
    from .check import NotInTime
    from .scenario_mail import MailScenario
    from .summary import near

    display.show(f"Everything is written to {near(environment.directory)}")
    with display.moving():
        display.step("A Redis, a mail server and a trace receiver start")
        environment.start(demo_events.misbehaving())
        display.say(environment.redis.describe().partition(" in ")[0])
        display.say(f"a mail server on this machine ({environment.smtp_url}) that will misbehave")
        seed = environment.start_business()
        display.say("a business database, which is being filled, and a supplier's system")
        # This process takes part as well, and must not use what the caller has set for another Redis.
        ours = environment.variables()
        os.environ.clear()
        os.environ.update(ours)
        async with Streams(middleware=instrument("planning-bord-demo")) as streams:
            scenario = MailScenario(environment, streams, display, seed)
            try:
                await scenario.run()
            except (NotInTime, StreamsError) as error:
                return scenario.results, str(error)
            finally:
                await asyncio.to_thread(flush, 2.0)
            return scenario.results, ""


def _write(results: Results, checks: list[Any], environment: Environment, seconds: float) -> None:
    from dataclasses import asdict

    from streams.cli.output import write_json

    from . import summary

    write_json(
        {
            "ok": all(check.held for check in checks),
            "seconds": round(seconds, 1),
            "directory": str(environment.directory),
            "mails": str(environment.mail_log.directory),
            "redis_url": environment.redis.url,
            "running": environment.running(),
            "events": summary.fates(results, environment),
            "business": results.business,
            "files": {name: str(file) for name, file in results.files.items()},
            "links": results.links,
            "in_flight_at_the_kill": results.in_flight,
            "duplicates": environment.mail_log.duplicates(results.crowd),
            "checks": [asdict(check) for check in checks],
        }
    )
