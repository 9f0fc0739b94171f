"""read_link_secret: what links are signed with. Without a setting a random one is made and kept."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from processors.shared.storage.settings import StorageSettings
from streams import Settings, StreamsError

_FILE: Final = "link-secret"


def read_link_secret(settings: StorageSettings) -> bytes:
    """`LINK_SECRET`, or the secret in `STREAMS_HOME`, which the first one who asks makes, readable by its user only.

    Raises `StreamsError` when the file cannot be made or read, or when others may read it.
    """
    if settings.link_secret is not None and (given := settings.link_secret.get_secret_value()):
        return given.encode()
    home = Settings.load().home
    path = home / _FILE
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        if path.stat().st_mode & 0o077:
            raise StreamsError(f"{path} may be read by others; chmod 600 it, or set LINK_SECRET")
        secret = path.read_bytes().strip()
    except OSError as error:
        raise StreamsError(f"{path}: {error.strerror}; set LINK_SECRET") from None
    if len(secret) < 32:
        raise StreamsError(f"{path} is damaged; remove it (its links end then), or set LINK_SECRET")
    return secret


def _make(path: Path) -> None:
    draft = path.with_name(f"{_FILE}-{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        # A link fails where a rename would replace: of two processes that begin together one makes it.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
