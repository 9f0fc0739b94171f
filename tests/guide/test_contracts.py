"""The contract of an event: what may change in it, and what needs a new version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams import Event, SchemaError
from streams.events import event, upcast
from streams.events.contract import accept, compare


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Each class here is another day's state of the code."""
    yield
    event._registry.pop("ParcelSent", None)


def the_first() -> type[Event]:
    """As it was accepted."""

    class ParcelSent(Event, stream="parcels", version=1):
        parcel_id: int
        carrier: str

    return ParcelSent


def the_next_day() -> None:
    """The code is edited."""
    event._registry.pop("ParcelSent")


def test_an_optional_field_is_accepted(tmp_path: Path) -> None:
    """What `streams schema --accept` and `--check` do."""
    accept(tmp_path, [the_first()])
    the_next_day()

    class ParcelSent(Event, stream="parcels", version=1):
        parcel_id: int
        carrier: str
        weight: float | None = None

    (change,) = compare(tmp_path, [ParcelSent])
    assert str(change) == "ParcelSent v1, weight: is new and optional; run streams schema --accept"
    accept(tmp_path, [ParcelSent])
    assert compare(tmp_path, [ParcelSent]) == []


def test_a_required_field_needs_a_new_version(tmp_path: Path) -> None:
    """Old messages, which lie in the stream, have no value for it: an upcast gives them one."""
    accept(tmp_path, [the_first()])
    the_next_day()

    class Changed(Event, stream="parcels", version=1, type="ParcelSent"):
        parcel_id: int
        carrier: str
        country: str

    with pytest.raises(SchemaError, match="country: is new and required: messages that lie in streams cannot be read"):
        accept(tmp_path, [Changed])
    the_next_day()

    class ParcelSent(Event, stream="parcels", version=2):
        parcel_id: int
        carrier: str
        country: str

        @staticmethod
        @upcast(from_version=1)
        def _country(data: dict[str, Any]) -> dict[str, Any]:
            return data | {"country": "DE"}

    assert [path.name for path in accept(tmp_path, [ParcelSent])] == ["ParcelSent.v2.json"]
    assert compare(tmp_path, [ParcelSent]) == []
