"""cancel, pause and resume, as commands."""

from __future__ import annotations

from streams import Settings, Streams
from tests.cli.conftest import Cli, Command
from tests.cli.consuming import Desk, consuming
from tests.support.events import Noted


async def test_cancel(cli: Cli, client: Streams) -> None:
    """What waits is cancelled; a second time it was before."""
    receipt = await client.publish(Noted(n=1), delay=600)
    ended = await cli("cancel", receipt.id)
    assert (ended.code, ended.out) == (0, "cancelled: no group had read it\n"), ended
    assert (await cli("cancel", receipt.id)).out == "cancelled before\n"
    second = await client.publish(Noted(n=2), delay=600)
    assert (await cli("cancel", second.id, "--json")).json() == {"id": second.id, "groups": {}, "before": False}


def test_what_was_cancelled_while_delayed_is_shown(command: Command) -> None:
    """By `event`, `doctor why` and `status`; an id that is unknown is one line with each place that was looked at."""
    fields = ("user_id=1", "email=a@example.com", "name=A")
    id = command("publish", "UserRegistered", *fields, "--delay", "10m", "--json").json()["id"]
    command("cancel", id)
    shown = command("event", id).out
    assert "UserRegistered" in shown
    assert "no stream any more (it was for users)" in shown
    assert "It was cancelled at " in shown
    assert command("event", id, "--json").json()["cancelled"]["stream"] == "users"
    assert "before any group had it" in command("doctor", "why", id).out
    assert "; 1 delayed cancelled before they were due\n" in command("status").out
    unknown = command("cancel", "01a20c50-ac10-7e68-ad90-06e7bb86ee16")
    unknown.refused(1, "no event 01a20c50", "what waits", "cancellations")
    places = unknown.err.split("; ")
    assert len(places) == len(set(places)), unknown


async def test_pause_and_resume(cli: Cli, client: Streams, settings: Settings) -> None:
    """Each says what it did, and that it was so already; an unknown group is one line."""
    (await cli("pause", "email")).refused(1, "no group email")
    async with consuming(Desk(), settings):
        assert (await cli("pause", "email")).out == "email is paused\n"
        assert (await cli("pause", "email")).out == "email was paused already\n"
        assert (await cli("resume", "email", "--json")).json() == {"group": "email", "paused": False, "changed": True}


async def test_once(cli: Cli, client: Streams) -> None:
    """Two commands under one name publish one event, and print its id."""
    command = ("publish", "StockBelowThreshold", "business_id=1", "sku=A", "quantity=1", "threshold=2", "--once", "x")
    first, second = (await cli(*command, "--json")).json(), (await cli(*command, "--json")).json()
    assert first["id"] == second["id"]
    assert await client.redis.xlen(client.keys.stream("inventory", "high")) == 1
    (await cli(*command, "--count", "2")).refused(2, "--once names one event")
