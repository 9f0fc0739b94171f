"""Authentication: the user and password with which a connection logs in, read anew for each connection.

A password that is changed on the server and in `REDIS_PASSWORD_FILE` needs no restart: the next connection has it.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from redis.credentials import CredentialProvider

from streams.errors import ConfigurationError, StreamsError
from streams.redis.address import Address

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


# Tls: the context of TLS connections to Redis. Its files are checked at once, and read again when they change.

_VARIABLES: Final = {
    "ssl_ca_certs": "STREAMS_REDIS_CA", "ssl_certfile": "STREAMS_REDIS_CERT", "ssl_keyfile": "STREAMS_REDIS_KEY",
}  # fmt: skip
_REQUIREMENTS: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_NO: Final = ("0", "f", "false", "n", "no")


class Tls:
    """Makes the context; raises `ConfigurationError` for a file or an option that cannot work.

    A certificate that is renewed while the process runs is shown by the next connection. While a file cannot be read,
    the context of before is used.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = options
        self._files = [
            Path(options[name])
            for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
            if name in options
        ]
        self._state = self._look()
        self._context = self._make()

    @classmethod
    def of(cls, address: Address, settings: Settings) -> Tls | None:
        """That of an address, with the files that the settings name; an option of the URL wins over these."""
        if not address.tls:
            return None
        given = {
            "ssl_ca_certs": settings.redis_ca, "ssl_certfile": settings.redis_cert, "ssl_keyfile": settings.redis_key,
        }  # fmt: skip
        return cls({name: str(path) for name, path in given.items() if path is not None} | dict(address.tls_options))

    @property
    def options(self) -> dict[str, Any]:
        """The same for a client of redis-py's that makes its own context."""
        given: dict[str, Any] = dict(self._options)
        given["ssl_cert_reqs"] = self._wanted()
        given["ssl_check_hostname"] = self._context.check_hostname
        if "ssl_min_version" in given:
            given["ssl_min_version"] = self._context.minimum_version
        return given

    @property
    def verifies(self) -> bool:
        """Whether the server has to prove who it is."""
        return self._context.verify_mode is not ssl.CERT_NONE

    def get(self) -> ssl.SSLContext:
        """The context of a new connection; called by redis-py."""
        state = self._look()
        if state != self._state:
            with contextlib.suppress(ConfigurationError):  # it is being replaced
                self._context, self._state = self._make(), state
        return self._context

    def _look(self) -> list[tuple[int, int]]:
        try:
            return [(found.st_mtime_ns, found.st_ino) for found in (file.stat() for file in self._files)]
        except OSError:
            return []

    def _make(self) -> ssl.SSLContext:
        options = self._options
        wanted = self._wanted()
        if wanted not in _REQUIREMENTS:
            raise ConfigurationError("REDIS_URL: ssl_cert_reqs is none, optional or required")
        context = ssl.create_default_context()
        context.check_hostname = wanted != "none" and options.get("ssl_check_hostname", "").lower() not in _NO
        context.verify_mode = _REQUIREMENTS[wanted]
        if "ssl_certfile" in options or "ssl_keyfile" in options:
            self._load_own(context)
        for name, argument in (("ssl_ca_certs", "cafile"), ("ssl_ca_path", "capath")):
            if name in options:
                try:
                    context.load_verify_locations(**{argument: options[name]})
                except (OSError, ssl.SSLError) as error:
                    raise _unusable(name, options[name], error) from None
        try:
            if "ssl_min_version" in options:
                context.minimum_version = ssl.TLSVersion(int(options["ssl_min_version"]))
            if "ssl_ciphers" in options:
                context.set_ciphers(options["ssl_ciphers"])
        except (ValueError, ssl.SSLError):
            raise ConfigurationError("REDIS_URL: ssl_min_version or ssl_ciphers names nothing that there is") from None
        return context

    def _wanted(self) -> str:
        return self._options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")  # Celery writes CERT_NONE

    def _load_own(self, context: ssl.SSLContext) -> None:
        if "ssl_certfile" not in self._options:
            raise ConfigurationError("STREAMS_REDIS_KEY is set without STREAMS_REDIS_CERT")
        name = "ssl_certfile"
        try:
            if key := self._options.get("ssl_keyfile"):
                name = "ssl_keyfile"
                Path(key).read_bytes()
                name = "ssl_certfile"
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(self._options["ssl_certfile"], key, self._options.get("ssl_password", ""))
        except (OSError, ssl.SSLError) as error:
            raise _unusable(name, self._options[name], error) from None


def _unusable(name: str, path: str, error: OSError) -> ConfigurationError:
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").replace("_", " ").lower()
        problem = f"is no usable PEM file{f' ({reason})' if reason else ''}"
    else:
        problem = f"cannot be read ({error.strerror or error.__class__.__name__})"
    return ConfigurationError(f"{_VARIABLES.get(name, f'REDIS_URL: {name}')}={path} {problem}")
