"""Edit: makes the corrected message of a dead letter whose event was edited by hand. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from streams.errors import StreamsError, TooLarge
from streams.events.event import registered
from streams.messages.publishable import checked_event, encoded

if TYPE_CHECKING:
    from streams.events.event import Event
    from streams.messages.letter import Letter


def fields_of(letter: Letter) -> dict[str, Any]:
    """The fields of the letter's event as far as they can be read, as its current version has them; a field that the
    event does not know is left out.
    """
    model = registered(letter.type)
    try:
        document = from_json(letter.data)  # which keeps every digit of an integer
    except ValueError:
        return {}
    if not isinstance(document, dict) or model is None:
        return {}
    for version in range(max(1, letter.message.version), model.version):
        try:
            document = model.upcasters[version](document)
        except Exception:  # noqa: BLE001 - user code, on data that is known to be wrong
            break
    return {name: value for name, value in document.items() if name in model.model_fields}


def corrected(letter: Letter, event: Event, by: str, *, most: int) -> tuple[list[bytes], list[bytes]]:
    """The entry of the corrected letter, and the line of the history with the original data.

    Raises `StreamsError` for an event of another type or that would not be read as it is, `TooLarge` over `most` bytes.
    """
    kind = checked_event(event)
    if kind.type != letter.type:
        raise StreamsError(f"dead letter {letter.id} is a {letter.type}; it cannot become a {kind.type}")
    data = encoded(event)
    if len(data) > most:
        raise TooLarge(f"{kind.type}: {len(data)} bytes of data are over the cap of {most}")
    record = letter.record("edited", by)
    record += [b"original", letter.data, b"originalversion", b"%d" % letter.message.version]
    return letter.with_data(data, kind.version), record
