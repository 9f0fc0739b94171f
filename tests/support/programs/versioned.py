"""Versioned: the same processor before and after a deploy, by `VERSION`: 1 or 2."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from streams import Event, Processor, run
from tests.faults.soak.journal import Journal

VERSION = int(os.environ.get("VERSION", "2"))
labels = Processor("labels")
journal = Journal(Path(os.environ.get("VERSION_LOG", os.devnull)))


class Labelled(Event, stream="labels", version=VERSION):
    """A parcel got a label."""

    n: int


@labels.on(Labelled)
async def label(event: Labelled) -> None:
    """Writes down which version handled it."""
    journal.write("label", n=event.n, version=VERSION)


if __name__ == "__main__":
    sys.modules["tests.support.programs.versioned"] = sys.modules["__main__"]
    run(labels)
