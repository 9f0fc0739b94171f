"""translate_errors: says what an object store's errors mean: that it is away, or that there is no such file."""

from __future__ import annotations

from contextlib import AbstractContextManager

from streams.messages import store_errors


def translate_errors() -> AbstractContextManager[None]:
    """Raises `FileNotFoundError` or `Unavailable("storage")` for what the store raises in the block."""
    return store_errors("no such file: it was removed, or it is stored elsewhere")
