"""Session: the client of one command, with the events it may meet registered."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from streams.cli.exit import Usage
from streams.cli.output import is_of_output, note
from streams.errors import ConfigurationError, Refused, StreamsError

if TYPE_CHECKING:
    from streams.client.client import Streams
    from streams.handlers.processor import Processor
    from streams.settings import Settings

GROUP: Final = "streams.processors"
EVENTS_GROUP: Final = "streams.events"


def load_events(settings: Settings) -> None:
    """Imports the modules that register the events: those of `STREAMS_EVENTS`, or, unless it is set, those that
    installed applications name as entry points of `streams.events`. Raises `Usage` for one that cannot be imported.
    """
    source, modules = "STREAMS_EVENTS", settings.events
    if not modules:
        source = f"the entry points {EVENTS_GROUP}"
        modules = frozenset(point.value for point in entry_points(group=EVENTS_GROUP))
    for module in sorted(modules):
        try:
            importlib.import_module(module)
        except Exception as error:
            raise Usage(
                f"{source}: the module {module} cannot be imported ({error.__class__.__name__}: {error})"
            ) from error


@asynccontextmanager
async def opened() -> AsyncIterator[Streams]:
    """A client with the events registered."""
    from redis.exceptions import RedisError

    from streams.client.client import Streams
    from streams.redis.refusal import LOST, refusal
    from streams.settings import Settings

    if "structlog" in sys.modules:  # stdout is for what was asked; nothing on a command's way imports it (0.1 s)
        import structlog

        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    chosen = Settings.load()
    load_events(chosen)
    async with Streams(settings=chosen) as streams:
        try:
            yield streams
        except (*LOST, RedisError) as error:
            if is_of_output(error):
                raise
            problem = refusal(error, streams.connections.place)
            if isinstance(error, RedisError) and not isinstance(problem, Refused | ConfigurationError):
                await _check_version(streams)
            raise problem from error


async def _check_version(streams: Streams) -> None:
    """Raises `Refused` when a command failed on a Redis that is too old for it; whatever else it is stays as it was."""
    from streams.errors import Unreachable

    with contextlib.suppress(Unreachable):
        await streams.check()


def load_processors(modules: Sequence[str]) -> list[Processor]:
    """The processors of these modules, or without any those of installed packages, which announce them as entry points
    of the group `streams.processors`. Raises `StreamsError` for a module that has none.
    """
    from streams.handlers.processor import Processor

    found: list[Processor] = []
    for name in modules:
        try:
            module = importlib.import_module(name)
        except Exception as error:
            reason = f"({error.__class__.__name__}: {error})"
            raise StreamsError(f"--processor {name} cannot be imported {reason}") from error
        here = [value for value in vars(module).values() if isinstance(value, Processor)]
        if not here:
            raise StreamsError(f"--processor {name} has no processors in it")
        found += here
    for point in () if modules else entry_points(group=GROUP):
        try:
            processor = point.load()
        except Exception as error:  # noqa: BLE001 - such as one whose extra is not installed
            note(f"left out: {point.value} cannot be imported ({error.__class__.__name__}: {error})")
            continue
        found.append(processor)
    return found
