"""FileRefused: a file that is not what it should be. The message is for its sender."""

from __future__ import annotations

from streams import StreamsError


class FileRefused(StreamsError):
    """The file as a whole cannot be imported; trying again cannot help."""
