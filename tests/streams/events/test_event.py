"""The event base: frozen, validated at its publisher, versioned, and free of secrets."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import schemas
from streams import Event, SchemaError, Secret
from streams.events import redact, registered, registered_types, upcast
from streams.events.event import _registry
from tests.support.events import Renamed


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Any:
    """A test that defines an event takes it out of the registry again."""
    before = dict(_registry)
    yield
    _registry.clear()
    _registry.update(before)


def test_every_domain_event_is_registered_under_its_class_name() -> None:
    """Importing the contracts is all it takes."""
    for name in ("UserRegistered", "PasswordResetRequested", "StockBelowThreshold", "ReportGenerated"):
        assert registered(name) is getattr(schemas, name)
        assert name in registered_types()
    assert registered("Nobody") is None


def test_a_bad_event_fails_where_it_is_made() -> None:
    """A wrong value, and a field that does not exist."""
    with pytest.raises(ValidationError, match="email"):
        schemas.UserRegistered(user_id=1, email="no address", name="Ada")
    with pytest.raises(ValidationError, match="Extra inputs"):
        schemas.UserRegistered(user_id=1, email="a@example.com", name="Ada", nam="Ada")  # type: ignore[call-arg]


def test_an_event_cannot_be_changed() -> None:
    """It is a fact."""
    event = schemas.UserRegistered(user_id=1, email="a@example.com", name="Ada")
    with pytest.raises(ValidationError, match="frozen"):
        event.name = "Eve"  # type: ignore[misc]


def test_unknown_fields_are_ignored_when_read() -> None:
    """A publisher may add a field before its consumers know it."""
    data = b'{"business_id":1,"sku":"A","quantity":1,"threshold":2,"warehouse":"north"}'
    assert schemas.StockBelowThreshold.decode(data, 1).sku == "A"


def test_old_versions_are_upcast_step_by_step() -> None:
    """From 1 through 2 to 3, and from 2 to 3; a version nobody upcasts is an error."""
    assert Renamed.decode(b'{"first":"Ada","last":"Lovelace"}', 1) == Renamed(full_name="Ada Lovelace", locale="en")
    assert Renamed.decode(b'{"full_name":"Ada"}', 2) == Renamed(full_name="Ada", locale="en")
    with pytest.raises(ValueError, match="not a JSON object"):
        Renamed.decode(b"[]", 1)

    class Gap(Event, stream="notes", version=3):
        """Forgot a step."""

        @staticmethod
        @upcast(from_version=2)
        def _two(data: dict[str, Any]) -> dict[str, Any]:
            return data

    with pytest.raises(ValueError, match="no upcaster from version 1 to 2"):
        Gap.decode(b"{}", 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stream": ""}, "give stream="),
        ({"stream": "Users"}, "a-z"),
        ({"stream": "users", "version": 0}, "at least 1"),
        ({"stream": "users", "priority": "urgent"}, "must be one of high, normal, low"),
        ({"stream": "users", "type": "no spaces"}, "start with a letter"),
        ({"stream": "users", "type": "UserRegistered"}, "already schemas.users.UserRegistered"),
    ],
)
def test_a_class_that_cannot_be_a_contract_is_refused(options: dict[str, Any], said: str) -> None:
    """When it is defined, with the rule it breaks."""
    with pytest.raises(SchemaError, match=said):
        type("Bad", (Event,), {"__module__": __name__, "__qualname__": "Bad"}, **options)


def test_secrets_cannot_be_published() -> None:
    """An event class with a secret field does not come to be: a stream is a log that many read."""
    with pytest.raises(SchemaError, match="carry a reference instead"):

        class Leaky(Event, stream="users"):
            """Would put a token into a log."""

            token: Annotated[str, Secret]


def test_personal_data_is_redacted_where_people_look() -> None:
    """Marked fields are hidden, and everything nobody vouched for."""
    data = {"user_id": 1, "email": "ada@example.com", "name": "Ada", "extra": "?"}
    shown = redact(schemas.UserRegistered, data)
    assert shown == {"user_id": 1, "email": "[redacted]", "name": "[redacted]", "extra": "[redacted]"}
    assert set(redact(None, data).values()) == {"[redacted]"}


def test_each_event_describes_itself() -> None:
    """JSON Schema with its stream, its version and what is personal."""
    schema = schemas.UserRegistered.json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (schema["x-stream"], schema["x-version"]) == ("users", 1)
    assert schema["properties"]["email"]["x-pii"] is True
    assert "x-pii" not in schema["properties"]["user_id"]
    assert orjson.loads(orjson.dumps(schema)) == schema


class Anything(Event, stream="notes", type="AnythingAtAll"):
    """One field of each kind."""

    number: int
    text: str
    maybe: float | None
    many: list[str]
    nested: dict[str, int]


_INTS = st.integers(-(2**63), 2**63 - 1)


@given(
    _INTS,
    st.text(),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text()),
    st.dictionaries(st.text(), _INTS),
)
def test_every_event_survives_the_wire(
    number: int, text: str, maybe: float | None, many: list[str], nested: dict[str, int]
) -> None:
    """What is encoded is decoded to the same."""
    event = Anything(number=number, text=text, maybe=maybe, many=many, nested=nested)
    assert Anything.decode(event.encode(), 1) == event


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_decoder(data: bytes) -> None:
    """They are an event or a ValueError, nothing else."""
    with contextlib.suppress(ValueError, KeyError):
        Renamed.decode(data, 1)
