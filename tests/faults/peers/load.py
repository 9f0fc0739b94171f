"""Load: what each handler does, and what the environment says; it runs in every system's environment."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from tests.faults.soak.journal import Journal

URL: Final = os.environ["PEER_URL"]
TUNED: Final = os.environ["PEER_SETTINGS"] == "tuned"
LEASE: Final = float(os.environ["PEER_LEASE"])
"""Seconds of silence after which a tuned system gives a worker's events to another one."""
JOURNAL: Final = Journal(Path(os.environ["PEER_JOURNAL"]))
QUICK: Final = 0.005
SLOW: Final = 0.5  # of each tenth: some are under way whenever it hurts

if os.environ["PEER_ROLE"] == "work":
    # A worker may be a manager that forks, and forks again what died: `leader` is what the runner started.
    JOURNAL.write("ready", pid=os.getpid(), leader=os.getpgrp())


def token(n: int) -> str:
    """What is published: a text that can be found again in whatever a system makes of its arguments."""
    return f"event-{n:06d}"


async def handle(text: str) -> None:
    """What every handler does: it says that it begins, takes its time, and says that it is done."""
    n = int(text.removeprefix("event-"))
    JOURNAL.write("start", n=n, pid=os.getpid())
    await asyncio.sleep(QUICK if n % 10 else SLOW)
    JOURNAL.write("end", n=n, pid=os.getpid())
