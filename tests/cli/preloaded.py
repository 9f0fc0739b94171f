"""Importing it is what the server of `forked` does before its first command."""

from tests.cli.forked import preload

preload()
