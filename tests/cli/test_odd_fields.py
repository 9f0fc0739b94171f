"""publish: fields of odd events, as they are typed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from pydantic import Field

from streams import Event
from tests.cli.conftest import Command

pytestmark = pytest.mark.newest_redis


class OddPrice(Event, stream="prices"):
    """Numbers that JSON readers like to change, and a field with another name."""

    zip_code: int = Field(0, alias="zipCode")
    total: float = 0
    exact: Decimal = Decimal(0)
    anything: Any = None


def published(command: Command, *arguments: str) -> dict[str, Any]:
    """The data that was published, by what `event` shows of it."""
    id = command("publish", "OddPrice", *arguments, "--json").json()["id"]
    return dict(json.loads(command("event", id, "--json", "--reveal").out)["data"])


def test_fields_have_the_names_that_travel(command: Command) -> None:
    """An alias is refused with the name to write instead."""
    assert published(command, "zip_code=1")["zip_code"] == 1
    command("publish", "OddPrice", "zipCode=1").refused(2, "zipCode is no field of it (did you mean zip_code?)")
    command("publish", "OddPrice", "--data", '{"zipCode": 1}').refused(2, "did you mean zip_code?")


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-Infinity"])
def test_a_number_is_finite(command: Command, value: str) -> None:
    """JSON has no other."""
    command("publish", "OddPrice", f"total={value}").refused(2, "total: input should be a finite number")
    command("publish", "OddPrice", f"exact={value}").refused(2, "exact: input should be a finite number")
    command("publish", "OddPrice", "--data", f'{{"total": {value}}}').refused(2, "--data is no JSON")


def test_no_digit_of_an_integer_is_lost(command: Command) -> None:
    """Also beyond 64 bits, typed or in JSON."""
    many = 12345678901234567890123
    for arguments in ((f"zip_code={many}",), ("--data", f'{{"zip_code": {many}}}'), (f"anything=[{many}]",)):
        id = command("publish", "OddPrice", *arguments, "--json").json()["id"]
        assert str(many) in command("event", id, "--reveal").out


def test_what_cannot_be_published_is_one_line(command: Command) -> None:
    """A key that is no UTF-8, a value that is none."""
    command("publish", "OddPrice", "--key", "\udc80").refused(2, "argument 4", "is not UTF-8")
    command("publish", "OddPrice", "--once", "\udc80").refused(2, "argument 4", "is not UTF-8")
    command("publish", "OddPrice", "anything=\udc80").refused(2, "UTF-8")
    assert command("status", "--json").json()["waiting"]["total"] == 0
