"""The events of the tests."""

from __future__ import annotations

from typing import Any

from streams import Event
from streams.events import upcast


class Noted(Event, stream="notes", version=1):
    """Something small happened."""

    n: int
    text: str = ""


class Other(Event, stream="others", version=1):
    """Something in another area happened."""

    n: int


class Followed(Event, stream="notes", version=1):
    """What follows from a note."""

    n: int


class Unhandled(Event, stream="notes", version=1):
    """Known, but no test's processor handles it."""

    n: int


class Renamed(Event, stream="notes", version=3):
    """An event that has changed twice."""

    full_name: str
    locale: str

    @staticmethod
    @upcast(from_version=1)
    def _split(data: dict[str, Any]) -> dict[str, Any]:
        return {"full_name": f"{data['first']} {data['last']}"}

    @staticmethod
    @upcast(from_version=2)
    def _locale(data: dict[str, Any]) -> dict[str, Any]:
        return data | {"locale": "en"}
