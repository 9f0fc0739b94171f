"""Canary: replays dead letters in stages, one, then ten, then the rest, and stops when they fail as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from streams import clock
from streams.dead_letters.dead_letters import DeadLetters
from streams.dead_letters.search import EVERYTHING, Filter
from streams.errors import NotFound
from streams.messages.letter import Letter
from streams.messages.message import ID, decode
from streams.redis.entries import Entries
from streams.redis.partition import Reads
from streams.redis.refusal import refusing
from streams.settling import scripts

if TYPE_CHECKING:
    from streams.app import App
    from streams.redis.partition import Partition

STAGES: Final = (1, 10)
_CHUNK: Final = 100
_POLL: Final = 0.1  # seconds
_SCAN: Final = 500

Ending = Literal["passed", "came_back", "too_slow"]


@dataclass(frozen=True, slots=True)
class Stage:
    """How one stage ended: `passed`, `came_back` (a letter with the same fingerprint is dead again, `back` is its id)
    or `too_slow` (not all were settled in time). `left` were not replayed.
    """

    stage: int
    replayed: int
    ending: Ending
    left: int
    back: str = ""

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


OnStage = Callable[[Stage], None]


async def canary(
    client: App,
    group: str,
    only: Filter = EVERYTHING,
    *,
    limit: int | None = None,
    rate: float | None = None,
    force: bool = False,
    within: float = 120.0,
    by: str = "",
    on_stage: OnStage | None = None,
) -> list[Stage]:
    """Replays what matches now (and is not parked, unless `force`): the oldest one, then ten, then all others.

    A stage begins when those of the one before are settled, retries included, and none of them is dead again with a
    fingerprint that was replayed. Each stage, and each hundred of the last, has `within` seconds. Returns the stages
    that were run; the last one says how it ended. Raises `NotFound` for an unknown group.
    """
    return await _Canary(client, group, rate=rate, within=within, by=by, on_stage=on_stage).run(only, limit, force)


class _Canary:
    def __init__(
        self, client: App, group: str, *, rate: float | None, within: float, by: str, on_stage: OnStage | None
    ) -> None:
        self._client = client
        self._group = group
        self._letters = DeadLetters(client, group)
        self._rate = rate
        self._within = within
        self._by = by
        self._on_stage = on_stage
        self._replayed: dict[str, str] = {}  # event id -> fingerprint
        self._since: dict[int, str] = {}  # by partition, whose server's clock counts

    async def run(self, only: Filter, limit: int | None, force: bool) -> list[Stage]:
        park_after = self._client.settings.park_after
        chosen = [
            letter
            async for letter in self._letters.ls(only, limit=limit)
            if force or letter.carried.replays < park_after
        ]
        for partition in self._client.partitions:
            self._since[partition.number] = str(await Reads(partition).now_ms())
        stages: list[Stage] = []
        for number, part in enumerate(_parts(chosen), 1):
            left = len(chosen) - len(self._replayed) - len(part)
            stage = await self._stage(number, part, left)
            stages.append(stage)
            if self._on_stage is not None:
                self._on_stage(stage)
            if stage.ending != "passed":
                break
        return stages

    async def _stage(self, number: int, part: Sequence[Letter], left: int) -> Stage:
        done = 0
        for at in range(0, len(part), _CHUNK):
            chunk = part[at : at + _CHUNK]
            done += await self._replay(chunk)
            ending, back = await self._settled(chunk)
            if ending != "passed":
                return Stage(number, done, ending, left + len(part) - at - len(chunk), back)
        return Stage(number, done, "passed", left)

    async def _replay(self, chunk: Sequence[Letter]) -> int:
        self._replayed |= {letter.event_id: letter.fingerprint for letter in chunk}
        try:
            tally = await self._letters.replay([letter.id for letter in chunk], rate=self._rate, by=self._by)
        except NotFound:  # somebody replays or discards the same ones: those that are left, one by one
            done = 0
            for letter in chunk:
                try:
                    done += (await self._letters.replay([letter.id], by=self._by)).done
                except NotFound:
                    continue
            return done
        return tally.done

    async def _settled(self, chunk: Sequence[Letter]) -> tuple[Ending, str]:
        """Waits until the chunk is settled, or something came back."""
        deadline = clock.timers().time() + self._within
        wanted = {letter.message.values[ID] for letter in chunk}
        sure = False
        while True:
            if back := await self._back():
                return "came_back", back
            going = False
            for partition in self._client.partitions:
                with refusing(partition.connections):
                    going = going or bool(wanted & await self._going(partition))
            # An event on its way from one place to the other is in neither: it takes two looks to be sure.
            if not going and sure:
                back = await self._back()
                return ("came_back", back) if back else ("passed", "")
            sure = not going
            if clock.timers().time() >= deadline:
                return "too_slow", ""
            await clock.sleep(_POLL)

    async def _back(self) -> str:
        """A letter that is dead again as it was."""
        for partition in self._client.partitions:
            dead, since = partition.keys.dead(self._group), self._since[partition.number]
            async for entry in Entries(partition).backward(dead, start=since):
                letter = Letter.decode(self._group, entry, partition.mark)
                if letter.carried.replays and self._replayed.get(letter.event_id) == letter.fingerprint:
                    return letter.id
        return ""

    async def _going(self, partition: Partition) -> set[bytes]:
        """The ids of all events that wait for the group, or are in its inbox."""
        keys = partition.keys
        found: set[bytes] = set()
        async for ids in Reads(partition).waiting(self._group):
            waiting = await scripts.peek_waiting(partition.redis.execute_command, keys, ids)
            found |= {decode((b"0-0", fields), came_back=True).values[ID] for _, _, _, fields in waiting}
        async for entry in Entries(partition).forward(keys.inbox(self._group)):
            found.add(decode(entry, came_back=True).values[ID])
        return found


def _parts(letters: list[Letter]) -> Iterator[list[Letter]]:
    at = 0
    for size in (*STAGES, len(letters)):
        if part := letters[at : at + size]:
            yield part
        at += size
