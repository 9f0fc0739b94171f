"""Orphans: an object in the claim store goes with the last place that has its event, and not before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import obstore
import pytest

from streams import Backoff, Consumer, DeadLetter, Processor, Streams, StreamsError
from streams.admin.claim_cleanup import sweep
from streams.messages.claims import ClaimStore
from tests.streams.conftest import MakeSettings
from tests.support.events import Noted
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis

LARGE = "x" * 300_000


@pytest.fixture
def claims(tmp_path: Path) -> ClaimStore:
    """An empty store of files."""
    return ClaimStore(f"file://{tmp_path}/claims")


@pytest.fixture
async def client(make_settings: MakeSettings, claims: ClaimStore) -> AsyncIterator[Streams]:
    """A client with it."""
    async with Streams(settings=make_settings(), claims=claims) as streams:
        yield streams


@pytest.fixture
async def consumer(make_settings: MakeSettings, claims: ClaimStore) -> AsyncIterator[Consumer]:
    """A consumer that rejects odd notes, retries those of 2 in a minute, and is done with the others."""
    notes = Processor("notes", retry=Backoff(attempts=2, first=60, jitter=0))

    @notes.on(Noted)
    async def note(event: Noted) -> None:
        if event.n % 2:
            raise DeadLetter("odd")
        if event.n == 2:
            raise RuntimeError("not yet")

    made = Consumer(notes, Streams(settings=make_settings(), claims=claims))
    await made.start()
    yield made
    await made.stop()


def stored(claims: ClaimStore) -> int:
    """How many objects there are."""
    return sum(len(page) for page in obstore.list(claims._store))


async def drained(client: Streams, dead: int = 0) -> None:
    """Waits until the group is through with everything."""

    async def look() -> bool:
        (found,) = (await client.accounts()).groups
        return found.pending + found.unread == 0 and found.published > 0 and found.dead == dead

    await wait_until(look)


async def test_trim_takes_the_object_along(client: Streams, consumer: Consumer, claims: ClaimStore) -> None:
    for n in (0, 4, 6):
        await client.publish(Noted(n=n, text=LARGE))
    await client.publish_many([Noted(n=0)] * 5)
    await drained(client)
    assert stored(claims) == 3
    await client.trim("notes", keep=6)
    assert (await client.redis.xlen(client.keys.stream("notes")), stored(claims)) == (6, 1)
    await client.trim("notes", keep=0, dry_run=True)
    assert stored(claims) == 1
    await client.trim("notes", keep=0)
    assert stored(claims) == 0


async def test_a_dead_letter_keeps_its_object_until_it_is_discarded(
    client: Streams, consumer: Consumer, claims: ClaimStore
) -> None:
    await client.publish(Noted(n=1, text=LARGE))
    await drained(client, dead=1)
    letters = client.dead_letters("notes")
    await client.trim("notes", keep=0)
    assert stored(claims) == 1, "the dead letter has it"
    await letters.discard()
    assert stored(claims) == 0


async def test_a_discard_leaves_it_to_the_stream(client: Streams, consumer: Consumer, claims: ClaimStore) -> None:
    await client.publish(Noted(n=1, text=LARGE))
    await drained(client, dead=1)
    await client.dead_letters("notes").discard()
    assert stored(claims) == 1, "another group may still be given it, or a replay"
    await client.trim("notes", keep=0)
    assert stored(claims) == 0


async def test_cancel_and_retire(client: Streams, consumer: Consumer, claims: ClaimStore) -> None:
    """What is called off while it waits, and what waits for a group that is given up."""
    waiting = await client.publish(Noted(n=0, text=LARGE), delay=600)
    assert stored(claims) == 1
    await client.cancel(waiting.id)
    assert stored(claims) == 0
    await client.publish(Noted(n=2, text=LARGE))
    await wait_until(lambda: client.redis.zcard(client.keys.due()))
    await drained(client)
    await client.trim("notes", keep=0)
    assert stored(claims) == 1, "the retry has it"
    await consumer.stop()
    await client.retire("notes")
    assert stored(claims) == 1, "nothing was given up yet"
    await client.retire("notes", apply=True)
    assert stored(claims) == 0


async def test_a_sweep_finds_what_a_crash_left(client: Streams, consumer: Consumer, claims: ClaimStore) -> None:
    kept = await client.publish(Noted(n=1, text=LARGE))
    delayed = await client.publish(Noted(n=0, text=LARGE), delay=600)
    lost = client.message(Noted(n=0, text=LARGE))
    await claims.check_in([lost], 1000)  # and then the publisher died
    await drained(client, dead=1)
    await client.trim("notes", keep=0)
    assert stored(claims) == 3
    found = await sweep(client)
    assert (found.objects, found.orphans, found.removed) == (3, 0, False), "all of them are younger than a day"
    found = await sweep(client, older_than=timedelta(0))
    assert (found.orphans, found.removed) == (1, False)
    assert found.bytes > len(LARGE)
    found = await sweep(client, older_than=timedelta(0), apply=True)
    assert (found.orphans, found.removed, stored(claims)) == (1, True, 2)
    await consumer.stop()
    await client.retire("notes", apply=True)
    found = await sweep(client, older_than=timedelta(0), apply=True)
    assert found.orphans == 0, f"the dead letters of a retired group stay, and so do {kept.id} and {delayed.id}"


async def test_without_a_store(make_settings: MakeSettings) -> None:
    async with Streams(settings=make_settings()) as streams:
        with pytest.raises(StreamsError, match="STORAGE_URL"):
            await sweep(streams)


async def test_a_store_that_is_away_costs_no_trim(
    client: Streams, consumer: Consumer, claims: ClaimStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await client.publish(Noted(n=0, text=LARGE))
    await drained(client)
    (folder,) = (tmp_path / "claims").iterdir()
    folder.rename(tmp_path / "away")
    folder.write_text("in the way")
    (trimmed, *_) = [lane for lane in await client.trim("notes", keep=0) if lane.removed]
    assert trimmed.removed == 1
    assert "claims.not_removed" in capsys.readouterr().out
