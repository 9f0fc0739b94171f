"""Fixtures for whole-process tests: probes are real processes, their log says what they did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson
import pytest

from streams import Settings, Streams
from tests.support.child import Child, Spawn

ROOT = Path(__file__).parents[2]


class SpawnProbe(Protocol):
    """Starts `python -m tests.support.programs.probe`; settings by their environment name."""

    def __call__(self, **settings: str) -> Child: ...


class ProbeLog:
    """What the probes did, read from their file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, what: str) -> list[dict[str, Any]]:
        """The lines of one kind, in the order they were written."""
        if not self.path.exists():
            return []
        written, _, _ = self.path.read_bytes().rpartition(b"\n")  # a read may come in the middle of a write
        lines = [orjson.loads(line) for line in written.splitlines()]
        return [line for line in lines if line["what"] == what]

    def numbers(self, what: str) -> list[int]:
        """Their event numbers."""
        return [line["n"] for line in self.lines(what)]


@pytest.fixture
def probe_log(tmp_path: Path) -> ProbeLog:
    """The probes' log."""
    return ProbeLog(tmp_path / "probe.jsonl")


@pytest.fixture
def spawn_probe(spawn: Spawn, probe_log: ProbeLog) -> SpawnProbe:
    """Starts probes; what they are doing is in `probe_log`."""

    def start(**settings: str) -> Child:
        return spawn(
            "tests.support.programs.probe", env={"PROBE_LOG": str(probe_log.path), "PYTHONPATH": str(ROOT), **settings}
        )

    return start


@pytest.fixture
async def streams(streams_env: Mapping[str, str], app: str) -> AsyncIterator[Streams]:
    """A client of the test's Redis."""
    async with Streams(settings=Settings(redis_url=streams_env["REDIS_URL"], app=app)) as client:
        yield client
