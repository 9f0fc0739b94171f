"""schema: the contracts are checked and accepted, and described for other tools."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.cli.conftest import Command

pytestmark = pytest.mark.newest_redis


def test_accepted_then_checked_then_broken(command: Command, tmp_path: Path) -> None:
    """What is new must be accepted; what breaks is told with its field, and ends with 1."""
    place = ("--contracts", str(tmp_path / "contracts"))
    checked = command("schema", "--check", *place)
    assert checked.code == 1
    assert "UserRegistered v1: it is not accepted yet; run streams schema --accept" in checked.out
    accepted = command("schema", "--accept", *place)
    assert accepted.code == 0
    assert f"accepted {tmp_path}/contracts/UserRegistered.v1.json" in accepted.out
    checked = command("schema", "--check", *place)
    assert checked.code == 0
    assert "events are as accepted in" in checked.out

    contract = tmp_path / "contracts" / "UserRegistered.v1.json"
    schema = orjson.loads(contract.read_bytes())
    schema["properties"]["phone"] = {"type": "string"}
    contract.write_bytes(orjson.dumps(schema))
    checked = command("schema", "--check", *place)
    assert checked.code == 1
    assert "UserRegistered v1, phone: it was removed or renamed; raise the version and write an upcast" in checked.out
    command("schema", "--accept", *place).refused(1, "phone")


def test_asyncapi_names_the_groups(command: Command) -> None:
    shown = command("schema", "--asyncapi", "--processor", "processors.email")
    document = orjson.loads(shown.out)
    assert document["asyncapi"] == "3.0.0"
    assert document["operations"]["email-users"]["action"] == "receive"


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (("--asyncapi", "--processor", "no.such.module"), 1, ("--processor no.such.module", "cannot be imported")),
        (("--asyncapi", "--processor", "schemas"), 1, ("has no processors in it",)),
        (("--check", "--accept"), 2, ("give one of",)),
        (("UserRegistered", "--asyncapi"), 2, ("give one of",)),
    ],
)
def test_usage(command: Command, arguments: tuple[str, ...], code: int, parts: tuple[str, ...]) -> None:
    command("schema", *arguments).refused(code, *parts)
