"""What the tests of processors are made of: the engine without a server and with a clock of the test's own."""

from streams.testing.harness import Harness

__all__ = ["Harness"]
