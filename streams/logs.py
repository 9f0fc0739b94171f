"""Logs: one line per event on stderr, JSON or for people, from structlog and from the standard library."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from streams.errors import ConfigurationError
from streams.events.event import Event
from streams.events.privacy import REDACTED, redact
from streams.redaction import LONGEST, redact_text

_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_FORMATS: Final = ("json", "console")
_LONGEST_VALUE: Final = 2000
_LONGEST_TRACEBACK: Final = 8000
_DEEPEST: Final = 6
_MOST_ITEMS: Final = 100

_SECRET: Final = re.compile(
    r"passw|secret|token|authori[sz]ation|credential|api_?key|cookie|private_?key|^pwd$", re.IGNORECASE
)
_KEPT: Final = re.compile(r"message_?id$", re.IGNORECASE)  # `<id@host>` looks like an address; mails are found by it

# Libraries that talk much and say little; the last one would log a line per malformed tracestate of a foreign event.
_QUIET: Final = {
    "mode": logging.WARNING,
    "faust": logging.WARNING,
    "asyncio": logging.WARNING,
    "urllib3": logging.WARNING,
    "httpx": logging.WARNING,  # a line for each request
    "httpcore": logging.WARNING,
    "opentelemetry.trace.span": logging.ERROR,
}


def configure_logs(*more: Processor) -> None:
    """Sends every log line of the process to stderr in one format.

    `LOG_LEVEL` is DEBUG, INFO (default), WARNING, ERROR or CRITICAL; `LOG_FORMAT` is json or console, by default
    console on a terminal and json elsewhere; `NO_COLOR` is honoured. `more` are structlog processors that add to each
    line. Calling it again takes the environment as it is then. Raises `ConfigurationError` for any other value.

    Values under names that look like secrets are hidden, as are mail addresses and URL logins inside text; long values
    are cut. A reader that is gone loses lines and stops nothing.
    """
    level, fmt = _level(), _format()
    shared = [*_SHARED[:1], *more, *_SHARED[1:]]
    _configure([*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter], level)
    handler = StderrHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(fmt), logger=None)
    )
    root = logging.getLogger()
    for old in [known for known in root.handlers if isinstance(known, StderrHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, root.level))


def configure_unless_done() -> None:
    """Does the same where the application has configured neither structlog nor the standard library's logging: the
    default of structlog shows the local variables of each frame.

    Where the application has handlers of its own for the standard library, they are given structlog's lines as text in
    the same form. Raises `ConfigurationError` as `configure_logs` does.
    """
    if structlog.is_configured():
        return
    if not logging.getLogger().handlers:
        configure_logs()
    else:
        _configure([*_SHARED, *_rendering(_format())[1:]], _level())


def _configure(processors: Sequence[Processor], level: str) -> None:
    structlog.configure(
        processors=processors,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=False,
    )


def _level() -> str:
    return _choice("LOG_LEVEL", "INFO", _LEVELS)


def _format() -> str:
    return _choice("LOG_FORMAT", "console" if _on_terminal() else "json", _FORMATS)


def _on_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # None when the process was started with stderr closed, or closed since
        return False


def _choice(variable: str, default: str, allowed: tuple[str, ...]) -> str:
    given = os.environ.get(variable, "").strip() or default
    for value in allowed:
        if given.lower() == value.lower():
            return value
    raise ConfigurationError(f"{variable}={given!r} is unknown; set it to one of {', '.join(allowed)}")


class StderrHandler(logging.StreamHandler[Any]):
    """Writes to whatever `sys.stderr` is now, and drops the line where it cannot be written.

    The standard handler answers a broken pipe with a traceback on the same broken pipe.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Formats and writes one record; an error in either is never the caller's."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a log line that cannot be formatted must not fail its caller
            line = f'{{"event":"log.unprintable","level":"error","error":"{type(error).__name__}"}}'
        try:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - broken pipe, full disk, closed, None, or whatever stands there instead
            return


