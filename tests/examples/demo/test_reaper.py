"""The reaper ends the processes that were noted, and no other that has one of their pids."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo import reaper
from examples.demo.child_process import identity
from streams import StreamsError

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    with subprocess.Popen(SLEEP) as process:
        yield process
        process.kill()


def note(directory: Path, pid: int, known: str) -> None:
    (directory / "running.json").write_text(json.dumps([{"name": "sleeper", "pid": pid, "identity": known}]))


def test_it_ends_what_was_noted(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    note(tmp_path, process.pid, identity(process.pid))
    assert reaper.stop(tmp_path) == ["sleeper"]
    assert process.wait(5) == -15


@pytest.mark.parametrize("known", ["", "another boot 12345 0"])
def test_a_pid_that_somebody_else_has_by_now_is_left_alone(
    tmp_path: Path, process: subprocess.Popen[bytes], known: str
) -> None:
    note(tmp_path, process.pid, known)
    assert reaper.stop(tmp_path) == []
    assert process.poll() is None


@pytest.mark.parametrize("content", [None, "", "not json", "7", '[{"pid": 1}]', "[1]", '[{"name": "x", "pid": "y"}]'])
def test_a_directory_of_nobody_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "running.json").write_text(content)
    with pytest.raises(StreamsError, match="is not the directory of a demo"):
        reaper.stop(tmp_path)
