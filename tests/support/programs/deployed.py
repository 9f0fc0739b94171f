"""Deployed: a processor whose processes are replaced under load, with `VERSION` 1 or 2 for the code before and after a
deploy.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from streams import Event, Processor, run
from streams.events import upcast
from tests.faults.soak.journal import Journal

VERSION = int(os.environ.get("VERSION", "2"))
shipping = Processor("shipping")
journal = Journal(Path(os.environ.get("DEPLOY_LOG", os.devnull)))

if VERSION == 1:

    class Shipped(Event, stream="shipments", version=1):
        """A parcel is on its way."""

        n: int

else:

    class Shipped(Event, stream="shipments", version=2):  # type: ignore[no-redef]
        """A parcel is on its way, with somebody."""

        n: int
        carrier: str

        @staticmethod
        @upcast(from_version=1)
        def _with_nobody(data: dict[str, Any]) -> dict[str, Any]:
            return data | {"carrier": ""}


@shipping.on(Shipped)
async def ship(event: Shipped) -> None:
    """Takes much less than the grace of its process."""
    journal.write("start", n=event.n, pid=os.getpid(), version=VERSION)
    await asyncio.sleep(0.02)
    journal.write("end", n=event.n)


if __name__ == "__main__":
    sys.modules["tests.support.programs.deployed"] = sys.modules["__main__"]
    run(shipping)
