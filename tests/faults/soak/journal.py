"""Journal: what happened, one line of JSON a fact, kept outside Redis: the patient does not write its own chart.

Each line is one write to a file opened with O_APPEND, so that lines of killed processes are whole. `at` is the
machine's monotonic clock, the same in every process.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import orjson

Line = dict[str, Any]


class Journal:
    """A journal that any number of processes append to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, what: str, **fields: Any) -> None:
        """Appends one fact."""
        line = {"what": what, "at": time.monotonic(), **fields}
        os.write(self._file, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def read(path: Path) -> list[Line]:
    """Every whole line, in the order they were written."""
    written, _, _ = path.read_bytes().rpartition(b"\n")
    return [orjson.loads(line) for line in written.splitlines()]
