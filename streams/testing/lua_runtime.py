"""Lua: runs scripts as Redis does: the engine's own, and those of a processor."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Callable, Sequence
from typing import Any, Final

from lupa.lua51 import LuaRuntime, lua_type  # type: ignore[import-untyped]  # types-lupa knows no `encoding=`
from redis.exceptions import NoScriptError, ResponseError

_PRELUDE: Final = """
local answer, sha1hex, pack, unpack_packed = ...
redis, cmsgpack = {pcall = answer, sha1hex = sha1hex}, {pack = pack, unpack = unpack_packed}
function redis.call(...)
  local reply = answer(...)
  if type(reply) == 'table' and reply.err then error(reply, 0) end
  return reply
end
return function(script, keys, arguments)
  KEYS, ARGV = keys, arguments
  local done, reply = pcall(script)
  if done then return reply end
  if type(reply) == 'table' and reply.err then return {err = reply.err} end
  return {err = 'ERR ' .. tostring(reply)}
end
"""


class Lua:
    """Scripts whose `redis.call` is answered by `command(*words)`, which returns or raises what Redis replies."""

    def __init__(self, command: Callable[..., Any]) -> None:
        self._command = command
        self._runtime = LuaRuntime(encoding=None, unpack_returned_tuples=True)
        # What waits is packed and unpacked by scripts alone: how it is packed matters to no other code.
        self._run = self._runtime.execute(
            _PRELUDE.encode(),
            self._answer,
            lambda text: hashlib.sha1(text, usedforsecurity=False).hexdigest().encode(),
            lambda table: marshal.dumps(list(table.values())),
            lambda packed: self._to_lua(marshal.loads(packed)),  # noqa: S302 - packed two lines above
        )
        self._scripts: dict[bytes, Any] = {}

    def run(self, name: str, script: bytes, arguments: Sequence[bytes]) -> Any:
        """Answers EVAL or EVALSHA; raises `ResponseError` for what Redis would refuse."""
        sha = script
        if name == "EVAL":
            sha = hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()
            if sha not in self._scripts:
                self._scripts[sha] = self._runtime.compile(_without_shebang(script))
        elif sha not in self._scripts:
            raise NoScriptError("No matching script. Please use EVAL.")
        number, *rest = arguments
        keys, given = rest[: int(number)], rest[int(number) :]
        reply = self._run(self._scripts[sha], self._runtime.table_from(keys), self._runtime.table_from(given))
        return self._from_lua(reply)

    def _answer(self, *words: Any) -> Any:
        try:
            reply = self._command(*(_word(word) for word in words))
        except ResponseError as error:
            return self._runtime.table_from({b"err": str(error).encode()})
        if words[0].upper() == b"TYPE":
            return self._runtime.table_from({b"ok": reply})  # the one status that scripts look at
        return self._to_lua(reply)

    def _to_lua(self, reply: Any) -> Any:
        if reply is None:
            return False
        if isinstance(reply, list | tuple):
            return self._runtime.table_from([self._to_lua(part) for part in reply])
        return reply.encode() if isinstance(reply, str) else reply

    def _from_lua(self, reply: Any) -> Any:
        if isinstance(reply, bool):
            return 1 if reply else None
        if isinstance(reply, float):
            return int(reply)
        if lua_type(reply) != "table":
            return reply
        if reply[b"err"] is not None:
            raise ResponseError(reply[b"err"].decode())
        if reply[b"ok"] is not None:
            return reply[b"ok"]
        parts, at = [], 1
        while reply[at] is not None:
            parts.append(self._from_lua(reply[at]))
            at += 1
        return parts


def _word(word: Any) -> bytes:
    return word if isinstance(word, bytes) else b"%.17g" % word


def _without_shebang(script: bytes) -> bytes:
    first, newline, rest = script.partition(b"\n")
    return newline + rest if first.startswith(b"#!") else script
