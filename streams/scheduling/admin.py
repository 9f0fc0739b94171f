"""Schedules: the operator's side: list, pause, resume and run schedules from outside the processes that have them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final

import orjson

from streams import clock
from streams.errors import NotFound, StreamsError
from streams.phrases import listed, meant
from streams.redis.keys import checked_name
from streams.redis.partition import clock_ms
from streams.redis.refusal import refusing, unless_odd
from streams.redis.untrusted import moment, text, whole
from streams.scheduling import scripts
from streams.scheduling.schedule import Cron, Every, event_id, timing_of

if TYPE_CHECKING:
    from streams.app import App
    from streams.redis.partition import Partition

_POLL: Final = 0.1  # seconds between two looks whether a run has happened


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """One schedule as Redis knows it. Times are in the schedule's zone; `problem` says why a definition is unreadable.

    `last` is the last slot that published, `missed` how many slots did not, `alive` whether a consumer of its
    processor is.
    """

    name: str
    processor: str
    timing: str
    words: str
    tz: str
    misfire: str
    most: int | None
    priority: str
    key: str
    next: datetime | None
    last: datetime | None
    missed: int
    paused: bool
    alive: bool
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        shown = asdict(self)
        for name in ("next", "last"):
            shown[name] = shown[name] and shown[name].isoformat()
        return shown


@dataclass(frozen=True, slots=True)
class Run:
    """A run by hand: when it was asked for, whether somebody else had asked already, and what it published.

    `ids` is None while no scheduler has answered; `failed` says that its function raised. What nobody has answered is
    dropped a minute after it was asked for.
    """

    schedule: str
    at: datetime
    joined: bool
    ids: tuple[str, ...] | None
    failed: bool = False


class Schedules:
    """The schedules of one app. Every method that takes a name raises `NotFound` for one that no processor declares."""

    def __init__(self, client: App) -> None:
        self._client = client

    async def ls(self) -> list[ScheduleState]:
        """All of them, by name."""
        found = [state for partition in self._client.partitions for state in await self._in(partition)]
        return sorted(found, key=lambda state: state.name)

    async def _in(self, partition: Partition) -> list[ScheduleState]:
        keys = partition.keys
        redis = partition.redis
        with refusing(partition.connections):
            definitions: dict[bytes, bytes] = await unless_odd(redis.hgetall(keys.schedules())) or {}
            slots: dict[bytes, bytes] = await unless_odd(redis.hgetall(keys.slots())) or {}
            now = clock_ms(await redis.time())
            found = []
            for raw, definition in definitions.items():
                read = _read(definition)
                found.append(_state(raw, read, slots, now, await self._is_alive(partition, read, now)))
            return found

    async def pause(self, name: str) -> bool:
        """Stops it: slots that pass are not made up for. Seen within a second; False if it was paused already."""
        return (await self._steer(name, "pause"))[1] == 1

    async def resume(self, name: str) -> bool:
        """Lets it go on with the next slot; False if it was not paused."""
        return (await self._steer(name, "resume"))[1] == 1

    async def forget(self, name: str) -> None:
        """Removes one that no code declares any more; a running processor that does would enter it again."""
        await self._steer(name, "forget")

    async def run(self, name: str, *, timeout: float = 5.0) -> Run:
        """Asks for a slot now, also of a paused schedule, and waits up to `timeout` seconds for what it publishes.

        The next slot is none the earlier. A running scheduler sees it within a second.
        """
        partition, done, at = await self._steer(name, "run")
        give_up = clock.timers().time() + timeout
        when = datetime.fromtimestamp(at / 1000, UTC)
        while True:
            count = await self._ran(partition, name, at)
            if count is not None:
                ids = tuple(event_id(self._client.settings.app, name, "run", at, index) for index in range(count))
                return Run(name, when, not done, ids, count == -1)
            if clock.timers().time() >= give_up:
                return Run(name, when, not done, None)
            await clock.sleep(_POLL)

    async def _ran(self, partition: Partition, name: str, at: int) -> int | None:
        """How many events a run has published, -1 when its function failed, None when it has not happened."""
        redis = partition.redis
        with refusing(partition.connections):
            ran: bytes | None = await redis.hget(partition.keys.slots(), f"{name}:ran")
        when, _, count = (ran or b"").partition(b" ")
        return whole(count) if when == str(at).encode() else None

    async def _steer(self, name: str, action: str) -> tuple[Partition, int, int]:
        names: list[str] = []
        for partition in self._client.partitions:
            redis = partition.redis
            keys = partition.keys
            with refusing(partition.connections):
                done, at = await scripts.steer_schedule(redis.execute_command, keys, name=name, action=action)
                if done >= 0:
                    return partition, done, at
                names += [raw.decode("utf-8", "replace") for raw in await redis.hkeys(keys.schedules())]
        raise NotFound(f"no schedule {name} in {self._client.settings.app}; {meant(name, names, listed(names))}")

    async def _is_alive(self, partition: Partition, definition: dict[str, Any], now: int) -> bool:
        redis = partition.redis
        try:
            key = partition.keys.consumers(checked_name("processor", str(definition.get("processor"))))
        except StreamsError:
            return False
        newest = await unless_odd(redis.zrange(key, 0, 0, desc=True, withscores=True))
        return bool(newest) and now - newest[0][1] <= self._client.settings.lease * 1000


def _read(definition: bytes) -> dict[str, Any]:
    try:
        read = orjson.loads(definition)
    except orjson.JSONDecodeError:
        return {}
    return read if isinstance(read, dict) else {}


def _state(raw: bytes, definition: dict[str, Any], slots: dict[bytes, bytes], now: int, alive: bool) -> ScheduleState:
    timing: Cron | Every | None = None
    problem = ""
    try:
        timing = timing_of(definition)
    except (StreamsError, ValueError, TypeError, OverflowError) as error:
        problem = str(error) or type(error).__name__
    zone: tzinfo = timing.zone if timing else UTC
    paused = raw + b":paused" in slots
    fired, most = slots.get(raw + b":fired"), definition.get("most")
    following = timing.next_after(now) if timing and not paused else None
    return ScheduleState(
        text(raw),
        str(definition.get("processor", "")),
        timing.text if timing else "",
        timing.explain() if timing else "",
        timing.tz if timing else "",
        str(definition.get("misfire", "")),
        most if isinstance(most, int) else None,
        str(definition.get("priority") or ""),
        str(definition.get("key", "")),
        moment(following, zone) if following else None,
        moment(whole(fired), zone) if fired else None,
        whole(slots.get(raw + b":missed")),
        paused,
        alive,
        problem,
    )
