"""Header: which column of a file is which, by the names that people and systems give them: `column_names.toml`."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from processors.file.refused import FileRefused

FIELDS: Final = ("sku", "quantity", "name", "category", "price", "threshold")
REQUIRED: Final = ("sku", "quantity")
SUM: Final = "sum"
"""The location that means: all of them together."""

_MOST_COLUMNS: Final = 200
_LONGEST_NAME: Final = 200  # characters of it that are looked at
_QUESTIONS: Final = REQUIRED  # of these, two columns of one rank are a question
_BRACKETS: Final = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")


def plain(cell: str) -> str:
    """A column's name without case, accents, spaces and punctuation."""
    apart = unicodedata.normalize("NFKD", cell.casefold())
    return "".join(letter for letter in apart if letter.isalnum())


def _names(listed: str) -> list[str]:
    return [plain(name) for name in listed.split(",") if name.strip()]


_DATA: Final[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "column_names.toml").read_text("utf-8"))
# By field: the rank of each name, its place within its rank, and whether it is English.
_RANKS: Final[dict[str, dict[str, tuple[int, int, bool]]]] = {}
for _field in (*FIELDS, "location"):
    _RANKS[_field] = {}
    for _rank, _block in enumerate(_DATA[_field]):
        _place = 0
        for _language, _line in _block.items():
            for _name in _names(_line):
                # A rank after the first one is left free for what merely holds "sku".
                _RANKS[_field].setdefault(_name, (_rank * 2, _place, _language == "en"))
                _place += 1
_CURRENT: Final = sorted(_names(_DATA["wide"]["current"]), key=len, reverse=True)
_NEW: Final = _names(_DATA["wide"]["new"])
_NEVER: Final = _names(_DATA["wide"]["never"])
_FLAGS: Final = frozenset(_names(_DATA["flags"]["names"]))
_NUMBERS: Final = frozenset(_names(_DATA["numbers"]["words"]))
_NO_NUMBERS: Final = frozenset(_names(_DATA["numbers"]["never"]))
_OTHER_SKUS: Final = frozenset(_names(_DATA["sku_other"]["names"]))


def is_name_of(field: str, cell: str) -> bool:
    """Whether a cell is a name that columns of a field have."""
    return plain(cell[:_LONGEST_NAME]) in _RANKS[field]


def may_be_flag(cell: str) -> bool:
    """Whether a column of this name may as well say yes or no, as 1 and 0."""
    return plain(cell[:_LONGEST_NAME]) in _FLAGS


