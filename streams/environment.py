"""Environment: what every settings class does alike: secrets from files, and one line for what cannot work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from streams.errors import StreamsError

_M = TypeVar("_M", bound=BaseModel)


def with_secrets(values: Any, *variables: str) -> Any:
    """Adds the secrets whose `VARIABLE_FILE` is set and which are not given otherwise, to what a settings class is made
    from. Raises `StreamsError`, naming the file, when one cannot be read.
    """
    for variable in variables:
        name, path = variable.lower(), os.environ.get(f"{variable}_FILE")
        if path and not values.get(name) and not values.get(variable):
            try:
                values[name] = Path(path).read_text(encoding="utf-8").strip()
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
