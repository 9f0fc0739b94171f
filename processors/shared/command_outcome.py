"""show_published: the outcome of an event that a command has published, for `--wait`."""

from __future__ import annotations

import asyncio
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from sqlalchemy import select

from processors.shared.database.database import Database
from processors.shared.database.migration import prepare
from processors.shared.database.tables import businesses
from processors.shared.safe_text import business_shown
from streams import NotFound, Streams, StreamsError
from streams.inspecting import SETTLED

DONE: Final = 0
FAILED: Final = 3
TOO_LATE: Final = 4
"""The exit codes of a command that waited: it was done; it was not, and the output says why; it is not known yet."""

_PAUSE: Final = 0.2  # seconds between two looks at the database
_LOOKS: Final = 10  # of them for each look at Redis, which costs more
_SHOWN: Final = 20  # businesses that an error lists

Outcome = tuple[int, Mapping[str, Any]]


def seconds_to_wait(text: str) -> float:
    """The value of `--wait`; raises argparse's error for what is none."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise ArgumentTypeError(f"{text!r} is no number of seconds, from 0 to 86400")
    return seconds


async def require_business(database: Database, business_id: int) -> None:
    """Raises `StreamsError` for a business that is not there, with the ones that are."""
    await prepare(database.engine)
    async with database.engine.connect() as connection:
        rows = await connection.execute(select(businesses.c.id, businesses.c.name).order_by(businesses.c.id))
        there = {row.id: row.name for row in rows}
    if business_id not in there:
        listed = [f"{number} ({business_shown(name, number)})" for number, name in there.items()]
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        raise StreamsError(
            f"there is no business {business_id}; there {'is' if len(listed) == 1 else 'are'} "
            f"{', '.join(listed[:_SHOWN]) or 'none'}{more} (python -m processors.shared.database ls)"
        )


async def wait_for_outcome(
    streams: Streams, event_id: str, *, group: str, look: Callable[[], Awaitable[Outcome | None]], seconds: float
) -> Outcome:
    """What `look` finds in the end: an exit code, and what to print.

    It ends with `FAILED` as well when the event is a dead letter of the group of which `look` knows nothing (its
    process was killed each time), and with `TOO_LATE` after so many seconds: the event goes on without the command.
    """
    deadline, looks = time.monotonic() + seconds, 0
    while True:
        if (found := await look()) is not None:
            return found
        is_late = time.monotonic() >= deadline
        if looks % _LOOKS == 0 or is_late:
            state = await _state(streams, event_id, group)
            if state in SETTLED:
                if (ended := await look()) is not None:  # it has ended between the two looks
                    return ended
                if state == "dead":
                    return FAILED, {"outcome": "dead", "why": f"streams dead show {group} {event_id}"}
                if state != "acked":
                    return FAILED, {"outcome": state, "why": f"streams doctor why {event_id}"}
                return DONE, {"outcome": "handled", "what": f"streams event {event_id}"}  # nothing had to be done
            if is_late:
                return TOO_LATE, {"outcome": "waiting", "state": state, "follow": f"streams event {event_id} --follow"}
        looks += 1
        await asyncio.sleep(_PAUSE)


async def show_published(
    streams: Streams,
    event_id: str,
    *,
    group: str,
    look: Callable[[], Awaitable[Outcome | None]],
    seconds: float | None,
) -> int:
    """Prints the id of the event, and with `seconds` a line for each value of its outcome; returns the exit code."""
    sys.stdout.write(f"{event_id}\n")
    sys.stdout.flush()
    if seconds is None:
        return DONE
    code, values = await wait_for_outcome(streams, event_id, group=group, look=look, seconds=seconds)
    sys.stdout.write("".join(f"{name}: {value}\n" for name, value in values.items()))
    return code


async def _state(streams: Streams, event_id: str, group: str) -> str:
    try:
        trail = await streams.event(event_id)
    except NotFound:
        return "unknown"
    return next((each.state for each in trail.groups if each.group == group), "unread")