@dataclass(frozen=True, slots=True)
class Header:
    """Where each field stands, counted from 0. `cells` is the line itself. `quantities` are the columns whose sum is
    the quantity, `instead` those that count for one of them where they are not blank; `numbers` are columns that only
    show how numbers are written. `is_comma` says that its language writes decimals with a comma.
    """

    columns: dict[str, int]
    cells: list[str]
    quantities: list[int] = field(default_factory=list)
    instead: dict[int, int] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    is_comma: bool = False
    question: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether all is there that an import needs."""
        return "sku" in self.columns and bool(self.quantities)


def read_header(cells: Sequence[str], mapping: Mapping[str, str] | None = None, location: str = "") -> Header:
    """Reads a header line. `mapping` names the column of a field, an empty name leaves the field out; columns with
    unknown names are left out.

    What only its sender can say is the header's `question`, which makes it incomplete. Raises `FileRefused` when the
    mapping names what is not there.
    """
    cells = list(cells)
    while len(cells) > _MOST_COLUMNS and not cells[-1].strip():
        cells.pop()
    if len(cells) > _MOST_COLUMNS:
        raise FileRefused(f"the file has {len(cells)} columns; {_MOST_COLUMNS} is the most")
    given = [cell.strip()[:_LONGEST_NAME] for cell in cells]
    chosen = _mapped(given, mapping or {})
    columns = {name: number for name, number in chosen.items() if number is not None}
    questions: list[str] = []
    is_comma = False
    for name in ("sku", "quantity", "location", "price", "threshold", "category", "name"):
        if name in chosen:
            continue
        ranked = sorted(_ranked(given, name, set(columns.values())))
        if not ranked:
            continue
        (rank, _, english, number), *others = ranked
        equal = [other[3] for other in others if other[0] == rank]
        if equal and name in _QUESTIONS:
            names = [given[column][:40] for column in sorted((number, *equal))]
            both = "two columns" if len(names) == 2 else f"{len(names)} columns"
            questions.append(
                f"{both} could be the {name}: {' and '.join(map(repr, names[:4]))}; choose one: map {name}={names[0]!r}"
            )
            continue
        if equal and name == "price" and rank > 0:
            continue  # with and without tax, say: neither is ours to choose
        columns[name] = number
        is_comma = is_comma or not english
    quantities, instead = _quantities(given, columns, location, questions, is_mapped="quantity" in chosen)
    taken = {*columns.values(), *quantities, *instead.values()}
    numbers = [number for number, cell in enumerate(given) if _is_numeric(cell) and number not in taken]
    if questions:
        quantities = []
    return Header(columns, given, quantities, instead, numbers, is_comma, "; ".join(questions))


def _mapped(given: list[str], mapping: Mapping[str, str]) -> dict[str, int | None]:
    chosen: dict[str, int | None] = {}
    for name, wanted in mapping.items():
        if name not in (*FIELDS, "location"):
            raise FileRefused(f"{name[:40]!r} cannot be mapped; the fields are {', '.join(FIELDS)} and location")
        if not wanted.strip():
            chosen[name] = None
            continue
        found = [number for number, cell in enumerate(given) if cell == wanted.strip()]
        found = found or [number for number, cell in enumerate(given) if plain(cell) == plain(wanted) != ""]
        if place := re.fullmatch(r"#([0-9]{1,3})", wanted.strip()):
            found = [int(place[1]) - 1] if 0 < int(place[1]) <= len(given) else []
        if len(found) != 1:
            many = f"{len(found)} columns are" if found else "no column is"
            raise FileRefused(
                f"{many} called {wanted[:40]!r}, which {name} is mapped to; the file has {_listed(given)}"
                + ("; #1 is the first column, #2 the second" if found else "")
            )
        chosen[name] = found[0]
    return chosen


def _ranked(given: list[str], name: str, taken: set[int]) -> list[tuple[int, int, bool, int]]:
    """The columns that could be a field: rank, place within it, whether its name is English, number."""
    found = []
    for number, cell in enumerate(given):
        if number in taken or cell.endswith("?"):  # a yes or no: "In stock?"
            continue
        whole = plain(cell)
        known = _RANKS[name].get(whole) or _RANKS[name].get(plain(_BRACKETS.sub(" ", cell)))
        if known is None and name == "sku" and "sku" in whole and whole not in _OTHER_SKUS:
            known = (1, 0, True)
        if known is not None:
            found.append((*known, number))
    return found


def _quantities(
    given: list[str], columns: dict[str, int], location: str, questions: list[str], *, is_mapped: bool
) -> tuple[list[int], dict[int, int]]:
    """The column of the quantity, or those of the locations, if each has its own."""
    if (
        "quantity" in columns
        and _RANKS["quantity"].get(plain(given[columns["quantity"]]), (0,))[0] == 0
        and not is_mapped
    ):
        # The new quantity, which is blank where nothing was counted: the current one holds there.
        counted = columns["quantity"]
        others = [row[3] for row in sorted(_ranked(given, "quantity", {counted}))]
        twins = [other for other in others if _without_age(given[other]) == _without_age(given[counted])]
        before = twins if len(twins) == 1 else others
        return ([before[0]], {before[0]: counted}) if len(before) == 1 else ([counted], {})
    if "quantity" in columns or is_mapped or any(" could be the quantity" in question for question in questions):
        return ([columns["quantity"]] if "quantity" in columns else []), {}
    current, new = _wide(given, _CURRENT), _wide(given, _NEW)
    places = {**{key: name for key, (_, name) in new.items()}, **{key: name for key, (_, name) in current.items()}}
    if not places:
        return [], {}
    wanted = list(places)
    if len(places) > 1:
        if not location:
            questions.append(_which([places[key] for key in places]))
            return [], {}
        if plain(location) != SUM:
            wanted = [key for key in places if key == plain(location)]
            if not wanted:
                raise FileRefused(
                    f"there is no location {location[:40]!r} in the file; it has {_listed(list(places.values()))}"
                )
    quantities, instead = [], {}
    for key in wanted:
        column = current[key][0] if key in current else new[key][0]
        quantities.append(column)
        if key in current and key in new:
            instead[column] = new[key][0]
    columns["quantity"] = quantities[0]
    return quantities, instead


def _without_age(cell: str) -> str:
    return plain(cell).replace("current", "").replace("new", "")


def _is_numeric(cell: str) -> bool:
    """Whether a column that is not imported holds numbers that are written as the others are."""
    words = {plain(word) for word in re.split(r"[\W_]+", cell)}
    return bool(words & _NUMBERS) and not words & _NO_NUMBERS


def _wide(given: list[str], prefixes: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Columns with a location behind their name, by the location."""
    found: dict[str, tuple[int, str]] = {}
    for number, cell in enumerate(given):
        whole = plain(cell)
        for prefix in prefixes:
            rest = whole.removeprefix(prefix)
            if rest != whole and rest:
                place = _behind(cell, prefix)
                if plain(re.split(r"[\W_]+", place)[0]) not in _NEVER and rest not in _NEVER:
                    found.setdefault(rest, (number, place))
                break
    return found


def _behind(cell: str, prefix: str) -> str:
    """What stands behind the prefix, as it was written."""
    for end in range(len(cell)):
        if plain(cell[:end]) == prefix:
            place = re.sub(r"^[\W_]+", "", cell[end:])
            return place if re.search(r"[(\[]", place) else place.rstrip(" )]")  # of "On hand (Berlin)"
    return cell


def _which(places: Sequence[str]) -> str:
    return (
        f"the file has several locations: {_listed(places)}; choose one of them (location={places[0][:40]!r}), "
        "or all of them together (location='sum')"
    )


which_location = _which


def _listed(cells: Sequence[str]) -> str:
    return ", ".join(repr(cell.strip()[:30]) for cell in cells[:8]) + (", ..." if len(cells) > 8 else "")


def missing(header: Header) -> str:
    """The problem of a file that lacks a column, for its sender."""
    if header.question:
        return header.question
    lacks = [name for name in REQUIRED if name not in header.columns or (name == "quantity" and not header.quantities)]
    first = f"the first line names no column for {' and '.join(lacks)}; it has {_listed(header.cells)}"
    return f"{first}; say which it is: map {lacks[0]}=NAME"
