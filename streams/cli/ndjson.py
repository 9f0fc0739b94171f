"""Ndjson: events from a file with one JSON object on each line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pydantic_core import from_json

from streams.cli.ending import Usage
from streams.cli.fields import event_class, make_event

if TYPE_CHECKING:
    from streams.events.event import Event

_LONGEST: Final = 4 * 1024 * 1024


def read_events(path: str) -> Iterator[Event]:
    """The events of a file, `-` for stdin, read line by line; empty lines are passed over.

    Raises `Usage` for a file that cannot be opened, and on the way naming the line that is wrong.
    """
    try:
        source = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115 - `_read` closes it
    except OSError as error:
        raise Usage(f"--ndjson {path}: {error.strerror}") from None
    return _read(source)


def _read(source: BinaryIO) -> Iterator[Event]:
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
