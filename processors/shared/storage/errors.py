"""translate_errors: says what an object store's errors mean: that it is away, or that there is no such file."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from streams import Unavailable
from streams.messages import describe


@contextmanager
def translate_errors() -> Generator[None]:
    """Raises `FileNotFoundError` or `Unavailable("storage")` for what the store raises in the block."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError("no such file: it was removed, or it is stored elsewhere") from None
    except (BaseError, OSError) as error:
        raise Unavailable("storage", f"storage: {describe(error)}") from error
