"""Session: the client of one command, with the events it may meet registered."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from streams.cli.ending import Usage

if TYPE_CHECKING:
    from streams.client import Streams
    from streams.settings import Settings


def settings() -> Settings:
    """The settings from the environment; raises `Usage` naming the variable that is wrong."""
    from pydantic import ValidationError

    from streams.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        told = "; ".join(f"{_variable(Settings, problem['loc'])}{problem['msg']}" for problem in problems)
        raise Usage(told.replace("Value error, ", "")) from None


def _variable(model: type[Settings], place: tuple[int | str, ...]) -> str:
    """The environment variable of a setting: by its name a person cannot find what to correct."""
    if not place:
        return ""
    field = model.model_fields.get(str(place[0]))
    choices = getattr(field.validation_alias, "choices", ()) if field else ()
    names = [choice for choice in choices if str(choice).isupper()] or [f"STREAMS_{str(place[0]).upper()}"]
    return f"{' or '.join(map(str, names))}: "


def load_events(settings: Settings) -> None:
    """Imports the modules that register the events (`STREAMS_EVENTS`); raises `Usage` for one that cannot be."""
    for module in sorted(settings.events):
        try:
            importlib.import_module(module)
        except Exception as error:
            raise Usage(
                f"STREAMS_EVENTS: the module {module} cannot be imported ({error.__class__.__name__}: {error})"
            ) from error


@asynccontextmanager
async def opened() -> AsyncIterator[Streams]:
    """A client with the events registered."""
    from redis.exceptions import NoPermissionError, RedisError

    from streams.client import Streams
    from streams.connection import LOST, refusal
    from streams.errors import StreamsError

    if "structlog" in sys.modules:  # stdout is for what was asked; nothing on a command's way imports it (0.1 s)
        import structlog

        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    chosen = settings()
    load_events(chosen)
    async with Streams(settings=chosen) as streams:
        try:
            yield streams
        except BrokenPipeError:  # stdout's, not Redis': redis-py wraps its own
            raise
        except (*LOST, NoPermissionError) as error:
            raise refusal(error, streams.connections.place) from error
        except RedisError as error:
            raise StreamsError(f"Redis at {streams.connections.place} answers: {error}") from error
