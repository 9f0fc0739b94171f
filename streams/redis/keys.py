"""Keys: every Redis key name the project uses, made here and nowhere else. The data model on one page.

Everything of one partition carries the hash tag `{app:p}`, so one script touches one cluster slot.

| key | type | holds | lives |
|---|---|---|---|
| {app:p}:stream:NAME[:high|:low] | stream | messages of a domain area, three priority lanes | until trimmed |
| {app:p}:inbox:GROUP | stream | what comes back to one group: retries, snoozes, replays | each entry until settled |
| {app:p}:dead:GROUP | stream | dead letters: the whole message, why, when, how often | until replayed or discarded |
| {app:p}:due | zset | what waits; member = waiting id, score = due in ms | until released |
| {app:p}:waiting | hash | waiting id -> target stream and message (cmsgpack) | until released |
| {app:p}:history:GROUP | stream | deliveries that were not plain successes, capped | newest 10,000 |
| {app:p}:groups | hash | the registry: group -> the streams it reads | for ever |
| {app:p}:consumers:GROUP | zset | consumer -> its last heartbeat in ms | until retired |
| {app:p}:cancellations | stream | events cancelled before any group had them | newest 10,000 |
| {app:p}:cancelled:GROUP | zset | deliveries cancelled while running | newest 10,000 |
| {app:p}:paused | set | groups that are paused | until resumed |
| {app:p}:turns:GROUP | hash | of an ordered group: ordering key -> origin of whose turn it is | until settled |
| {app:p}:turns:GROUP:KEYHASH | list | the line behind it: waiting ids | until the last one's turn |
| {app:p}:reports:GROUP | hash | consumer -> what it said of itself when it was asked (JSON) | 1 min |
| {app:p}:limits:GROUP | zset | limits in use -> when who stands in line may be let in, in ms | while in use |
| {app:p}:limits:GROUP:LIMIT | hash | what one limit allows, and its next free time | a minute after its last use |
| {app:p}:limits:GROUP:LIMIT:held | zset | deliveries it has let in -> when, in ms | until they are settled |
| {app:p}:limits:GROUP:LIMIT:ring | list | keys (hashed) with somebody in line, the next one first | until let in |
| {app:p}:limits:GROUP:LIMIT:line:KEYHASH | list | the line of one key: waiting ids | until let in |
| {app:p}:schedules | hash | schedule -> its definition (JSON) | until forgotten |
| {app:p}:slots | hash | schedule -> its last slot in ms; SCHEDULE:paused and its like: its state | until forgotten |
| {app:p}:books | hash | what was added, settled, removed, by stream and group: the loss accounting | for ever |
| {app:p}:replays | hash | replays from history: id -> the job as JSON | newest 100 |
| {app:p}:partitions | string | in partition 0: how many the app has, unless it is one | for ever |
| {app:p}:producer:ID | string | last batch a publisher added (idempotence) | 1 h after its last batch |
| {app:p}:once:NAME | string | id of the first event published `once=NAME` (hashed) | 24 h |
| {app:p}:progress:ID | hash | group -> how far its handler has come, and which delivery says so | 1 h after it did |
| {app:p}:own:CONCERN:... | any | what a processor keeps for itself, always with a TTL | its TTL |
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, get_args

from streams.errors import StreamsError, Unpublishable
from streams.events.event import Priority

PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)

HISTORY_LENGTH: Final = 10_000
CALLS_KEPT: Final = 10_000
PRODUCER_TTL_MS: Final = 3_600_000
ONCE_TTL_MS: Final = 86_400_000
PROGRESS_TTL_MS: Final = 3_600_000
RUN_TTL_MS: Final = 60_000
NEVER_MS: Final = 2**53 - 1
"""The score in `due` of what stands in line: the greatest whole number that a score is exact to."""
REPORT_TTL_MS: Final = 60_000
LIMITED_MS: Final = NEVER_MS - 1
"""The score in `due` of what a limit makes wait. Another one: in an ordered group it has the turn of its key."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def checked_name(kind: str, name: str) -> str:
    """Returns `name` if it may stand in a key, else raises `StreamsError`: names from outside are hostile."""
    if not _NAME.fullmatch(name):
        raise StreamsError(f"{kind} {name!r} must be 1-64 of a-z 0-9 _ . - and start with a letter or digit")
    return name


def is_name(name: str) -> bool:
    """Whether a group or stream may have that name; others can be made by hand, and have no keys of their own."""
    return _NAME.fullmatch(name) is not None


def checked_priority(priority: str) -> str:
    """Returns `priority` if there is such a lane, else raises `Unpublishable`: nobody would read another."""
    if priority not in PRIORITIES:
        raise Unpublishable(f"priority={str(priority)[:40]!r} must be one of {', '.join(PRIORITIES)}")
    return priority


def partition_of(name: str, partitions: int) -> int:
    """The partition of an event, of `partitions`: CRC-32 (IEEE, as in zlib and PNG) of its ordering key in UTF-8, or
    of its id if it has none, modulo their number. Part of the wire format: others publish too.
    """
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) % partitions  # who asks for an id may ask for any text


