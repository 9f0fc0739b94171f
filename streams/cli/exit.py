"""Exit: how a command ends: its exit code, and one line on stderr that says what to do. It never shows a traceback."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, Final, NoReturn, TypeVar

import typer

from streams.cli.output import discard_stdout, is_of_output, open_missing, safe
from streams.errors import (
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    EXIT_USAGE,
    ConfigurationError,
    Refused,
    StreamsError,
)

EXIT_FAILED: Final = 1
EXIT_BROKEN_PIPE: Final = 141  # what a shell reports for a process that SIGPIPE ended

T = TypeVar("T")


class Usage(StreamsError):
    """What was typed, or set in the environment, is invalid; exit code 2."""


def ending(command: Any, arguments: list[str] | None = None) -> int:
    """Runs a typer command and returns its exit code, having said on stderr what went wrong."""
    open_missing()
    try:
        _must_be_text(sys.argv[1:] if arguments is None else arguments)
        code = command.main(args=arguments, prog_name="streams", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _broken_pipe()
    except SystemExit as exit:  # typer's own answer to a broken pipe, or a command of another package
        return exit.code if isinstance(exit.code, int) else EXIT_FAILED if exit.code else 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever it is, the user gets one line
        return _explain(error)
    return code if isinstance(code, int) else 0


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a command's coroutine; Ctrl-C ends it at once, also while it waits for input."""
    # asyncio.run would cancel the task at the first Ctrl-C, which a blocked read of stdin does not notice.
    signal.signal(signal.SIGINT, _interrupted)
    try:
        result = asyncio.run(work)
        sys.stdout.flush()
    except BrokenPipeError:
        raise typer.Exit(_broken_pipe()) from None
    return result


def _must_be_text(arguments: Sequence[str]) -> None:
    for number, argument in enumerate(arguments, 1):
        try:
            argument.encode()
        except UnicodeEncodeError:  # bytes that the terminal or a script gave in another encoding
            raise Usage(f"argument {number} ({argument[:40]!a}) is not UTF-8") from None


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _broken_pipe() -> int:
    discard_stdout(sys.stdout)
    return EXIT_BROKEN_PIPE


def _explain(error: Exception) -> int:
    text, code = _text_and_code(error)
    sys.stderr.write(f"error: {safe(' '.join(text.split()))}\n")
    return code


def _text_and_code(error: Exception) -> tuple[str, int]:
    match error:
        case Refused():
            return str(error), EXIT_REFUSED
        case Usage() | ConfigurationError():
            return str(error), EXIT_USAGE
        case StreamsError():
            return str(error), EXIT_FAILED
        case OSError() if is_of_output(error):
            discard_stdout(sys.stdout)
            return f"the output cannot be written: {error.strerror}", EXIT_FAILED
        case typer.TyperException():
            context = getattr(error, "ctx", None)
            path = context.command_path if context else "streams"
            return f"{error.format_message().rstrip('.')}; see {path} --help", error.exit_code
        case typer.Abort():
            return "nothing was done", EXIT_FAILED
    from pydantic import ValidationError

    from streams.messages.error_text import describe

    if isinstance(error, ValidationError):
        return describe(error), EXIT_USAGE
    return f"{describe(error)} (this should not happen: please report it)", EXIT_FAILED
