"""Letter: one dead letter, which is a whole message, why it was dead-lettered, and what happened before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from streams.messages import history
from streams.messages.fingerprint import fingerprint
from streams.messages.message import DATA, VERSION, Carried, Message
from streams.redis.entries import Entry, milliseconds
from streams.redis.untrusted import moment, pairs, whole


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. `id` is its entry among the group's dead letters (`3:` before it is the partition, where there
    is more than one), `event_id` the event's own.

    `attempts` counts handler failures, `deliveries` deliveries by Redis, both until it was dead-lettered. `reason` is
    one of the reasons of `DeadLettered`. Times are RFC 3339.
    """

    id: str
    group: str
    reason: str
    error: str
    traceback: str
    attempts: int
    first_failed_at: str
    last_failed_at: str
    message: Message
    carried: Carried

    @classmethod
    def decode(cls, group: str, entry: Entry, mark: str = "") -> Letter:
        """Reads an entry of the dead letters. Never fails: what is missing reads as empty."""
        entry_id, fields = entry
        found = {name: value.decode("utf-8", "replace") for name, value in pairs(fields).items()}
        message = Message.decode(entry_id, fields, came_back=True)
        carried = message.carried or Carried()
        dead_at = found.get(b"at") or moment(milliseconds(entry_id)).isoformat()
        return cls(
            mark + entry_id.decode(),
            group,
            found.get(b"reason", ""),
            found.get(b"error", ""),
            found.get(b"traceback", ""),
            whole(found.get(b"attempts"), carried.failures),
            carried.first_failed or dead_at,
            dead_at,
            message,
            carried,
        )

    @property
    def entry_id(self) -> str:
        """Its entry, without the partition."""
        return self.id.rpartition(":")[2]

    @property
    def partition(self) -> int:
        """The number of its partition."""
        return int(self.id.rpartition(":")[0] or 0)

    @property
    def event_id(self) -> str:
        """The event's id."""
        return self.message.id

    @property
    def type(self) -> str:
        """The event's wire type."""
        return self.message.type

    @property
    def deliveries(self) -> int:
        """How often Redis delivered the event, over every time it came back."""
        return self.carried.deliveries

    @property
    def fingerprint(self) -> str:
        """The same for letters that failed in the same way: see `fingerprint`."""
        return fingerprint(self.type, self.reason, self.error, self.traceback)

    @property
    def data(self) -> bytes:
        """The body as it came; it may be no JSON at all."""
        return self.message.data

    @property
    def left_behind(self) -> int:
        """How many bytes of data were left in the stream that the event came from; 0 when the letter has them."""
        return self.message.size

    def as_json(self) -> dict[str, Any]:
        """The public fields as JSON values: everything but the traceback and the body."""
        message, carried = self.message, self.carried
        return {
            "id": self.id,
            "event_id": self.event_id,
            "group": self.group,
            "type": self.type,
            "reason": self.reason,
            "error": self.error,
            "attempts": self.attempts,
            "deliveries": self.deliveries,
            "first_failed_at": self.first_failed_at,
            "last_failed_at": self.last_failed_at,
            "replays": carried.replays,
            "fingerprint": self.fingerprint,
            "origin": carried.origin,
            "left_behind": self.left_behind,
            "source": message.source,
            "time": message.time,
            "version": message.version,
            "key": message.key,
            "correlation_id": message.correlation_id,
            "causation_id": message.causation_id,
            "traceparent": message.traceparent,
            "errors": carried.errors,
        }

    def again(self) -> list[bytes]:
        """The entry for the group's inbox: both counters at zero, one more replay, and what happened kept."""
        first_failed = self.carried.first_failed
        if self.reason == "unsupported":
            first_failed = ""  # it says since when the message waits for a newer code: a replay begins a new wait
        fresh = replace(
            self.carried, failures=0, deliveries=0, first_failed=first_failed, replays=self.carried.replays + 1
        )
        return self.message.encode_back(fresh)

    def with_data(self, data: bytes, version: int) -> list[bytes]:
        """The dead letter's own entry with other data; all else stays."""
        values = [*self.message.values]
        values[VERSION], values[DATA] = b"%d" % version, data
        return [
            *Message(values).encode_back(self.carried),
            *reason_fields(self.group, self.reason, self.error, self.traceback, self.attempts, self.last_failed_at),
        ]

    def record(self, outcome: str, by: str) -> list[bytes]:
        """The line in the group's history that says what a person did with it."""
        return history.record(
            self.message,
            outcome,
            attempt=self.attempts,
            deliveries=self.deliveries,
            by=by,
            reason=self.reason,
            error=self.error,
        )


def reason_fields(group: str, reason: str, error: str, traceback: str, attempts: int, at: str) -> list[bytes]:
    """The fields that a dead letter has beside its message: names and values, alternating."""
    return [
        b"group", group.encode(),
        b"reason", reason.encode(),
        b"error", error.encode(),
        b"traceback", traceback.encode(),
        b"attempts", b"%d" % attempts,
        b"at", at.encode(),
    ]  # fmt: skip
