"""The fixtures of the engine's tests: `streams` is a client, `start(processor)` starts a consumer of it."""

from tests.streams.conftest import make_settings, start, streams

__all__ = ["make_settings", "start", "streams"]
