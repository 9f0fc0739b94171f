"""Event input: makes an event from typed fields, `user_id=7 email=ada@example.com`, or from a JSON object.

An error names the fields; the values of personal ones are not repeated, since terminals are logged.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pydantic_core import PydanticSerializationError, from_json, to_json

from streams.cli.exit import Usage
from streams.phrases import meant

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

    from streams.events.event import Event


def event_class(type: str) -> type[Event]:
    """The class of a wire type; raises `Usage` with close matches for an unknown one."""
    from streams.events.event import registered, registered_types

    found = registered(type)
    if found is not None:
        return found
    hint = meant(type, registered_types(), "see `streams schema` for those there are", most=3, cutoff=0.5)
    raise Usage(f"no event is registered as {type!r}; {hint} (STREAMS_EVENTS names the modules that register events)")


def split_fields(texts: list[str]) -> dict[str, str]:
    """`name=value` texts as a dict; raises `Usage` for one without `=` or a name that comes twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Usage(f"field {len(found) + 1} is not of the form name=value: {name[:40]!r}")
        if name in found:
            raise Usage(f"the field {name} is given twice")
        found[name] = value
    return found


def parse_data(text: str) -> dict[str, Any]:
    """A JSON object; raises `Usage`."""
    try:
        document = from_json(text, allow_inf_nan=False)  # which keeps every digit of an integer
    except ValueError as error:
        raise Usage(f"--data is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise Usage(f"--data must be a JSON object, not {document.__class__.__name__}")
    return document


def make_event(model: type[Event], data: dict[str, Any], fields: dict[str, str]) -> Event:
    """An event of `data` and, over it, `fields`, each read as its field's type; raises `Usage` naming what is wrong."""
    from pydantic import ValidationError

    values = data | {name: _read(model, name, text) for name, text in fields.items()}
    try:
        # By the names that travel: an alias is for those who make the event in Python.
        return model.model_validate_json(to_json(values), extra="forbid", by_alias=False, by_name=True)
    except ValidationError as error:
        raise Usage(f"{model.type}: {_problems_of(model, error)}") from None
    except PydanticSerializationError:  # text that is no UTF-8
        raise Usage(f"{model.type}: the fields must be UTF-8") from None


def _read(model: type[Event], name: str, text: str) -> Any:
    """The value of one field: text where text fits, else as JSON (numbers, true, lists, null)."""
    from pydantic import ValidationError

    if name not in model.model_fields:
        return text
    try:
        _adapter(model, name).validate_strings(text)
    except ValidationError:
        try:
            return from_json(text, allow_inf_nan=False)
        except ValueError:
            return text
    return text


@cache
def _adapter(model: type[Event], name: str) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(model.model_fields[name].annotation or Any)


def _problems_of(model: type[Event], error: ValidationError) -> str:
    from streams.events.privacy import PII, Secret, marked_fields

    private = marked_fields(model, PII) | marked_fields(model, Secret)
    problems = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        name = str(problem["loc"][0]) if problem["loc"] else "data"
        where = ".".join(map(str, problem["loc"])) or "data"
        if problem["type"] == "missing":
            problems.append(f"{where} is missing")
        elif problem["type"] == "extra_forbidden":
            close = _named_by(model, name)
            hint = f"did you mean {close[0]}?" if close else meant(name, model.model_fields, "")
            problems.append(f"{where} is no field of it" + (f" ({hint})" if hint else ""))
        elif name in private and problem["type"] == "value_error":
            problems.append(f"{where} is not valid")  # the message may quote the value
        else:
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{where}: {message[:1].lower()}{message[1:]}")
    return "; ".join(problems)


def _named_by(model: type[Event], alias: str) -> list[str]:
    """The field that has this alias."""
    fields = model.model_fields.items()
    return [name for name, field in fields if alias in (field.alias, field.validation_alias, field.serialization_alias)]


# Ndjson: events from a file with one JSON object on each line.

_LONGEST: Final = 4 * 1024 * 1024


def read_events(path: str) -> Iterator[Event]:
    """The events of a file, `-` for stdin, read line by line; empty lines are passed over.

    Raises `Usage` for a file that cannot be opened, and on the way naming the line that is wrong.
    """
    try:
        source = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115 - `_read_lines` closes it
    except OSError as error:
        raise Usage(f"--ndjson {path}: {error.strerror}") from None
    return _read_lines(source)


def _read_lines(source: BinaryIO) -> Iterator[Event]:
    with source as lines:
        for number, line in enumerate(iter(lambda: lines.readline(_LONGEST), b""), 1):
            if not line.strip():
                continue
            if len(line) == _LONGEST:
                raise Usage(f"line {number}: longer than {_LONGEST:,} bytes")
            try:
                yield _event(line)
            except Usage as error:
                raise Usage(f"line {number}: {error}") from None


def _event(line: bytes) -> Event:
    try:
        document: Any = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise Usage(f"no JSON: {error}") from None
    if not isinstance(document, dict) or set(document) != {"type", "data"}:
        raise Usage('must be an object with "type" and "data" and nothing else')
    if not isinstance(document["type"], str) or not isinstance(document["data"], dict):
        raise Usage('"type" must be a string and "data" an object')
    return make_event(event_class(document["type"]), document["data"], {})
