"""The events of the guide: a shop, and questions about what became of an event in it."""

from __future__ import annotations

from typing import Any

from streams import Event, NotFound, Receipt, Streams
from streams.events import upcast
from streams.inspecting.group_status import GroupStatus
from streams.messages.letter import Letter
from tests.support.waiting import wait_until


class OrderPlaced(Event, stream="orders", version=1):
    """A customer has ordered something."""

    order_id: int
    total: float = 9.5
    note: str = ""


class InvoiceWritten(Event, stream="invoices", version=1):
    """An order has its invoice."""

    order_id: int


class AddressChanged(Event, stream="customers", version=2):
    """A customer has moved. Version 1 had one line for street and city."""

    street: str
    city: str

    @staticmethod
    @upcast(from_version=1)
    def _split(data: dict[str, Any]) -> dict[str, Any]:
        street, _, city = data["address"].partition(", ")
        return {"street": street, "city": city}


async def becomes(streams: Streams, receipt: Receipt, group: str, state: str) -> GroupStatus:
    """Waits until the event has this state in this group, and returns where it is.

    A trail is several looks, and an event may move between two of them: what two trails agree on is so.
    """
    before: GroupStatus | None = None

    async def find() -> GroupStatus | None:
        nonlocal before
        try:
            trail = await streams.event(receipt.id)
        except NotFound:
            return None
        found = next((found for found in trail.groups if found.group == group and found.state == state), None)
        last, before = before, found
        return found if found and last and found.history == last.history else None

    found: GroupStatus = await wait_until(find, message=f"{receipt.id} is {state} in {group}")
    return found


async def dead(streams: Streams, group: str, count: int) -> list[Letter]:
    """Waits until the group has this many dead letters, and returns them, oldest first."""

    async def find() -> list[Letter] | None:
        letters = [letter async for letter in streams.dead_letters(group).ls()]
        return letters if len(letters) == count else None

    letters: list[Letter] = await wait_until(find, message=f"{count} dead letters of {group}")
    return letters
