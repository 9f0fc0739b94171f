"""Message: an event and its envelope as one stream entry.

The envelope is CloudEvents 1.0 in binary mode: each attribute is an entry field, the body is one JSON field `data`.
Every message this project writes has the same fields in the same order, so Redis stores their names once per node.
Any other order, or a foreign entry with just `type` and `data`, is read as well (docs/reference/wire-format.md). One
that must not be handled after some time has one field more, `expirytime`.

What comes back to one group carries, after these, the fields of `CARRIED`: where it was first, and what happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import orjson

from streams import clock
from streams.events.event import Event
from streams.messages.event_ids import new_id
from streams.messages.publishable import encoded
from streams.redis.untrusted import count, entry_time, failures, pairs

if TYPE_CHECKING:
    from streams.redis.entries import Entry

FIELDS: Final = [
    b"specversion", b"id", b"type", b"source", b"time", b"dataversion",
    b"partitionkey", b"correlationid", b"causationid", b"traceparent", b"tracestate", b"data",
]  # fmt: skip
ID, TYPE, SOURCE, TIME, VERSION, KEY, CORRELATION, CAUSATION, TRACEPARENT, TRACESTATE, DATA = range(1, 12)

EXPIRY: Final = b"expirytime"
EXPIRES: Final = len(FIELDS)
"""Where the values of a message that expires go on, RFC 3339; those of any other end before it."""

CARRIED: Final = [
    b"origin", b"failures", b"deliveries", b"firstfailed", b"lastfailed", b"errors", b"replays",
]  # fmt: skip

_EXPIRING: Final = [*FIELDS, EXPIRY]
BYTES: Final = b"$bytes"
"""How many bytes of data an entry has that was read without them: see `redis/lua/include/cut.lua`."""

FIELDS_MOST: Final = 100
"""Fields of an entry: one with more is no message."""

NAME_MOST: Final = 1024
"""Bytes of an id, a type or an ordering key, which stand in logs: an entry with a longer one is no message."""

_SHOWN: Final = 128  # bytes of a longer one that are kept

_ERRORS_KEPT: Final = 5
_TIME_MOST: Final = 40  # characters


@dataclass(slots=True)
class Carried:
    """What a message that came back to its group brings along.

    `failures` counts handler failures, `deliveries` deliveries by Redis (crashes included): two counters, two limits.
    """

    origin: str = ""
    failures: int = 0
    deliveries: int = 0
    first_failed: str = ""
    last_failed: str = ""
    errors: list[dict[str, Any]] = field(default_factory=list)
    replays: int = 0

    def encode(self) -> list[bytes]:
        """The values for `CARRIED`, in its order."""
        return [
            self.origin.encode(),
            b"%d" % self.failures,
            b"%d" % self.deliveries,
            self.first_failed.encode(),
            self.last_failed.encode(),
            orjson.dumps(self.errors[-_ERRORS_KEPT:]) if self.errors else b"",
            b"%d" % self.replays,
        ]

    def failed(self, error: str, at: str) -> Carried:
        """A copy with one more handler failure in it; the last five errors are kept."""
        failure = {"attempt": self.failures + 1, "at": at, "error": error}
        return Carried(
            self.origin, self.failures + 1, self.deliveries, self.first_failed or at, at,
            [*self.errors, failure][-_ERRORS_KEPT:], self.replays,
        )  # fmt: skip


class Message:
    """One message: the raw values in the order of `FIELDS`, and what it carries if it came back.

    Values stay bytes until they are asked for: the hot path looks at the type, the version and the data only.
    """

    __slots__ = ("carried", "once", "problem", "replicated", "size", "target", "values", "when")

    def __init__(self, values: list[bytes], carried: Carried | None = None, target: str = "", when: str = "") -> None:
        self.values = values
        self.carried = carried
        self.problem = ""  # why it is no message, whatever its data are
        self.size = 0  # bytes of data that were left where they are
        self.target = target  # of an outgoing message: the key of the stream it goes to
        self.once = ""  # of an outgoing message: the key that only one event may be published under
        self.replicated = False  # of an outgoing message: whether its publisher waits for replicas
        self.when = when  # of an outgoing message: '' now, '+N' in N ms, '@N' at N ms since 1970

    @classmethod
    def for_event(
        cls,
        event: Event,
        *,
        source: str,
        target: str,
        when: str = "",
        key: str = "",
        cause: Message | None = None,
        id: str = "",
        expires: str = "",
    ) -> Message:
        """Wraps an event for publishing; with a cause it joins that message's conversation.

        Raises `Unpublishable` for an event that would not be read as it is.
        """
        id, kind = id or new_id(), type(event)  # its class: a value never steers where it goes
        made = cls(
            [
                b"1.0",
                id.encode(),
                kind.type.encode(),
                source.encode(),
                clock.now().isoformat().encode(),
                b"%d" % kind.version,
                key.encode(),
                cause.correlation_id.encode() if cause else b"",
                cause.values[ID] if cause else b"",
                b"",
                b"",
                encoded(event),
            ],
            target=target,
            when=when,
        )
        if expires:
            made.values.append(expires.encode())
        return made

    @classmethod
    def decode(cls, entry_id: bytes, fields: list[bytes], *, came_back: bool = False) -> Message:
        """Reads a stream entry (a flat list of names and values). Never fails: what is wrong with the *content* is
        found, and dead-lettered, when the event is decoded.

        `came_back` is for what only the engine writes (an inbox, dead letters, what waits for a group): there `CARRIED`
        is read. In a public stream any client could write it.
        """
        values = fields[1::2]
        if (
            fields[::2] == FIELDS
            and 0 < len(values[ID]) <= NAME_MOST
            and len(values[TYPE]) <= NAME_MOST
            and len(values[KEY]) <= NAME_MOST
        ):
            return cls(values)
        found = pairs(fields)
        problem = _problem(fields, found)
        size = 0 if found.get(b"data") else count(found.get(BYTES))
        values = [found.get(name, b"") for name in FIELDS]
        for place in (ID, TYPE, KEY):
            if len(values[place]) > NAME_MOST:
                problem = problem or f"the field {FIELDS[place].decode()} has {len(values[place]):,} bytes"
                values[place] = values[place][:_SHOWN]
        values[0] = values[0] or b"1.0"
        values[ID] = values[ID] or entry_id
        values[TIME] = values[TIME] or entry_time(entry_id)
        values[VERSION] = values[VERSION] or b"1"
        if found.get(EXPIRY):
            values.append(found[EXPIRY])
        carried = None
        if came_back and b"origin" in found:
            carried = Carried(
                _text(found[b"origin"]),
                count(found.get(b"failures")),
                count(found.get(b"deliveries")),
                _text(found.get(b"firstfailed", b"")),
                _text(found.get(b"lastfailed", b"")),
                failures(found.get(b"errors", b"")),
                count(found.get(b"replays")),
            )
        made = cls(values, carried)
        made.problem, made.size = problem, size
        return made

    def encode(self) -> list[bytes]:
        """The entry for a stream: names and values, flat, in the fixed order."""
        return list(chain.from_iterable(zip(self._names, self.values, strict=True)))

    def encode_back(self, carried: Carried) -> list[bytes]:
        """The entry for the group's own inbox (or its dead letters): the message and what it carries."""
        return list(chain.from_iterable(zip(self._names + CARRIED, self.values + carried.encode(), strict=True)))

    @property
    def _names(self) -> list[bytes]:
        return FIELDS if len(self.values) == EXPIRES else _EXPIRING

    @property
    def id(self) -> str:
        """The event id: unique for what this project publishes, the entry id for a foreign entry without one."""
        return _text(self.values[ID])

    @property
    def type(self) -> str:
        """The wire type."""
        return _text(self.values[TYPE])

    @property
    def source(self) -> str:
        """The service that published it (a CloudEvents URI reference)."""
        return _text(self.values[SOURCE])

    @property
    def time(self) -> str:
        """When it was made, RFC 3339, by the publisher's clock."""
        return _text(self.values[TIME])

    @property
    def version(self) -> int:
        """The schema version it was written as; 1 when the entry does not say, 0 when it says nonsense."""
        return count(self.values[VERSION])

    @property
    def key(self) -> str:
        """The ordering key, or empty."""
        return _text(self.values[KEY])

    @property
    def correlation_id(self) -> str:
        """The id of the event that began the conversation; the field is empty in the first one."""
        return _text(self.values[CORRELATION] or self.values[ID])

    @property
    def causation_id(self) -> str:
        """The id of the event whose handler published this one, or empty."""
        return _text(self.values[CAUSATION])

    @property
    def traceparent(self) -> str:
        """The W3C trace context of the publish span, or empty."""
        return _text(self.values[TRACEPARENT])

    @property
    def sampled(self) -> bool:
        """Whether the publisher's trace is recorded: the one look the hot path takes before it skips tracing."""
        return self.values[TRACEPARENT][-2:-1] == b"0" and self.values[TRACEPARENT][-1:] in b"13579bdf"

    @property
    def expires(self) -> datetime | None:
        """After when it must not be handled any more; None for ever. Raises `ValueError` for what is no time."""
        if len(self.values) == EXPIRES:
            return None
        text = _text(self.values[EXPIRES])[:_TIME_MOST]
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            at = datetime.min  # noqa: DTZ901 - without a time zone, as what is refused below
        if at.tzinfo is None:
            raise ValueError(f"expirytime {text!r} is no RFC 3339 time")
        return at

    @property
    def data(self) -> bytes:
        """The JSON body as it came."""
        return self.values[DATA]


def _problem(fields: list[bytes], found: dict[bytes, bytes]) -> str:
    names = fields[::2]
    if len(names) > FIELDS_MOST:
        return f"the entry has {len(names):,} fields, at most {FIELDS_MOST} may be in a message"
    twice = [name for name in _EXPIRING if names.count(name) > 1] if len(found) < len(names) else []
    return f"the field {twice[0].decode()} is in the entry more than once" if twice else ""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def decode(entry: Entry, *, came_back: bool = False) -> Message:
    """The message of an entry; `came_back` where only the engine writes: see `Message.decode`."""
    return Message.decode(*entry, came_back=came_back)
