"""cancel, pause and resume, as commands."""

from __future__ import annotations

from streams import Settings, Streams
from tests.cli.conftest import Cli
from tests.cli.consuming import Desk, consuming
from tests.events import Noted


async def test_cancel(cli: Cli, client: Streams) -> None:
    """What waits is called off; a second time there is nothing left to find; an unknown id is one line."""
    receipt = await client.publish(Noted(n=1), delay=600)
    ended = await cli("cancel", receipt.id)
    assert (ended.code, ended.out) == (0, "cancelled: no group had read it\n"), ended
    (await cli("cancel", receipt.id)).refused(1, "no event")
    second = await client.publish(Noted(n=2), delay=600)
    assert (await cli("cancel", second.id, "--json")).json() == {"id": second.id, "groups": {}}


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
