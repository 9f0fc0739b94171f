"""Scripts: the typed door to the script that publishes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from streams.messages.message import EXPIRES, EXPIRY, FIELDS, Message
from streams.redis.keys import ONCE_TTL_MS, PRODUCER_TTL_MS
from streams.redis.script import Script, _by_position, run

if TYPE_CHECKING:
    from streams.redis.keys import Keys
    from streams.redis.script import Call, Refusals, Value

PUBLISH: Final = Script.load("publishing/publish")

_PUBLISH_FIELDS: Final[tuple[Value, ...]] = (len(FIELDS), *FIELDS)
_EXPIRING_FIELDS: Final[tuple[Value, ...]] = (len(FIELDS) + 1, *FIELDS, EXPIRY)


async def publish(
    call: Call, keys: Keys, *, producer: str, streams: Sequence[str], sequence: int, messages: Sequence[Message]
) -> tuple[dict[int, str], Refusals]:
    """Adds a batch once, each message to its `target`; returns, by position (from 0), those left out because their
    `once` was taken, with the id of the event that took it, and those that Redis refused.
    """
    index = {key: number for number, key in enumerate(streams, 1)}
    waits = any(message.when for message in messages)
    expire = any(len(message.values) > EXPIRES for message in messages)
    arguments: list[Value] = [sequence, PRODUCER_TTL_MS, int(waits), *(_EXPIRING_FIELDS if expire else _PUBLISH_FIELDS)]
    for message in messages:
        arguments += (index[message.target], message.when, message.once, message.once and ONCE_TTL_MS)
        arguments += message.values
        if expire and len(message.values) == EXPIRES:
            arguments.append("")
    names = (producer, keys.due(), keys.waiting(), keys.groups(), *streams, keys.ledger())
    taken, refused = await run(call, PUBLISH, names, arguments)
    return _by_position(taken, 1), _by_position(refused, 1)
