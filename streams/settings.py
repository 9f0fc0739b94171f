"""Settings: everything the engine reads from the environment, typed, with units, in one place.

Secrets are also read from files (`REDIS_PASSWORD_FILE`) and never shown by `repr`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from streams.errors import ConfigurationError

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

T = TypeVar("T")


def comma_separated(value: Any) -> Any:
    """The parts of `a, b`, without empty ones; what is no text stays as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


CommaSeparated = Annotated[T, NoDecode, BeforeValidator(comma_separated)]
"""The type of a setting with several values: `CommaSeparated[tuple[str, ...]]`."""

Names = CommaSeparated[frozenset[str]]


class SecretFile(SecretStr):
    """A secret in a file, which is read again each time it is asked for: a rotated one needs no restart.

    While the file cannot be read, or is empty, the value is what it held last.
    """

    def __init__(self, path: str) -> None:
        super().__init__(_read(path))
        self._path = path

    def get_secret_value(self) -> str:
        """What the file holds now."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            self._secret_value = _read(self._path) or self._secret_value
        return self._secret_value


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8").strip()


class EnvironmentSettings(BaseSettings):
    """What every settings class does alike: secrets from files, and one line for what cannot work.

    Each of `secret_variables` may also be in a file: `VARIABLE_FILE` names it. Programs call `load()`. Making one
    raises `pydantic.ValidationError` for a value that cannot work, `ConfigurationError` for an unreadable secret file.
    """

    # An error that showed its input would print the passwords in it.
    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True, hide_input_in_errors=True)

    secret_variables: ClassVar[tuple[str, ...]] = ()
    read_secret: ClassVar[Callable[..., Any]] = _read

    @classmethod
    def load(cls) -> Self:
        """Reads the environment; raises `ConfigurationError` for what cannot work: one line that names each variable,
        and shows no value, which may be a secret.
        """
        try:
            return cls()
        except ValidationError as error:
            problems = error.errors(include_input=False, include_url=False, include_context=False)
            raise ConfigurationError("; ".join(map(cls._named, problems))) from None

    @classmethod
    def _named(cls, problem: Any) -> str:
        """One problem with the variable that has it."""
        text, place = str(problem["msg"]).removeprefix("Value error, "), [str(part) for part in problem["loc"][:1]]
        if not place:
            return text  # of several settings together: it names them itself
        names = cls._variables(place[0])
        given = [name for name in names if name in os.environ or f"{name}_FILE" in os.environ]
        return f"{' or '.join(given[:1] or names)}: {text}"

    @classmethod
    def _variables(cls, place: str) -> list[str]:
        """The environment variables of a field, by its name or one of its aliases; the first that is set counts."""
        for name, field in cls.model_fields.items():
            choices = [str(choice) for choice in getattr(field.validation_alias, "choices", ())]
            if place in (name, *choices):
                prefixed = f"{cls.model_config.get('env_prefix') or ''}{name}".upper()
                return [choice for choice in choices if choice.isupper()] or [prefixed]
        return [place.upper()]

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: Any) -> Any:
        for variable in cls.secret_variables:
            name, path = variable.lower(), os.environ.get(f"{variable}_FILE")
            if path and not values.get(name) and not values.get(variable):
                try:
                    values[name] = cls.read_secret(path)
                except (OSError, UnicodeDecodeError) as error:
                    problem = error.__class__.__name__
                    raise ConfigurationError(f"{variable}_FILE={path} cannot be read: {problem}") from None
        return values


class Settings(EnvironmentSettings):
    """The engine's settings; the field comments name the environment variable and the unit.

    Raises `pydantic.ValidationError` for a value of the wrong kind, `ConfigurationError` for an unreadable secret file;
    `load()` raises `ConfigurationError` for both.
    """

    model_config = SettingsConfigDict(env_prefix="STREAMS_")

    secret_variables = ("REDIS_URL", "REDIS_PASSWORD", "SENTINEL_PASSWORD")
    read_secret = SecretFile

    # Where Redis is. REDIS_URL wins; else the guide's REDIS_HOST/PORT/PASSWORD/DB; else the embedded server.
    redis_url: SecretStr | None = Field(None, validation_alias=AliasChoices("redis_url", "REDIS_URL"))
    redis_host: str | None = Field(None, validation_alias=AliasChoices("redis_host", "REDIS_HOST"))
    redis_port: int = Field(6379, ge=1, le=65535, validation_alias=AliasChoices("redis_port", "REDIS_PORT"))
    redis_password: SecretStr | None = Field(None, validation_alias=AliasChoices("redis_password", "REDIS_PASSWORD"))
    redis_db: int = Field(0, ge=0, validation_alias=AliasChoices("redis_db", "REDIS_DB"))
    redis_ca: Path | None = None  # STREAMS_REDIS_CA: file with the CA of a rediss:// server
    redis_cert: Path | None = None  # STREAMS_REDIS_CERT: file with this client's certificate, where one is asked for
    redis_key: Path | None = None  # STREAMS_REDIS_KEY: file with its key
    # REDIS_USERNAME: ACL user, unless REDIS_URL names one; SENTINEL_*: those of the sentinels, which have their own
    redis_username: str | None = Field(None, validation_alias=AliasChoices("redis_username", "REDIS_USERNAME"))
    sentinel_username: str | None = Field(None, validation_alias=AliasChoices("sentinel_username", "SENTINEL_USERNAME"))
    sentinel_password: SecretStr | None = Field(
        None, validation_alias=AliasChoices("sentinel_password", "SENTINEL_PASSWORD")
    )
    redis_server: Path | None = None  # STREAMS_REDIS_SERVER: the redis-server binary the embedded default starts
    state_file: Path | None = None  # STREAMS_STATE_FILE: where the state of a consumer is written, for probes
    home: Path = Path(".streams")  # STREAMS_HOME: where the embedded server keeps its data

    # Names.
    app: str = Field(
        "planning-bord", validation_alias=AliasChoices("app", "STREAMS_APP", "QUEUE_PREFIX")
    )  # prefix of every key
    partitions: int = Field(
        1, ge=1, le=1024
    )  # STREAMS_PARTITIONS: the same for every process; see docs/operate/operations.md
    source: str = ""  # STREAMS_SOURCE: CloudEvents `source` of what this process publishes; `/app` unless set
    # STREAMS_EVENTS: modules whose import registers the events; those of installed applications unless set
    events: Names = frozenset()

    # Publishing.
    max_bytes: int = Field(256 * 1024, ge=1024)  # STREAMS_MAX_BYTES: cap of one event's data
    # STORAGE_URL: where data over that cap goes, s3://bucket/prefix or file:///directory; refused unless set
    storage_url: SecretStr | None = Field(None, validation_alias=AliasChoices("storage_url", "STORAGE_URL"))
    publish_timeout: float = Field(10.0, gt=0)  # STREAMS_PUBLISH_TIMEOUT: timeout of publish() in seconds
    replicated: bool = False  # STREAMS_REPLICATED: publish() waits for replicas by default
    replicas: int = Field(1, ge=1)  # STREAMS_REPLICAS: how many must have a replicated event
    replicated_within: float = Field(1.0, gt=0, le=60)  # STREAMS_REPLICATED_WITHIN: seconds they have for it

    # Processing.
    concurrency: int = Field(50, ge=1, le=10_000)  # STREAMS_CONCURRENCY: handlers at once per consumer
    prefetch: int = Field(1000, ge=1)  # STREAMS_PREFETCH: maximum number of messages a consumer holds
    lease: float = Field(30.0, ge=0.2)  # STREAMS_LEASE: seconds until a silent consumer's messages are reclaimed
    grace: float = Field(20.0, ge=0)  # STREAMS_GRACE: seconds to finish handlers after SIGTERM
    block: float = Field(5.0, gt=0, le=30)  # STREAMS_BLOCK: seconds one blocking read waits
    timeout: float = Field(60.0, gt=0)  # STREAMS_TIMEOUT: seconds a handler may take unless it says otherwise
    attempts: int = Field(
        3, ge=1, validation_alias=AliasChoices("attempts", "STREAMS_ATTEMPTS", "QUEUE_DEFAULT_ATTEMPTS")
    )  # tries in total
    backoff: int = Field(
        2000, ge=0, validation_alias=AliasChoices("backoff", "STREAMS_BACKOFF", "QUEUE_DEFAULT_BACKOFF")
    )  # milliseconds before the first retry
    deliveries: int = Field(5, ge=1)  # STREAMS_DELIVERIES: deliveries without any outcome before it is poison
    unsupported_for: float = Field(86_400.0, ge=0)  # STREAMS_UNSUPPORTED_FOR: seconds a newer version may wait
    unsupported_every: float = Field(60.0, gt=0)  # STREAMS_UNSUPPORTED_EVERY: seconds between looks at it

    # Keeping. Nothing is removed unless one of these says so.
    keep: int | None = Field(None, ge=0)  # STREAMS_KEEP: settled entries that stay, per stream and priority
    keep_for: float | None = Field(None, gt=0)  # STREAMS_KEEP_FOR: seconds that settled entries stay
    abandoned_after: float = Field(604_800.0, gt=0)  # STREAMS_ABANDONED_AFTER: seconds without any consumer
    dead_most: int | None = Field(None, ge=1)  # STREAMS_DEAD_MOST: dead letters of a group; the oldest go beyond it
    park_after: int = Field(3, ge=1)  # STREAMS_PARK_AFTER: replays after which only a name or force replays again

    # Risks an operator takes knowingly: no-aof, eviction.
    accept_risk: Names = frozenset()  # STREAMS_ACCEPT_RISK

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not _NAME.fullmatch(self.app):
            raise ValueError(f"app {self.app!r} must be 1-64 of a-z 0-9 _ . - (QUEUE_PREFIX)")
        if self.redis_host is not None and not _is_host(self.redis_host):
            raise ValueError("REDIS_HOST is a name or an address alone; the port is REDIS_PORT, a URL is REDIS_URL")
        unknown = self.accept_risk - {"no-aof", "eviction"}
        if unknown:
            raise ValueError(f"STREAMS_ACCEPT_RISK: {sorted(unknown)} unknown; it takes no-aof and eviction")
        return self

    def url(self) -> str | None:
        """The Redis URL with its password, or None when the embedded server is meant. Never log it: see `place`.

        What comes from a file (`REDIS_PASSWORD_FILE`) is read again with each call.
        """
        if self.redis_url is not None and (url := self.redis_url.get_secret_value()):
            return url if url.startswith("embedded:") else self._with_login(url)
        if self.redis_host is None:
            return None
        host = self.redis_host.strip("[]")
        host = f"[{host}]" if ":" in host else host
        return self._with_login(f"redis://{host}:{self.redis_port}/{self.redis_db}")

    def _with_login(self, url: str) -> str:
        """The URL with REDIS_USERNAME and REDIS_PASSWORD, where it has none of its own."""
        _quoted("REDIS_URL", url)
        try:
            parts = urlsplit(url)
        except ValueError:
            return url  # `Address` says what is wrong with it
        login, _, host = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        if "password=" in parts.query:
            return url
        user = user or _quoted("REDIS_USERNAME", self.redis_username or "")
        given = self.redis_password.get_secret_value() if self.redis_password else ""
        password = password or _quoted("REDIS_PASSWORD", given)
        if not user and not password:
            return url
        return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))


def _quoted(variable: str, value: str) -> str:
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:  # what the environment gives in another encoding
        raise ConfigurationError(f"{variable} is not UTF-8") from None


def _is_host(text: str) -> bool:
    if ":" not in text:
        return not set(text) & set("/@?#[] ")
    try:
        IPv6Address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def place(url: str) -> str:
    """Names a Redis URL for people: scheme, host and path, without user or password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
