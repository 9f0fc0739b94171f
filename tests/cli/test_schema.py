"""schema: the contracts are checked and accepted, and described for other tools."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import yaml

from streams.events.event import _registry
from tests.cli.conftest import Command

pytestmark = pytest.mark.newest_redis


def test_accepted_then_checked_then_broken(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is new must be accepted; what breaks is told with its field, and ends with 1."""
    # Events of other tests in this process are no contracts, and examples of some cannot be made.
    own = {type: event for type, event in _registry.items() if event.__module__.startswith("schemas.")}
    monkeypatch.setattr("streams.events.event._registry", own)
    place = ("--contracts", str(tmp_path / "contracts"))
    checked = command("schema", "--check", *place)
    assert checked.code == 1
    assert "UserRegistered v1: it is not accepted yet; run streams schema --accept" in checked.out
    accepted = command("schema", "--accept", *place)
    assert accepted.code == 0
    assert f"accepted {tmp_path}/contracts/UserRegistered.v1.json" in accepted.out
    checked = command("schema", "--check", *place)
    assert checked.code == 0
    assert "events are as accepted in" in checked.err

    contract = tmp_path / "contracts" / "UserRegistered.v1.json"
    schema = orjson.loads(contract.read_bytes())
    schema["properties"]["phone"] = {"type": "string"}
    contract.write_bytes(orjson.dumps(schema))
    checked = command("schema", "--check", *place)
    assert checked.code == 1
    assert checked.out.startswith("UserRegistered v1, phone: was removed: consumers of the old code cannot read")
    assert checked.out.endswith("; raise the version to 2 and write an upcast from 1, or take it back\n")
    (told,) = command("schema", "--check", "--json", *place).json()
    assert (told["type"], told["field"], told["breaks"]) == ("UserRegistered", "phone", True)
    command("schema", "--accept", *place).refused(1, "phone")


def test_asyncapi_names_the_groups(command: Command) -> None:
    """Those of installed packages, or of the modules that are named; as JSON or YAML, the same at every call."""
    document = command("schema", "--asyncapi").json()
    assert document["asyncapi"] == "3.0.0"
    assert document["operations"]["receive-email-users"]["action"] == "receive"
    named = command("schema", "--asyncapi", "--processor", "processors.email").json()
    assert "receive-email-users" in named["operations"]
    shown = command("schema", "--asyncapi", "--yaml")
    assert yaml.safe_load(shown.out) == document


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (("--asyncapi", "--processor", "no.such.module"), 1, ("--processor no.such.module", "cannot be imported")),
        (("--asyncapi", "--processor", "schemas"), 1, ("has no processors in it",)),
        (("--yaml",), 2, ("--asyncapi",)),
        (("--check", "--accept"), 2, ("give one of",)),
        (("UserRegistered", "--asyncapi"), 2, ("give one of",)),
    ],
)
def test_usage(command: Command, arguments: tuple[str, ...], code: int, parts: tuple[str, ...]) -> None:
    command("schema", *arguments).refused(code, *parts)
