"""Memory: what stands where Redis is: connections and a client that ask a store in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from streams import admission, chores, scripts, timetable
from streams.connection import Connections
from streams.errors import StreamsError
from streams.scripts import Script
from streams.settings import Settings
from streams.testing import delivering, limiting, scheduling, steering
from streams.testing.commands import Commands
from streams.testing.store import Store

_PLACE: Final = "memory"

_STEPS: Final[tuple[tuple[Script, Callable[..., Any]], ...]] = (
    (scripts.PUBLISH, delivering.publish),
    (scripts.SETTLE, delivering.settle),
    (scripts.RELEASE_DUE, delivering.release_due),
    (scripts.READ_IN_TURN, delivering.read_in_turn),
    (scripts.ENSURE_GROUPS, delivering.ensure_groups),
    (scripts.RECLAIM, delivering.reclaim),
    (scripts.BEGIN, delivering.begin),
    (scripts.REPLAY, steering.replay),
    (scripts.DISCARD, steering.discard),
    (scripts.CANCEL_WAITING, steering.cancel_waiting),
    (scripts.PEEK_WAITING, steering.peek_waiting),
    (admission.ADMIT, limiting.admit),
    (admission.SERVE_LIMITS, limiting.serve_limits),
    (scripts.PROGRESS, steering.progress),
    (chores.EDIT, steering.edit),
    (chores.REPLAY_STEP, steering.replay_step),
    (chores.FIND_ENTRIES, steering.find_entries),
    (chores.ACCOUNTS, steering.accounts),
    (timetable.REGISTER_SCHEDULES, scheduling.register_schedules),
    (timetable.LOOK_SCHEDULES, scheduling.look_schedules),
    (timetable.FIRE, scheduling.fire),
    (timetable.STEER_SCHEDULE, scheduling.steer_schedule),
)
_TOLD: Final = ((scripts.CANCEL, steering.cancel), (scripts.PAUSE, steering.pause))


class Memory:
    """Answers commands and scripts; `listen` is told what is said on a channel."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.store = Store(now)
        self._commands = Commands(self.store)
        self._steps = {script.sha.encode(): step for script, step in _STEPS}
        self._told = {script.sha.encode(): step for script, step in _TOLD}
        self._names = {script.sha.encode(): script.name for script in _every_script()}
        self._channels: dict[str, Callable[[bytes], None]] = {}

    def listen(self, channel: str, hear: Callable[[bytes], None]) -> None:
        """Calls `hear` with what is said on a channel, in place of who listened before."""
        self._channels[channel] = hear

    def _tell(self, channel: str, words: bytes) -> None:
        hear = self._channels.get(channel)
        if hear is not None:
            hear(words)

    def answer(self, *command: Any) -> Any:
        """Answers one command as Redis would, in what redis-py reads."""
        name = (command[0].decode() if isinstance(command[0], bytes) else command[0]).upper()
        arguments = [_bytes(word) for word in command[1:]]
        if name == "EVALSHA":
            return self._run(arguments)
        if " " in name:
            name, _, rest = name.partition(" ")
            arguments.insert(0, rest.encode())
        return self._commands.answer(name, arguments)

    def _run(self, arguments: list[bytes]) -> Any:
        sha, number, *rest = arguments
        keys, given = [key.decode() for key in rest[: int(number)]], rest[int(number) :]
        if sha in self._steps:
            return self._steps[sha](self.store, keys, given)
        if sha in self._told:
            return self._told[sha](self.store, keys, given, self._tell)
        raise StreamsError(
            f"the harness does not model {self._names.get(sha, 'this script')}; test it with a real Redis"
        )


class MemoryConnection:
    """One connection to the memory, as `DirectConnection` is one to Redis."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.sent = False

    async def call(self, *command: Any, timeout: float | None = None) -> Any:
        """Sends a command; `timeout` has no meaning here."""
        del timeout
        self.sent = True
        return self._memory.answer(*command)

    async def aclose(self) -> None:
        """Closes it."""


class MemoryConnections(Connections):
    """Connections to a memory."""

    def __init__(self, settings: Settings, memory: Memory) -> None:
        self.settings = settings
        self.url = self.place = _PLACE
        self.client = MemoryRedis(memory)
        self._memory = memory

    def at(self, tag: str) -> Connections:
        """There is one memory."""
        del tag
        return self

    @property
    def server(self) -> str:
        """What people are told."""
        return _PLACE

    def direct(self, timeout: float) -> Any:
        """A connection for one loop."""
        del timeout
        return MemoryConnection(self._memory)

    async def aclose(self) -> None:
        """Closes them."""


class MemoryRedis(redis.asyncio.Redis):
    """redis-py's client, whose commands are answered in this process: a processor's own keys."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(protocol=2)
        self._memory = memory

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Answers a command, read as redis-py reads it."""
        return _read(self, self._memory, args, options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Commands that are answered together."""
        return MemoryPipeline(self, self._memory, transaction, shard_hint)

    def pubsub(self, **_: Any) -> Any:
        """Is not there: raises `StreamsError`."""
        raise StreamsError("the harness has no PUBSUB; test that part with a real Redis")


class MemoryPipeline(Pipeline):
    """redis-py's pipeline likewise."""

    def __init__(self, client: MemoryRedis, memory: Memory, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._memory = memory

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Answers what was collected."""
        stack, self.command_stack = self.command_stack, []
        replies: list[Any] = []
        for command, options in stack:
            try:
                replies.append(_read(self, self._memory, command, dict(options)))
            except ResponseError as error:
                replies.append(error)
        if raise_on_error:
            self.raise_first_error(stack, replies)
        return replies


def _read(client: Any, memory: Memory, command: tuple[Any, ...], options: dict[str, Any]) -> Any:
    reply = memory.answer(*command)
    options.pop("keys", None)
    callback = client.response_callbacks.get(command[0])
    return reply if callback is None else callback(reply, **options)


def _every_script() -> list[Script]:
    modules = (admission, scripts, chores, timetable)
    return [found for module in modules for found in vars(module).values() if isinstance(found, Script)]


def _bytes(word: Any) -> bytes:
    if isinstance(word, bytes):
        return word
    return word.encode() if isinstance(word, str) else str(word).encode()
