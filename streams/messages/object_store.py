"""Object store: a directory or a bucket, opened through obstore by its URL, for data that is too large for a stream."""

from __future__ import annotations

import atexit
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from streams.errors import ConfigurationError, extra
from streams.messages.error_text import describe
from streams.messages.outcome import Unavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_TRIES: Final[dict[str, Any]] = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
_COME_TO_REST: Final = 0.05  # seconds


def open_store(url: str, *, user: str, **options: Any) -> ObjectStore:
    """Opens `s3://bucket/prefix` or `file:///directory` (made if it is missing) for a `user`, which is named in errors.

    `options` go to `obstore.store.from_url`; S3 also reads `AWS_*` from the environment. Raises `ConfigurationError`
    for a URL that is none, and `MissingExtra` without the extra `storage`.
    """
    with extra("storage", for_=user):
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    if url.startswith("s3://"):
        options.setdefault("retry_config", _TRIES)
    elif url.startswith("file:///"):
        options.setdefault("mkdir", True)
    else:
        raise ConfigurationError("STORAGE_URL must be s3://bucket/prefix or file:///directory")
    try:
        store = from_url(url, **options)
    except (BaseError, ValueError, OSError) as error:
        # Its text quotes the URL, which may have a password in it.
        raise ConfigurationError(
            f"{user} cannot be opened where the settings say (STORAGE_URL: s3://bucket/prefix or file:///directory): "
            f"{error.__class__.__name__}"
        ) from None
    _rest_at_exit()
    return store


@contextmanager
def store_errors(missing: str = "") -> Iterator[None]:
    """Raises `Unavailable("storage")` for what a store raises in the block, and `FileNotFoundError` with the text
    `missing`, if it is given, for what is not there.
    """
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError) as error:
        if missing and isinstance(error, FileNotFoundError):
            raise FileNotFoundError(missing) from None
        raise Unavailable("storage", f"storage: {describe(error)}") from error


@cache
def _rest_at_exit() -> None:
    """A thread of obstore's that is still putting a call's last things away while the interpreter is taken down aborts
    the process: 180 of 480 that ended right after a call, on busy cores; none of 480 that waited 10 ms. Nothing of
    obstore can be waited for.
    """
    atexit.register(time.sleep, _COME_TO_REST)
