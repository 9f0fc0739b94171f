"""Logger: how the engine writes log lines, whatever the application has made of its logging.

A line that cannot be written (a reader that is gone, a full disk, a broken processor of structlog's) is lost, and what
the engine was about to do is done. An exception is handed over as text without values: structlog's default, where
nothing has configured it, prints the local variables of each frame, and those are events.
"""

from __future__ import annotations

from typing import Any, Final

import structlog

from streams.redaction import ERROR_LENGTH, redact_text

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
        getattr(log, level)(event, **{name: _redacted(name, value) for name, value in fields.items()})
    except KeyboardInterrupt:
        raise  # Ctrl-C of an application that does not handle signals
    except BaseException:  # noqa: BLE001 - whatever it is, it is not about what the engine was doing
        return


def _redacted(name: str, value: Any) -> Any:
    return redact_text(value, _LONGEST if name == "exception" else ERROR_LENGTH) if isinstance(value, str) else value


def get_logger(name: str) -> Logger:
    """The engine's logger of a name, which stands in front of whatever structlog is configured to when it is used."""
    return Logger(name)
