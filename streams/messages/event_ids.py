"""Event ids: UUIDs that begin with the time they were made at, so that an event is found by its id alone."""

from __future__ import annotations

import os
import re
import time
from random import Random
from typing import Final

_TIMED_UUID: Final = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-[78][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

# Not the module's own generator: an application that seeds it in several processes would give events equal ids.
_random: Final = Random(os.urandom(32))
# Asked for at each id: a server that forks in C (uWSGI) runs no `register_at_fork`, and children would have equal ids.
_seeded_in: Final = [os.getpid()]


def new_id(at: int = 0, rng: Random | None = None) -> str:
    """Makes an event id: a UUIDv7, whose first 48 bits are the time in ms (now, or `at`), so an event is found by its
    id alone; the others are random, or from the given generator.
    """
    if _seeded_in[0] != os.getpid():
        _random.seed(os.urandom(32))
        _seeded_in[0] = os.getpid()
    milliseconds, random = at or time.time_ns() // 1_000_000, (rng or _random).getrandbits(74)
    return (
        f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7{random & 0xFFF:03x}"
        f"-{0x8000 | random >> 12 & 0x3FFF:04x}-{random >> 26:012x}"
    )


def made_at(id: str) -> int:
    """The ms since 1970 in a UUIDv7, or in the UUIDv8 of a schedule's event; 0 for any other id."""
    found = _TIMED_UUID.fullmatch(id.lower())
    return int(found[1] + found[2], 16) if found else 0
