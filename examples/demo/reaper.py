"""Reaper: ends what a demo has left running, by order (`--stop DIR`) or because the demo itself was killed.

As a process, `python -m ...demo.reaper DIR`, it waits on its input: the demo holds the other end, and the
kernel closes that when the demo dies, however it dies.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import orjson

from .child_process import GRACE, ChildProcess, identity

DISMISSED: Final = b"."
"""What the demo writes to its reaper when there is nothing left to reaper."""

_FILE: Final = "running.json"


def record(directory: Path, processes: Sequence[ChildProcess]) -> None:
    """Notes which processes the demo in `directory` has running; a reader sees the whole note or the one before."""
    note = [
        {"name": process.name, "pid": process.pid, "identity": process.identity}
        for process in processes
        if process.running
    ]
    partial = directory / f"{_FILE}.partial"
    partial.write_bytes(orjson.dumps(note))
    partial.rename(directory / _FILE)


def stop(directory: Path) -> list[str]:
    """Ends the processes and the Redis of the demo in `directory`; returns the names of those that were running.

    A pid is given to another process in time, so a process is only signalled when it is the one that was noted.
    Raises `StreamsError` when no demo was played in `directory`, or this system cannot distinguish processes.
    """
    from streams.errors import StreamsError
    from streams.redis.embedded import EmbeddedRedis

    try:
        note = orjson.loads((directory / _FILE).read_bytes())
        entries = [(str(entry["name"]), int(entry["pid"]), str(entry["identity"])) for entry in note]
    except (OSError, ValueError, TypeError, KeyError):
        raise StreamsError(f"{directory} is not the directory of a demo; name the one that it printed") from None
    if not hasattr(os, "pidfd_open") or not identity(os.getpid()):
        left = ", ".join(f"{name} (pid {pid})" for name, pid, _ in entries)
        raise StreamsError(f"this system cannot distinguish processes safely; end these yourself: {left}")
    names = _end({name: handle for name, pid, known in entries if (handle := _handle(pid, known)) is not None})
    if EmbeddedRedis(directory / "redis").stop():
        names.append("redis")
    (directory / _FILE).write_bytes(b"[]")
    return names


def _handle(pid: int, known: str) -> int | None:
    """A pidfd of the process, which stays its own whatever becomes of the pid; None when it is another or none."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        if known and identity(pid) == known:
            return handle
        os.close(handle)
    return None


def _end(handles: dict[str, int]) -> list[str]:
    for number, patience in ((signal.SIGTERM, GRACE + 3.0), (signal.SIGKILL, 3.0)):
        deadline = time.monotonic() + patience
        left = [handle for handle in handles.values() if not _ended(handle, 0)]
        for handle in left:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
        for handle in left:
            _ended(handle, max(0.0, deadline - time.monotonic()))
    for handle in handles.values():
        os.close(handle)
    return list(handles)


def _ended(handle: int, patience: float) -> bool:
    return bool(select.select([handle], [], [], patience)[0])  # a pidfd can be read once its process has ended


def main() -> None:
    """Waits until the demo dismisses its reaper, or dies."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what ends the demo must not end its reaper first
    if os.read(sys.stdin.fileno(), 1) != DISMISSED:
        stop(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
