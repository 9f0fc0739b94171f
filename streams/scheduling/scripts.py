"""Scripts: the typed door to those of schedules: register, look, fire, steer.

Only processes with schedules, and commands about them, import it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

from streams.messages.message import FIELDS, Message
from streams.redis.keys import RUN_TTL_MS, Keys
from streams.redis.script import Call, Script, Value, run

REGISTER_SCHEDULES: Final = Script.load("scheduling/register")
LOOK_SCHEDULES: Final = Script.load("scheduling/look")
FIRE: Final = Script.load("scheduling/fire")
STEER_SCHEDULE: Final = Script.load("scheduling/steer")


async def register_schedules(call: Call, keys: Keys, *, definitions: Iterable[tuple[str, bytes, str]]) -> int:
    """Enters (name, definition, timing) of a processor's schedules; returns how many begin anew."""
    anew: int = await run(
        call, REGISTER_SCHEDULES, (keys.schedules(), keys.slots()), list(chain.from_iterable(definitions))
    )
    return anew


async def look_schedules(call: Call, keys: Keys, *, names: Sequence[str]) -> tuple[int, list[tuple[bytes, int, bytes]]]:
    """Reads Redis' clock in ms, and of each schedule: its last slot, whether it is paused, when a run was asked for."""
    now, *states = await run(call, LOOK_SCHEDULES, (keys.slots(),), names)
    return now, [(last, paused, asked) for last, paused, asked in states]


async def fire(
    call: Call, keys: Keys, *, schedule: str, at: int, kind: str, missed: int, messages: Sequence[Message]
) -> tuple[int, int]:
    """Decides a slot with what was made for it; returns (1, 0): done, (0, 0): decided before, (-1, ms): too early."""
    streams = list(dict.fromkeys(message.target for message in messages))
    arguments: list[Value] = [schedule, at, kind, missed, RUN_TTL_MS, len(FIELDS), *FIELDS]
    for message in messages:
        arguments += (streams.index(message.target) + 1, *message.values)
    decided, wait = await run(call, FIRE, (keys.slots(), keys.groups(), *streams, keys.ledger()), arguments)
    return decided, wait


async def steer_schedule(call: Call, keys: Keys, *, name: str, action: str) -> tuple[int, int]:
    """Pauses, resumes, runs or forgets a schedule; returns (1 done, 0 so already, -1 unknown; ms since 1970)."""
    done, *at = await run(call, STEER_SCHEDULE, (keys.schedules(), keys.slots()), (name, action, RUN_TTL_MS))
    return done, at[0] if at else 0
