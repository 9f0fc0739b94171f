"""The AsyncAPI document, against the schema that the AsyncAPI Initiative publishes."""

from __future__ import annotations

from copy import deepcopy
from importlib.metadata import entry_points
from typing import Any

import jsonschema
import orjson
import pytest
from pydantic import BaseModel

from processors.email import email
from streams import Event
from streams.events.asyncapi import document
from streams.events.event import _registry, registered, registered_types
from tests.faults.conftest import ROOT
from tests.support.events import Renamed

OURS = ("EmailRefused", "PasswordResetRequested", "ReportGenerated", "StockBelowThreshold", "UserRegistered")


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    """Checks a document as AsyncAPI 3.0.0."""
    return jsonschema.Draft7Validator(orjson.loads((ROOT / "tests/streams/events/asyncapi/3.0.0.json").read_bytes()))


@pytest.fixture
def described() -> dict[str, Any]:
    """Ours."""

    class Line(BaseModel):
        """A part."""

        sku: str

    class PartsListed(Event, stream="orders", version=1):
        """It has parts."""

        lines: list[Line]

    events = [event for event in map(registered, registered_types()) if event is not None and event.type in OURS]
    events += [Renamed, PartsListed]
    del _registry["PartsListed"]
    found: dict[str, Any] = orjson.loads(
        orjson.dumps(document("planning-bord", "1.0", events, {"email": list(email.subscriptions)}))
    )
    return found


def test_it_is_an_asyncapi_document(validator: jsonschema.Draft7Validator, described: dict[str, Any]) -> None:
    assert [error.message[:200] for error in validator.iter_errors(described)] == []


def test_the_check_can_fail(validator: jsonschema.Draft7Validator, described: dict[str, Any]) -> None:
    """A wrong action, a message that is no message, a missing title."""
    for change in (
        lambda it: it["operations"]["publish-users"].update(action="shout"),
        lambda it: it["components"]["messages"]["UserRegistered"].update(headers=7),
        lambda it: it["info"].pop("title"),
    ):
        broken = deepcopy(described)
        change(broken)
        assert not validator.is_valid(broken)


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    """Channels, messages, operations and schemas name each other, as do the parts of a payload."""

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for each in value.values() for found in references(each)]
        return [found for each in value for found in references(each)] if isinstance(value, list) else []

    for reference in references(described):
        found: Any = described
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def test_it_says_who_receives_what_and_what_is_personal(described: dict[str, Any]) -> None:
    received = described["operations"]["receive-email-users"]
    assert (received["action"], received["x-consumer-group"]) == ("receive", "email")
    assert {message["$ref"].rpartition("/")[2] for message in received["messages"]} == {
        "UserRegistered", "PasswordResetRequested",
    }  # fmt: skip
    assert described["components"]["schemas"]["UserRegistered"]["properties"]["email"]["x-pii"] is True
    assert described["components"]["messages"]["UserRegistered"]["x-reads-versions"] == [1]
    assert described["components"]["messages"]["Renamed"]["x-reads-versions"] == [1, 2, 3]
    assert described["channels"]["users"]["x-redis-keys"][0] == "{APP:0}:stream:users:high"


def test_examples_fit_their_payloads(described: dict[str, Any]) -> None:
    """By another reader of JSON Schema than the one that made them; a field that a reader does not know is allowed."""
    for message in described["components"]["messages"].values():
        rules = jsonschema.Draft202012Validator({**message["payload"], "components": described["components"]})
        for example in message["examples"]:
            rules.validate(example["payload"])
            rules.validate({**example["payload"], "unknown": 1})


def test_every_processor_of_this_project_is_announced() -> None:
    """So that the document that `streams schema --asyncapi` prints has its receivers."""
    made = [path.parent.name for path in (ROOT / "processors").glob("*/handlers.py")]
    assert sorted(made) == sorted(point.name for point in entry_points(group="streams.processors"))
