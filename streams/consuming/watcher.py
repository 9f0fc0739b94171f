"""Watcher: a small process beside a consumer's process, which ends that process when none of its Python code runs any
more.

A handler that holds the interpreter's lock (a regular expression that backtracks, arithmetic with huge integers) stops
every thread of its process, including the one that would notice it. So a process beside it waits for signs of life. It
is run as a file, without the environment's packages, and imports as little as it can: it takes 4 MB.

Each sign of life says how many seconds of silence may follow it. They are counted in small waits, and not by a clock:
a machine that was suspended, or a process that was stopped (SIGSTOP), has not been silent in that time.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import sys
import time
from pathlib import Path

SIGN = struct.Struct("d")
_STACK_WITHIN = 1.0  # seconds that the process has for the writing of its stacks
_WRITTEN_WITHIN = 2  # for the last line: the reader of standard error may have stopped
_KILLED_WITHIN = 30.0


def watch(process: int, signs: int, tick: float) -> float:
    """Reads signs of life until the process ends or wants to be watched no more; returns 0 then, or else the seconds
    it has been silent for, which are more than it may.
    """
    allowed, silent = float("inf"), 0.0
    while True:
        if select.select([signs], [], [], tick)[0]:
            read = os.read(signs, 512 * SIGN.size)
            if not read:
                return 0
            (allowed,) = SIGN.unpack(read[-SIGN.size :])
            silent = 0.0
        elif os.getppid() != process:
            return 0
        elif is_stopped(process):
            silent = 0.0
        else:
            silent += tick
            if silent >= allowed:
                return silent


def is_stopped(process: int) -> bool:
    """Whether a process is stopped by a signal or by a debugger."""
    try:
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in (b"T", b"t")


def stacks(process: int, number: int, written: int) -> str:
    """Asks the process for its stacks: a signal handler in C writes them (`faulthandler`), which needs no Python."""
    os.kill(process, number)
    text, give_up = b"", time.monotonic() + _STACK_WITHIN
    while len(text) < 65536 and select.select([written], [], [], max(0.0, give_up - time.monotonic()))[0]:
        read = os.read(written, 65536)
        if not read:
            break
        text += read
        give_up = min(give_up, time.monotonic() + 0.1)  # no end is written: it is over when nothing follows
    return text.decode("utf-8", "replace")


def write(line: bytes) -> None:
    """Writes the last line, if that is possible in time."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_WRITTEN_WITHIN)
    try:
        os.write(2, line)
    except OSError:  # a TimeoutError is one
        pass
    finally:
        signal.alarm(0)


def end(process: int, number: int) -> None:
    """Ends the process. The first one of a container takes no SIGKILL from inside, but the kernel gives it one that has
    used more of the processor's time than its limit: it has a second, and the signal for its stacks makes it use that.
    """
    os.kill(process, signal.SIGKILL)
    if process != 1 or sys.platform != "linux":
        return
    import resource

    resource.prlimit(process, resource.RLIMIT_CPU, (1, 1))
    give_up = time.monotonic() + _KILLED_WITHIN
    while number and os.getppid() == process and time.monotonic() < give_up:
        os.kill(process, number)


def _line(label: str, process: int, silent: float, stack: str, *, as_json: bool) -> str:
    hint = "a handler holds the interpreter (GIL), and has for longer than it may: the process is ended"
    if not as_json:
        return f"error: {label} (pid {process}): {hint}\n{stack}"
    return json.dumps(
        {
            "event": "consumer.blocked", "level": "critical", "logger": "streams.watcher", "group": label,
            "pid": process, "silent": round(silent, 1), "hint": hint, "exception": stack[:8000],
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
    ) + "\n"  # fmt: skip


def main() -> None:
    """Watches the parent: `watcher.py LABEL TICK STACK_SIGNAL STACK_FD`; signs of life come on standard input."""
    process = os.getppid()
    label, tick, number, written = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # sent to a whole group of processes: it ends with the one it watches
    silent = watch(process, 0, tick)
    if not silent or os.getppid() != process:
        return
    stack = stacks(process, number, written) if number else ""
    as_json = (os.environ.get("LOG_FORMAT", "").strip().lower() or ("" if os.isatty(2) else "json")) == "json"
    os.close(written)  # further stacks go nowhere
    write(_line(label, process, silent, stack, as_json=as_json).encode())
    end(process, number)


if __name__ == "__main__":
    main()
