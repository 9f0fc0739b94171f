"""Testing: processors in unit tests, without a server and without waiting: `Harness`. See docs/testing.md."""

from importlib.util import find_spec

if find_spec("fakeredis") is None or find_spec("lupa") is None:
    raise ImportError("streams.testing needs the extra `testing`: pip install 'planning-bord-streams[testing]'")

from streams.testing.crash import Crash
from streams.testing.harness import Harness

__all__ = ["Crash", "Harness"]
