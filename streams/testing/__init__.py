"""Testing: processors in unit tests, without a server and without waiting: `Harness`. See docs/testing.md."""

from streams.testing.harness import Harness
from streams.testing.member import Crash

__all__ = ["Crash", "Harness"]
