"""Extras: the optional parts of an installation. What needs one says so when it is imported, in one line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Final

from streams.errors import ConfigurationError

ENGINE: Final = "planning-bord-streams"
APPLICATION: Final = "planning-bord"
_EXIT_USAGE: Final = 2
_OURS: Final = frozenset({"streams", "observability", "schemas", "processors", "tests", "examples", "benchmarks"})

_needed: list[str] = []  # the extras whose parts are being imported, the outermost first


class MissingExtra(ConfigurationError, ImportError):
    """Something is imported whose extra is not installed; the message has the `pip install` that adds it."""


@contextlib.contextmanager
def extra(name: str, *, of: str = ENGINE, for_: str) -> Iterator[None]:
    """Surrounds the imports that an extra is for, and raises `MissingExtra` in place of `ModuleNotFoundError`.

    `python -m` imports the packages around its module first, and nothing can catch what these raise: the line then goes
    to standard error, and the exit code is 2. Where one part imports another, the extra of the outermost is named,
    which includes the other's.
    """
    _needed.append(f"{for_} needs the extra {name}: pip install '{of}[{name}]'")
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in _OURS:
            raise
        problem = f"{_needed[0]} ({missing} is not installed)"
        if sys.argv and sys.argv[0] == "-m":
            sys.stderr.write(f"error: {problem}\n")
            sys.exit(_EXIT_USAGE)
        raise MissingExtra(problem, name=error.name) from error
    finally:
        _needed.pop()
