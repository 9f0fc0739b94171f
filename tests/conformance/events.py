"""The events of the suite."""

from __future__ import annotations

from typing import Any

from schemas import Event, upcast


class Sent(Event, stream="parcels", version=1):
    """A parcel was sent."""

    number: int
    note: str = ""


class Arrived(Event, stream="arrivals", version=1):
    """A parcel has arrived."""

    number: int


class Returned(Event, stream="parcels", version=1):
    """A parcel came back: in the same stream, and not of interest to everybody."""

    number: int


class Labelled(Event, stream="labels", version=2):
    """A parcel has a label. Version 1 had the weight in grams."""

    kilograms: float

    @staticmethod
    @upcast(from_version=1)
    def _weigh(data: dict[str, Any]) -> dict[str, Any]:
        return {"kilograms": data["grams"] / 1000}
