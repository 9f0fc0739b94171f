"""Address: a Redis URL taken apart: of one server, of a unix socket, of a cluster, or of sentinels.

    redis://[user:password@]host[:port][/db]
    unix://[user:password@]/path/to/socket[?db=0]
    redis+cluster://[user:password@]host:port[,host:port...]
    redis+sentinel://[user:password@]host:port[,host:port...]/service[/db]

`rediss...` is the same over TLS. User and password are those of the servers with the data.

redis-py would let an option of the URL replace what the engine depends on (`decode_responses`, `protocol`), so it is
not given the URL. What an option may say is listed here, the rest is refused. No text of an error repeats a part of the
URL that may belong to a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from streams.errors import ConfigurationError
from streams.phrases import meant

_PORTS: Final = {"server": 6379, "cluster": 6379, "sentinel": 26379}
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_CLIENT_NAME: Final = re.compile(r"[!-~]{1,100}")
_OPTION_NAME: Final = re.compile(r"[a-z][a-z_]{0,40}")

TLS_OPTIONS: Final = frozenset(
    {
        "ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_ciphers",
        "ssl_keyfile", "ssl_min_version", "ssl_password",
    }
)  # fmt: skip
_HONOURED: Final = frozenset({"client_name", "db", "password", "username"}) | TLS_OPTIONS
_OWN: Final = frozenset(
    {
        "auto_close_connection_pool", "decode_responses", "encoding", "encoding_errors", "health_check_interval",
        "legacy_responses", "lib_name", "lib_version", "max_connections", "protocol", "retry", "retry_on_error",
        "retry_on_timeout", "single_connection_client", "socket_connect_timeout", "socket_keepalive",
        "socket_keepalive_options", "socket_read_size", "socket_timeout", "socket_type", "timeout",
    }
)  # fmt: skip
"""Options of redis-py that the engine sets itself: they are left out, and named in a line."""

_UNREADABLE: Final = (
    "REDIS_URL cannot be read as redis://user:password@host:port/db; percent-encode / ? # @ : in the password, "
    "or leave it out and set REDIS_PASSWORD"
)


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says. `service` is of sentinels, `path` of a unix socket; a unix socket has no `hosts`."""

    kind: Literal["server", "unix", "cluster", "sentinel"]
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    service: str = ""
    db: int = 0
    path: str = ""
    client_name: str = ""
    tls_options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    ignored: tuple[str, ...] = ()

    @classmethod
    def parse(cls, url: str) -> Address:
        """Takes a URL apart; raises `ConfigurationError` for a wrong one."""
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ConfigurationError(_UNREADABLE) from None
        scheme, _, kind = parts.scheme.partition("+")
        if parts.scheme == "unix":
            return cls._unix(parts)
        if scheme not in ("redis", "rediss") or kind not in ("", "cluster", "sentinel"):
            raise ConfigurationError(
                f"REDIS_URL has the scheme {parts.scheme!r}; use redis://, rediss://, unix://, redis+cluster://, "
                "redis+sentinel:// or embedded://[directory]"
            )
        if parts.fragment or "@" in parts.path:
            raise ConfigurationError(_UNREADABLE)
        if kind:
            return cls._several(parts, "cluster" if kind == "cluster" else "sentinel", tls=scheme == "rediss")
        login, _, place = parts.netloc.rpartition("@")
        options, ignored = _options(parts.query, tls=scheme == "rediss")
        if "," in place:
            raise ConfigurationError(
                "REDIS_URL names several hosts: use redis+cluster://host:port,host:port or "
                "redis+sentinel://host:port,host:port/service"
            )
        try:
            host = _host(place or "localhost", _PORTS["server"], default="localhost")
        except ValueError:
            raise ConfigurationError(_UNREADABLE) from None
        return cls(
            "server", scheme == "rediss", (host,), **_login(login, options),
            db=_database(options.get("db") or parts.path.strip("/")), ignored=ignored, **_rest(options),
        )  # fmt: skip

    @classmethod
    def _unix(cls, parts: SplitResult) -> Address:
        login, at, place = parts.netloc.rpartition("@")
        path = unquote(place + parts.path)
        if parts.fragment or not path or (at and not parts.path):
            raise ConfigurationError("REDIS_URL must look like unix:///path/to/socket?db=0")
        options, ignored = _options(parts.query, tls=False)
        return cls(
            "unix", False, (), **_login(login, options), db=_database(options.get("db", "")), path=path,
            ignored=ignored, **_rest(options),
        )  # fmt: skip

    @classmethod
    def _several(cls, parts: SplitResult, kind: Literal["cluster", "sentinel"], *, tls: bool) -> Address:
        form = f"{parts.scheme}://host:port,host:port" + ("/service" if kind == "sentinel" else "")
        login, _, places = parts.netloc.rpartition("@")
        options, ignored = _options(parts.query, tls=tls)
        service, _, number = parts.path.strip("/").partition("/")
        try:
            hosts = tuple(_host(place, _PORTS[kind]) for place in places.split(","))
        except ValueError:
            raise ConfigurationError(f"REDIS_URL must look like {form}") from None
        if bool(service) != (kind == "sentinel"):
            raise ConfigurationError(f"REDIS_URL must look like {form}, without more")
        db = _database(options.get("db") or number)
        if db and kind == "cluster":
            raise ConfigurationError("REDIS_URL: a cluster has the database 0 only")
        return cls(
            kind, tls, hosts, **_login(login, options), service=unquote(service), db=db, ignored=ignored,
            **_rest(options),
        )  # fmt: skip


