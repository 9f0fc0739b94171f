"""Testing: processors in unit tests, without a server and without waiting: `Harness`. See docs/start/testing.md.

On top of the engine: may import every package but `cli` and `sql`.
"""

from streams.errors import extra

with extra("testing", for_="streams.testing"):
    import lupa as _  # type: ignore[import-untyped]  # fakeredis without its Lua would fail at the first script

    from streams.testing.crash import Crash
    from streams.testing.harness import Harness

__all__ = ["Crash", "Harness"]
