"""Header: which column of a file is which, by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from processors.file.refused import FileRefused

FIELDS: Final = ("sku", "quantity", "name", "category", "price", "threshold")
REQUIRED: Final = ("sku", "quantity")

_MOST_COLUMNS: Final = 200
_NAMES: Final = {
    "sku": "sku item itemno itemnumber itemcode article articleno articlenumber articlecode productcode productno "
    "productnumber stockcode code artikelnummer artikelnr artnr referenz reference",
    "quantity": "quantity qty stock stocklevel onhand quantityonhand available count pieces units menge anzahl bestand "
    "lagerbestand stueck stück",
    "name": "name productname itemname product title description bezeichnung artikelbezeichnung produkt",
    "category": "category group productgroup productcategory type department kategorie warengruppe gruppe",
    "price": "price unitprice listprice salesprice sellingprice rrp preis verkaufspreis stueckpreis stückpreis vk",
    "threshold": "threshold minimum min minstock minimumstock reorderlevel reorderpoint lowstock mindestbestand "
    "meldebestand minimalbestand",
}
_FIELD_OF: Final = {name: field for field, names in _NAMES.items() for name in names.split()}


@dataclass(frozen=True, slots=True)
class Header:
    """Where each field stands, counted from 0, and how many columns there are."""

    columns: dict[str, int]
    width: int

    @property
    def is_complete(self) -> bool:
        """Whether all is there that an import needs."""
        return all(field in self.columns for field in REQUIRED)


def read_header(cells: Sequence[str]) -> Header:
    """Reads a header line: case, spaces and punctuation make no difference, columns with other names are left out.

    Raises `FileRefused` when two columns could be the same field.
    """
    if len(cells) > _MOST_COLUMNS:
        raise FileRefused(f"the file has {len(cells)} columns; {_MOST_COLUMNS} is the most")
    columns: dict[str, int] = {}
    for number, cell in enumerate(cells):
        field = _FIELD_OF.get(re.sub(r"[\W_]+", "", cell.casefold()))
        if field is None:
            continue
        if field in columns:
            first, second = cells[columns[field]].strip(), cell.strip()
            raise FileRefused(f"two columns could be the {field}: {first[:40]!r} and {second[:40]!r}")
        columns[field] = number
    return Header(columns, len(cells))


def missing(header: Header, cells: Sequence[str]) -> str:
    """What to tell somebody whose file lacks a column."""
    lacks = " and ".join(field for field in REQUIRED if field not in header.columns)
    found = ", ".join(repr(cell.strip()[:30]) for cell in cells[:8])
    return f"the first line names no column for {lacks}; it has {found}"