def _options(query: str, *, tls: bool) -> tuple[dict[str, str], tuple[str, ...]]:
    """The options that are honoured, and the names of those that are the engine's own."""
    options, ignored = {}, []
    for name, values in parse_qs(query, keep_blank_values=True).items():
        if not _OPTION_NAME.fullmatch(name):
            raise ConfigurationError(_UNREADABLE)
        if name in _OWN:
            ignored.append(name)
        elif name in TLS_OPTIONS and not tls:
            raise ConfigurationError(f"REDIS_URL has the option {name}, which is for rediss:// alone")
        elif name not in _HONOURED:
            is_tls = name in ("ssl", "tls")
            hint = "use rediss:// for TLS" if is_tls else meant(name, _HONOURED, "leave it out")
            raise ConfigurationError(f"REDIS_URL has an unknown option {name}; {hint}")
        elif len(values) > 1:
            raise ConfigurationError(f"REDIS_URL has the option {name} twice")
        else:
            options[name] = values[0]
    return options, tuple(sorted(ignored))


def _login(login: str, options: dict[str, str]) -> dict[str, Any]:
    name, _, password = login.partition(":")
    return {
        "username": unquote(name) or options.get("username") or None,
        "password": unquote(password) or options.get("password") or None,
    }


def _rest(options: dict[str, str]) -> dict[str, Any]:
    name = options.get("client_name", "")
    if name and not _CLIENT_NAME.fullmatch(name):
        raise ConfigurationError("REDIS_URL: client_name must be up to 100 visible ASCII characters, without spaces")
    return {
        "client_name": name,
        "tls_options": tuple((name, value) for name, value in options.items() if name in TLS_OPTIONS and value),
    }


def _database(text: str) -> int:
    if text and not _NUMBER.fullmatch(text):
        raise ConfigurationError("REDIS_URL: what stands behind the host must be the number of a database, as in /0")
    return int(text or 0)


def _host(place: str, port: int, default: str = "") -> tuple[str, int]:
    host, colon, given = place.rpartition(":")
    if place.startswith("[") and place.endswith("]"):
        host, colon = place, ""
    elif host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError(place)
    if not colon:
        host, given = place, str(port)
    host = unquote(host.removeprefix("[").removesuffix("]")) or default
    if not host or not _NUMBER.fullmatch(given or str(port)) or not 0 < int(given or port) < 65536:
        raise ValueError(place)
    return host, int(given or port)
