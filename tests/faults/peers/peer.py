"""Peer: how one system is started, as its documentation has it and tuned, and where to look for what it holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import redis

from tests.faults.peers import remains
from tests.faults.peers.venv import requirements

ROOT: Final = Path(__file__).parents[3]
ADAPTERS: Final = "tests.faults.peers.adapters"
SETTINGS: Final = ("default", "tuned")
LEASE: Final = 5.0
"""Seconds of silence after which each tuned system takes a worker's events away, where it has a setting for that: short
beside the faults, and long beside the slowest handler (0.5 s) and beside the renewal that streaq makes at nine tenths.
"""


@dataclass(frozen=True)
class Peer:
    """One system. `command` runs one worker of it (`BIN` is its environment's), `tuned` is added to that, `takes_over`
    is what its settings say: seconds until a dead worker's events are another's, default and tuned.
    """

    name: str
    command: tuple[str, ...]
    takes_over: tuple[float, float]
    remains: Callable[[redis.Redis], remains.Remains]
    tuned: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its name and version."""
        pins = requirements(self.name)
        return ", ".join(f"{each} {pins[each]}" for each in self.distributions) or "this project"

    def worker(self, settings: str, binaries: Path, url: str) -> list[str]:
        """The command line of one worker."""
        words = [*self.command, *(self.tuned if settings == "tuned" else ())]
        return [word.replace("BIN", str(binaries)).replace("URL", url) for word in words]

    def process_environment(self, settings: str, url: str) -> dict[str, str]:
        """What its processes see: nothing of this project's or their own settings but what is said here."""
        strange = ("REDIS_", "STREAMS_", "QUEUE_", "DOCKET_", "ARQ_", "TASKIQ_", "OTEL_", "LOG_", "PYTHONPATH")
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(strange)}
        ours = {"PYTHONPATH": str(ROOT), "PEER_URL": url, "PEER_SETTINGS": settings, "PEER_LEASE": str(LEASE)}
        own = {"REDIS_URL": url, "STREAMS_APP": remains.APP} if not self.distributions else {}
        return kept | ours | own | self.environment.get(settings, {})


PEERS: Final = (
    Peer(
        "ours",
        (sys.executable, "-m", f"{ADAPTERS}.ours"),
        takes_over=(30, LEASE),
        remains=remains.of_ours,
        environment={"tuned": {"STREAMS_LEASE": str(LEASE)}},
    ),
    Peer(
        "docket",
        ("BIN/docket", "worker", "--tasks", f"{ADAPTERS}.docket:tasks", "--docket", "docket", "--url", "URL"),
        takes_over=(300, LEASE),
        remains=remains.of_docket,
        # Its leases are renewed four times in the timeout. Of the delay its help says that it is waited out after any
        # trouble with Redis: the default of 5 s is as long as the lease here.
        tuned=("--redelivery-timeout", f"{LEASE:.0f}s", "--reconnection-delay", "1s"),
        distributions=("pydocket",),
    ),
    Peer(
        "streaq",
        ("BIN/streaq", "run", f"{ADAPTERS}.streaq:worker"),
        takes_over=(60, LEASE),
        remains=remains.of_streaq,
        distributions=("streaq",),
    ),
    Peer(
        "taskiq",
        # One child to a worker, for all systems have as many handling processes: its default is two.
        ("BIN/taskiq", "worker", "--workers", "1", f"{ADAPTERS}.taskiq:broker"),
        takes_over=(600, LEASE),
        remains=remains.of_taskiq,
        distributions=("taskiq-redis", "taskiq"),
    ),
    Peer(
        "arq",
        ("BIN/arq", f"{ADAPTERS}.arq.WorkerSettings"),
        takes_over=(310, 3 * LEASE + 15),  # how long a job may run, and 10 s more
        remains=remains.of_arq,
        distributions=("arq",),
    ),
)  # fmt: skip
