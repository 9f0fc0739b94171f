"""Testing: processors in unit tests, without a server and without waiting: `Harness`. See docs/testing.md."""

from streams.testing.crash import Crash
from streams.testing.harness import Harness

__all__ = ["Crash", "Harness"]
