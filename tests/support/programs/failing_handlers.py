"""A process whose handler fails as the event says."""

from __future__ import annotations

import asyncio
import os
import sys

import orjson
import polars as pl

from streams import Backoff, DeadLetter, Event, Processor, run


class Tried(Event, stream="trials", version=1):
    """Something that may go wrong in a certain way."""

    n: int
    fault: str = ""


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class _Own(BaseException):
    pass


_LOG = os.open(os.environ.get("TRIALS_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

failing = Processor("failing", concurrency=2, retry=Backoff(attempts=2, first=0.02))


@failing.on(Tried)
async def try_it(event: Tried) -> object:
    """Notes that it began, then does what the event says."""
    os.write(_LOG, orjson.dumps({"n": event.n, "pid": os.getpid()}, option=orjson.OPT_APPEND_NEWLINE))
    match event.fault:
        case "panic":
            pl.Series([2**31 - 1]).cast(pl.Date).to_list()
        case "surrogate":
            raise ValueError("no such file: caf\udce9.csv")
        case "mute":
            raise _Mute
        case "own":
            raise _Own("mine")
        case "exit":
            sys.exit(3)
        case "generator":
            raise GeneratorExit
        case "reject":
            raise DeadLetter("caf\udce9")
        case "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(_raise(_Own("inside")))
        case "returns":
            return {"success": True}
    return None


async def _raise(error: BaseException) -> None:
    raise error


if __name__ == "__main__":
    sys.modules["tests.support.programs.failing_handlers"] = sys.modules["__main__"]
    run(failing)
