"""ImportOptions: what the sender of a file says about it, where the file itself does not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from processors.file.encoding import chosen
from processors.file.header import plain
from processors.file.refused import FileRefused
from schemas import InventoryImportUploaded
from schemas.files import BlankQuantity

REFUSE: Final = "refuse"
KEEP: Final = "keep"
ZERO: Final = "zero"
BLANK_QUANTITIES: Final[tuple[str, ...]] = get_args(BlankQuantity)


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """All of it may be left out, and `remembered` is what was chosen before, by the digest of a first line.
    `encoding` is one of `ENCODINGS`, `decimal` is `.` or `,`, `sheet` is the name of a workbook's, `map` has the name
    of the column of a field, `location` is one of the file's locations or `sum`. `blank_quantity` is what a row without
    a quantity means, one of `BLANK_QUANTITIES`.
    """

    encoding: str = ""
    decimal: str = ""
    sheet: str = ""
    map: Mapping[str, str] = field(default_factory=dict)
    location: str = ""
    blank_quantity: str = REFUSE
    remembered: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, event: InventoryImportUploaded, remembered: Mapping[str, Mapping[str, Any]] | None = None
    ) -> ImportOptions:
        """What an event says. Raises `FileRefused` for what is invalid."""
        return cls.checked(
            encoding=event.encoding, decimal=event.decimal, sheet=event.sheet, map=event.mapping,
            location=event.location, blank_quantity=event.blank_quantity, remembered=remembered,
        )  # fmt: skip

    @classmethod
    def checked(
        cls, *, encoding: str = "", decimal: str = "", sheet: str = "", map: Mapping[str, str] | None = None,
        location: str = "", blank_quantity: str = REFUSE,
        remembered: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> ImportOptions:  # fmt: skip
        """The same from values of outside."""
        if decimal not in ("", ".", ","):
            raise FileRefused(f"the decimal sign is '.' or ',', and not {decimal[:10]!r}")
        if blank_quantity not in BLANK_QUANTITIES:
            raise FileRefused(
                f"blank_quantity is one of {', '.join(BLANK_QUANTITIES)}, and not {blank_quantity[:10]!r}"
            )
        return cls(
            chosen(encoding), decimal, sheet.strip(), dict(map or {}), location.strip(), blank_quantity,
            dict(remembered or {}),
        )  # fmt: skip

    def for_header(self, cells: Sequence[str]) -> tuple[Mapping[str, str], str]:
        """The mapping and the location for a file with this first line: what the business has chosen for it before, and
        what is said now, which counts for more.
        """
        before = self.remembered.get(header_digest(cells), {})
        return {**before.get("map", {}), **self.map}, self.location or before.get("location", "")


def header_digest(cells: Sequence[str]) -> str:
    """What a first line is remembered by: case, spaces and punctuation make no difference."""
    return hashlib.sha256("\x1f".join(plain(cell) for cell in cells).encode()).hexdigest()
