"""StreamsError: the root of everything the engine raises at its users, each with what to do next in its message.

The signals a handler raises to choose its outcome (`Retry`, `Snooze`, `DeadLetter`, `Unavailable`) are not errors of
the engine and live with the outcomes.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streams.receipt import Receipt

# Exit codes of processors and of commands.
EXIT_USAGE: Final = 2
EXIT_REFUSED: Final = 78  # EX_CONFIG: restarting without a change cannot help
EXIT_INTERRUPTED: Final = 130


class StreamsError(Exception):
    """Something the engine refuses or could not do; the message is one line and says what to do about it.

    `published`: of several events that were to be published, those that are in Redis all the same.
    """

    published: tuple[Receipt, ...] = ()


class Refused(StreamsError):
    """Redis is reachable but must not be used as it is: wrong password, evicting policy, no AOF, too old."""


class LoginRefused(Refused):
    """Redis refuses the login, or what its user may not do. While a password is changed this passes by itself."""


class ConfigurationError(StreamsError):
    """A setting that cannot work whatever Redis does: a URL that cannot be read, a CA file that is none."""


class Unreachable(StreamsError):
    """Redis cannot be reached, or takes no writes for now; nothing was changed, and trying again later is safe."""


class PublishUncertain(StreamsError):
    """Redis went away during a publish: the events may or may not be in the stream.

    Publishing the same event object again with the same `id` is safe for consumers that deduplicate by event id.
    """


class NotReplicated(StreamsError):
    """An event is in Redis, but not enough replicas have said in time that they have it: a failover may lose it.

    `published` has the receipts. It is handled as any other event; publishing it again would add it twice, unless
    under a `once=` name.
    """


class Unpublishable(StreamsError):
    """What was given to `publish()` is no event, would not be read as it is, or an argument of it is wrong; the message
    names the field or the argument. Nothing was published, and trying again cannot help.
    """


class TooLarge(StreamsError):
    """An event's data is over the size cap (`STREAMS_MAX_BYTES`, 256 KiB unless set)."""


class NotFound(StreamsError):
    """No such group, dead letter or event. `whole` is False when a bound ended the look: it may be beyond that."""

    def __init__(self, text: str, *, whole: bool = True) -> None:
        super().__init__(text)
        self.whole = whole


@contextlib.contextmanager
def exit_on_error() -> Iterator[None]:
    """Surrounds the start of a program: what the engine refuses ends it with one line on standard error, and 78 when
    Redis must not be used, else 2: a setting, an argument, or something that has to be done first.
    """
    try:
        yield
    except StreamsError as error:
        with contextlib.suppress(Exception):  # standard error may be closed
            sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_REFUSED if isinstance(error, Refused) else EXIT_USAGE)


# Extras: the optional parts of an installation. What needs one says so when it is imported, in one line.

ENGINE: Final = "planning-bord-streams"
APPLICATION: Final = "planning-bord"
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
            sys.exit(EXIT_USAGE)
        raise MissingExtra(problem, name=error.name) from error
    finally:
        _needed.pop()