@dataclass(frozen=True, slots=True)
class Keys:
    """The key names of one partition of one app."""

    app: str
    partition: int = 0

    @property
    def tag(self) -> str:
        """The hash tag that puts everything of the partition into one cluster slot."""
        return f"{{{self.app}:{self.partition}}}"

    def stream(self, name: str, priority: Priority = "normal") -> str:
        """One lane of a domain stream."""
        checked_priority(priority)
        suffix = "" if priority == "normal" else f":{priority}"
        return f"{self.tag}:stream:{checked_name('stream', name)}{suffix}"

    def by_priority(self, name: str) -> list[str]:
        """The three lanes of a domain stream, the high one first."""
        return [self.stream(name, priority) for priority in PRIORITIES]

    def named(self, short: str) -> str:
        """The key of a lane by the name a person reads: `users`, `users:high`."""
        return f"{self.tag}:stream:{short}"

    def inbox(self, group: str) -> str:
        """What comes back to this group only."""
        return f"{self.tag}:inbox:{checked_name('group', group)}"

    def dead(self, group: str) -> str:
        """The group's dead letters."""
        return f"{self.tag}:dead:{checked_name('group', group)}"

    def history(self, group: str) -> str:
        """How the group's deliveries ended that were not plain successes."""
        return f"{self.tag}:history:{checked_name('group', group)}"

    def due(self) -> str:
        """When each waiting message is due."""
        return f"{self.tag}:due"

    def waiting(self) -> str:
        """The waiting messages themselves."""
        return f"{self.tag}:waiting"

    def groups(self) -> str:
        """The registry of groups and the streams they read."""
        return f"{self.tag}:groups"

    def consumers(self, group: str) -> str:
        """The heartbeats of a group's consumers."""
        return f"{self.tag}:consumers:{checked_name('group', group)}"

    def cancellations(self) -> str:
        """The log of events that were cancelled before a group had them."""
        return f"{self.tag}:cancellations"

    def cancelled(self, group: str) -> str:
        """The deliveries of a group that were cancelled while they ran or could start at any moment."""
        return f"{self.tag}:cancelled:{checked_name('group', group)}"

    def paused(self) -> str:
        """The groups that are paused."""
        return f"{self.tag}:paused"

    def turns(self, group: str) -> str:
        """Whose turn it is for each ordering key of an ordered group; the lines behind have names that begin so."""
        return f"{self.tag}:turns:{checked_name('group', group)}"

    def reports(self, group: str) -> str:
        """What the consumers of a group answered when they were asked."""
        return f"{self.tag}:reports:{checked_name('group', group)}"

    def limits(self, group: str) -> str:
        """The limits of a group that are in use; what each holds has names that begin so."""
        return f"{self.tag}:limits:{checked_name('group', group)}"

    def control(self, group: str) -> str:
        """The channel (no key) over which a group's consumers are told to pause, resume, or call off, and asked."""
        return f"{self.tag}:control:{checked_name('group', group)}"

    def schedules(self) -> str:
        """The definitions of the schedules."""
        return f"{self.tag}:schedules"

    def slots(self) -> str:
        """The last slot of each schedule that was decided, and whether it is paused."""
        return f"{self.tag}:slots"

    def ledger(self) -> str:
        """What the scripts added, settled and removed: the loss accounting."""
        return f"{self.tag}:books"

    def replays(self) -> str:
        """The replays from history that somebody began."""
        return f"{self.tag}:replays"

    def partitions(self) -> str:
        """How many partitions the app has (in partition 0 only)."""
        return f"{self.tag}:partitions"

    def producer(self, producer: str) -> str:
        """The last batch one publisher added."""
        return f"{self.tag}:producer:{producer}"

    def once(self, name: str) -> str:
        """The id of the first event published under a business-level name (`order-7:paid`); hashed, it may be any."""
        return f"{self.tag}:once:{_digest(name)}"

    def progress(self, event_id: str) -> str:
        """How far the handling of an event has come, and the channel that tells it; an unusual id is hashed."""
        return f"{self.tag}:progress:{event_id if _PLAIN_ID.fullmatch(event_id) else _digest(event_id)}"

    def own(self, concern: str, *parts: str) -> str:
        """A key of a processor's own; what writes it gives it a TTL. Parts are taken as they are, so hash them."""
        return ":".join((self.tag, "own", checked_name("processor", concern), *parts))

    def number_in(self, key: str) -> int:
        """The partition that a key of this app belongs to."""
        return int(key[len(self.app) + 2 : key.index("}")])

    def registry(self, registered: Mapping[bytes, bytes]) -> dict[str, list[str]]:
        """The groups of the registry and the keys that each reads, without what is no name and no key of a stream."""
        read = {}
        for name, sources in registered.items():
            group = name.decode("utf-8", "replace")
            if is_name(group):
                keys = sources.decode("utf-8", "replace").split()
                read[group] = [key for key in keys if key == self.inbox(group) or self.is_stream(key)]
        return read

    def is_stream(self, key: str) -> bool:
        """Whether it is the key of a stream, in one of its priorities."""
        name, _, priority = key.removeprefix(f"{self.tag}:stream:").partition(":")
        return key.startswith(f"{self.tag}:stream:") and is_name(name) and priority in ("", *PRIORITIES)

    def short(self, key: str) -> str:
        """The name a person reads: `users`, `users:high`, `inbox:email`."""
        return key.removeprefix(f"{self.tag}:").removeprefix("stream:")

    def source(self, short: str) -> str:
        """The key by that name."""
        return f"{self.tag}:{short}" if short.startswith("inbox:") else self.named(short)


def _digest(name: str) -> str:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def came_back(key: bytes | str) -> bool:
    """Whether what is in this stream, or waits for it, was written by the engine for one group."""
    return (b"}:inbox:" in key) if isinstance(key, bytes) else "}:inbox:" in key
