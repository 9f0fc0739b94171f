"""Environment: what every settings class does alike: secrets from files, and one line for what cannot work."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

from streams.errors import StreamsError

_M = TypeVar("_M", bound=BaseModel)


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


def with_secrets(values: Any, *variables: str, read: Callable[[str], Any] = _read) -> Any:
    """Adds the secrets whose `VARIABLE_FILE` is set and which are not given otherwise, to what a settings class is made
    from. Raises `StreamsError`, naming the file, when one cannot be read.
    """
    for variable in variables:
        name, path = variable.lower(), os.environ.get(f"{variable}_FILE")
        if path and not values.get(name) and not values.get(variable):
            try:
                values[name] = read(path)
            except (OSError, UnicodeDecodeError) as error:
                raise StreamsError(f"{variable}_FILE={path} cannot be read: {error.__class__.__name__}") from None
    return values


def loaded(settings: type[_M]) -> _M:
    """Makes settings from the environment; raises `StreamsError`, one line naming the variable, for what cannot work.

    The value is not shown: it may hold a password.
    """
    try:
        return settings()
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)[0]
        variable = "_".join(str(part) for part in found["loc"][:1]).upper()
        problem = found["msg"].removeprefix("Value error, ")
        raise StreamsError(f"{variable}: {problem}" if variable else problem) from None
