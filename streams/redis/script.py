"""Script: a Lua script and its hash. Only scripts change state in Redis; each package's `scripts.py` is the typed
door to its own.

A script is called by its hash; a server that does not know it (restart, SCRIPT FLUSH) is sent the source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from redis.exceptions import NoScriptError

from streams.redis.untrusted import text

Call = Callable[..., Awaitable[Any]]
Value = bytes | str | int

Refusals = dict[int, str]
"""What Redis refused of a batch: its position, and why."""

_INCLUDE: Final = "-- include "


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua script: its source with what it includes, and its hash."""

    name: str
    source: str
    sha: str

    @classmethod
    def load(cls, name: str) -> Script:
        """Reads `PACKAGE/lua/NAME.lua`, where `name` is `PACKAGE/NAME`; a line `-- include PACKAGE/FILE` is replaced by
        `PACKAGE/lua/include/FILE`.
        """
        engine = files("streams")
        package, _, stem = name.partition("/")
        lines = (engine / package / "lua" / f"{stem}.lua").read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if line.startswith(_INCLUDE):
                owner, _, file = line.removeprefix(_INCLUDE).partition("/")
                lines[number] = (engine / owner / "lua" / "include" / file).read_text(encoding="utf-8")
        source = "\n".join(lines)
        return cls(stem, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())

    def by_hash(self, keys: Sequence[str], arguments: Iterable[Value]) -> tuple[Value, ...]:
        """The EVALSHA command."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)

    def by_source(self, keys: Sequence[str], arguments: Iterable[Value]) -> tuple[Value, ...]:
        """The EVAL command, which also teaches the server the script."""
        return ("EVAL", self.source, len(keys), *keys, *arguments)


async def run(call: Call, script: Script, keys: Sequence[str], arguments: Sequence[Value]) -> Any:
    """Calls a script over `call(*command)`; raises what Redis answers (`redis.exceptions.RedisError`)."""
    try:
        return await call(*script.by_hash(keys, arguments))
    except NoScriptError:
        return await call(*script.by_source(keys, arguments))


def _by_position(flat: list[Any], first: int) -> dict[int, str]:
    return {flat[at] - first: text(flat[at + 1]) for at in range(0, len(flat), 2)} if flat else {}