def _rendering(fmt: str) -> list[Processor]:
    tail: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if fmt == "json":
        stack = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=10)
        return [*tail, structlog.processors.ExceptionRenderer(stack), redact_fields, _render_json]
    console = structlog.dev.ConsoleRenderer(
        colors=_on_terminal() and not os.environ.get("NO_COLOR"),
        exception_formatter=structlog.dev.plain_traceback,  # the default shows local variables: payloads
    )
    return [*tail, structlog.processors.ExceptionRenderer(_short_traceback), redact_fields, console]


def _short_traceback(exc_info: ExcInfo) -> str:
    return "".join(traceback.format_exception(*exc_info, limit=-8)).rstrip()


def redact_fields(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Hides what must not be read in a log, in the fields and however deep inside them."""
    return {name: _redacted(str(name), value, 0) for name, value in event_dict.items()}


def _redacted(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return REDACTED if _SECRET.search(name) and not isinstance(value, bool | None) else value
    if _SECRET.search(name):
        return REDACTED
    if isinstance(value, Event):
        value = redact(type(value), value.model_dump(mode="json"))
    if isinstance(value, Mapping) and depth < _DEEPEST:
        items = list(value.items())[:_MOST_ITEMS]
        return {str(key): _redacted(str(key), nested, depth + 1) for key, nested in items}
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
        return [_redacted(name, nested, depth + 1) for nested in list(value)[:_MOST_ITEMS]]
    text = value if isinstance(value, str) else _text(value)
    if _KEPT.search(name):
        return text[:_LONGEST_VALUE]
    return redact_text(text, _LONGEST_TRACEBACK if name == "exception" else _LONGEST_VALUE)


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return bytes(value[: 4 * _LONGEST_VALUE]).decode("utf-8", "replace")
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the __str__ of a caller's class may raise anything
        return f"<{type(value).__name__}>"


def _render_json(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    try:
        return orjson.dumps(event_dict).decode()
    except (TypeError, ValueError):  # an integer of more than 64 bits
        return json.dumps(event_dict, default=str)


_SHARED: Final[list[Processor]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]
# Logger: how the engine writes log lines, whatever the application has made of its logging.
#
# A line that cannot be written (a reader that is gone, a full disk, a broken processor of structlog's) is lost, and
# what the engine was about to do is done. An exception is passed on as text without values: structlog's default,
# where nothing has configured it, prints the local variables of each frame, and those are events.

_LONGEST: Final = 8000  # of a traceback


class Logger:
    """One of structlog's loggers that never raises."""

    __slots__ = ("_log",)

    def __init__(self, name: str) -> None:
        self._log = structlog.get_logger(name)

    def debug(self, event: str, **fields: Any) -> None:
        """Writes a line that is of use while something is looked for."""
        _write(self._log, "debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Writes a line about what happens in the normal course."""
        _write(self._log, "info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Writes a line about what passes by itself, or is worth a look."""
        _write(self._log, "warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Writes a line about what needs attention. For an exception give `exception=describe_traceback(error)`."""
        _write(self._log, "error", event, fields)

    def critical(self, event: str, **fields: Any) -> None:
        """Writes a line about what ends the process."""
        _write(self._log, "critical", event, fields)


def _write(log: Any, level: str, event: str, fields: dict[str, Any]) -> None:
    try:
        getattr(log, level)(event, **{name: _text_redacted(name, value) for name, value in fields.items()})
    except KeyboardInterrupt:
        raise  # Ctrl-C of an application that does not handle signals
    except BaseException:  # noqa: BLE001 - whatever it is, it is not about what the engine was doing
        return


def _text_redacted(name: str, value: Any) -> Any:
    return redact_text(value, _LONGEST if name == "exception" else LONGEST) if isinstance(value, str) else value


def get_logger(name: str) -> Logger:
    """The engine's logger of a name, which stands in front of whatever structlog is configured to when it is used."""
    return Logger(name)
