"""Testing: processors in unit tests, without a server and without waiting: `Harness`. See docs/testing.md."""

try:
    import fakeredis as _
    import lupa as _  # noqa: F811 - only to see that both are there
except ImportError as error:
    raise ImportError("streams.testing needs the extra `testing`: planning-bord-streams[testing]") from error

from streams.testing.crash import Crash
from streams.testing.harness import Harness

__all__ = ["Crash", "Harness"]
