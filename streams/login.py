"""Login: with which user and password a connection logs in, asked for anew each time one is made.

A password that is changed on the server and in `REDIS_PASSWORD_FILE` needs no restart: the next connection has it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from redis.credentials import CredentialProvider

from streams.address import Address
from streams.errors import StreamsError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from streams.settings import Settings


class Login(CredentialProvider):
    """The login at the servers with the data."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last: tuple[str, ...] = ()

    def get_credentials(self) -> Any:
        """User and password, the password alone, or nothing where there is none; called by redis-py."""
        with contextlib.suppress(StreamsError):  # REDIS_URL_FILE may be half written
            url = self._settings.url()
            if url is not None and not url.startswith("embedded:"):
                address = Address.parse(url)
                self._last = _pair(address.username, address.password)
        return self._last

    async def get_credentials_async(self) -> Any:
        """The same for the event loop: a small file is read sooner than a thread is asked for it."""
        return self.get_credentials()


class SentinelLogin(CredentialProvider):
    """The login at the sentinels, which have users of their own."""

    def __init__(self, username: str | None, password: SecretStr | None) -> None:
        self._username, self._password = username, password

    def get_credentials(self) -> Any:
        """As `Login.get_credentials`."""
        return _pair(self._username, self._password.get_secret_value() if self._password else None)

    async def get_credentials_async(self) -> Any:
        """The same for the event loop."""
        return self.get_credentials()


def _pair(username: str | None, password: str | None) -> tuple[str, ...]:
    if username:
        return username, password or ""
    return (password,) if password else ()
