"""The fixtures of these tests: those of the engine's own tests (`streams` is a client, `start(processor)` starts a
consumer), and whole processes with odd handlers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import ROOT, ProbeLog
from tests.streams.conftest import make_settings, start, streams
from tests.support.child import Child, Spawn

__all__ = ["make_settings", "odd_log", "spawn_odd", "start", "streams"]

SpawnOdd = Callable[..., Child]


@pytest.fixture
def odd_log(tmp_path: Path) -> ProbeLog:
    """What the processes did."""
    return ProbeLog(tmp_path / "odd.jsonl")


@pytest.fixture
def spawn_odd(spawn: Spawn, odd_log: ProbeLog) -> SpawnOdd:
    """Starts consumers of the processor `odd`; settings by their environment name."""

    def start(**settings: str) -> Child:
        env = {"ODD_LOG": str(odd_log.path), "PYTHONPATH": str(ROOT), **settings}
        return spawn("tests.support.programs.odd_handlers", env=env)

    return start
