"""How a consumer's process ends: with its code, and with everything flushed that it has written."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from streams.consuming.exits import reason, say

ROOT = Path(__file__).parents[3]
IMPORTS = """
import atexit, sys, threading, time
from streams.consuming.exits import exit_now, exit_process
"""


def ended(code: str) -> subprocess.CompletedProcess[str]:
    """A process that runs this."""
    code = IMPORTS + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=25, check=False, cwd=ROOT
    )


def test_a_process_that_ends_at_once_has_written_what_it_had_to() -> None:
    """What is flushed at exit, as spans are, and standard output; whatever runs in it."""
    done = ended(
        """
        threading.Thread(target=time.sleep, args=(60,)).start()
        atexit.register(lambda: print("spans are flushed"))
        print("handled")
        exit_now(3)
        """
    )
    assert (done.returncode, done.stdout) == (3, "handled\nspans are flushed\n"), done


def test_a_thread_of_other_code_does_not_keep_a_process() -> None:
    """It gets a moment, and the log names it."""
    done = ended(
        """
        threading.Thread(target=time.sleep, args=(60,), name="a-backup").start()
        exit_process(0)
        """
    )
    assert done.returncode == 0, done
    assert "threads_left_behind" in done.stdout + done.stderr
    assert "a-backup" in done.stdout + done.stderr


@pytest.mark.parametrize("code", [0, 1])
def test_a_process_without_threads_ends_as_any(code: int) -> None:
    """In order, and nothing is left behind; a thread that ends in time is waited for."""
    done = ended(
        f"""
        def work():
            time.sleep(0.2)
            print("worked")
        threading.Thread(target=work).start()
        atexit.register(lambda: print("spans are flushed"))
        exit_process({code})
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "worked\nspans are flushed\n", "")


def test_a_line_that_nobody_can_read_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error may be closed: what comes next must happen all the same."""
    monkeypatch.setattr(sys, "stderr", None)
    say("gone")


def test_the_reason_of_an_end() -> None:
    assert reason(ValueError("no")) == "ValueError: no"
    assert reason(asyncio.CancelledError()) == "the main task was cancelled by other code of this process"
