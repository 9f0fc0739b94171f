"""Old and new versions of an event."""

from __future__ import annotations

from streams import Processor, Receipt, Streams
from tests.guide.shop import AddressChanged, becomes, dead
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


class Labels:
    """A processor that notes new addresses."""

    def __init__(self) -> None:
        self.seen: list[AddressChanged] = []
        self.processor = Processor("labels")
        self.processor.on(AddressChanged)(self.print_label)

    async def print_label(self, event: AddressChanged) -> None:
        """Notes one."""
        self.seen.append(event)


async def arrives(streams: Streams, version: int, data: str) -> Receipt:
    """A message of some other version arrives."""
    fields = {"type": "AddressChanged", "dataversion": str(version), "data": data}
    entry_id = await streams.redis.xadd(streams.keys.stream("customers"), fields)
    return Receipt(entry_id.decode(), "customers")


async def test_an_old_message_is_read_as_the_newest_version(streams: Streams, start: StartConsumer) -> None:
    """Its upcaster leads from version 1 to 2; the handler knows one version only."""
    labels = Labels()
    await start(labels.processor)
    await arrives(streams, 1, '{"address": "Main Street 1, Springfield"}')

    await wait_until(lambda: labels.seen == [AddressChanged(street="Main Street 1", city="Springfield")])


async def test_a_field_that_the_code_does_not_know_is_ignored(streams: Streams, start: StartConsumer) -> None:
    """So a publisher may add one before its consumers know it, within the same version."""
    labels = Labels()
    await start(labels.processor)
    await arrives(streams, 2, '{"street": "Main Street 1", "city": "Springfield", "country": "US"}')

    await wait_until(lambda: labels.seen == [AddressChanged(street="Main Street 1", city="Springfield")])


async def test_a_newer_message_waits_for_the_deploy(streams: Streams, start: StartConsumer) -> None:
    """It is put aside, and costs no attempt: the code that knows it is on its way."""
    labels = Labels()
    await start(labels.processor, unsupported_every=3600)
    receipt = await arrives(streams, 3, '{"lines": ["Main Street 1", "Springfield"]}')

    trail = await becomes(streams, receipt, "labels", "snoozed")
    assert trail.reason == "unsupported: version 3 is newer than this code, which knows 2"
    assert trail.attempts == 0
    assert labels.seen == []


async def test_it_does_not_wait_for_ever(streams: Streams, start: StartConsumer) -> None:
    """After `STREAMS_UNSUPPORTED_FOR` it is a dead letter, to be replayed after the deploy."""
    await start(Labels().processor, unsupported_every=0.02, unsupported_for=0.1)
    await arrives(streams, 3, '{"lines": ["Main Street 1", "Springfield"]}')

    (letter,) = await dead(streams, "labels", 1)
    assert (letter.reason, letter.attempts) == ("unsupported", 0)
