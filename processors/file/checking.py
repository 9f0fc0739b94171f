"""check: what an import of a file would do, before anything is uploaded: how it is read, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from processors.file.import_choices import remembered
from processors.file.import_options import REFUSE, ImportOptions
from processors.file.problems import cure_of
from processors.file.refused import FileRefused
from processors.file.settings import FileSettings
from processors.file.survey import Survey, survey
from processors.file.upload_source import LocalSource
from processors.shared.database import Database

ALL_GOOD: Final = 0
SOME_REFUSED: Final = 1
NOTHING_IMPORTED: Final = 3
"""How `check` exits; 2 is wrong usage."""

_SHOWN: Final = 20  # problems, where they are for a person
_PREVIEW: Final = ("line", "sku", "quantity", "name", "category", "price", "threshold")


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of a file: as JSON values, and how `check` exits."""

    result: dict[str, Any]
    exit_code: int

    def lines(self) -> list[str]:
        """The same for a person."""
        found = self.result
        if "refused_because" in found:
            return [f"nothing would be imported: {found['refused_because']}"]
        read = [f"{name}: {value}" for name, value in found["read_as"].items() if value not in ("", {}, None)]
        lines = [*read, "", "the first rows, as they would be written:"]
        lines += [
            "  " + "  ".join(f"{name}={row[name]}" for name in row if row[name] is not None) for row in found["preview"]
        ]
        counts = f"{found['rows']} rows: {found['good']} good, {found['refused']} refused"
        lines += ["", counts + (f", {found['new']} new products" if found["new"] is not None else "")]
        for problem in found["problems"][:_SHOWN]:
            value = f" {problem['value']!r}" if problem["value"] else ""
            cure = f" ({problem['cure']})" if problem["cure"] else ""
            lines.append(f"  row {problem['row']}, {problem['column']}{value}: {problem['problem']}{cure}")
        if len(found["problems"]) > _SHOWN:
            lines.append(f"  and {len(found['problems']) - _SHOWN} more: --json shows all of them")
        if self.exit_code == NOTHING_IMPORTED:
            lines.append(f"nothing would be imported: {found['why']}")
        return lines


async def check_file(
    path: Path, options: dict[str, Any], settings: FileSettings, database: Database | None = None, business_id: int = 0
) -> Checked:
    """Reads a file as an import would. With a database, what its business has and has chosen before counts as well.

    `options` are the arguments of `ImportOptions.checked`.
    """
    before = {}
    if database is not None:
        async with database.engine.connect() as connection:
            before = await remembered(connection, business_id)
    try:
        chosen = ImportOptions.checked(**options, remembered=before)
        engine = database.engine if database is not None else None
        made = await survey(LocalSource(path), chosen, engine=engine, business_id=business_id)
    except FileRefused as refusal:
        return Checked({"file": path.name, "refused_because": str(refusal)}, NOTHING_IMPORTED)
    result = _described(path, made, knows=database is not None)
    if chosen.blank_quantity != REFUSE:
        result["read_as"]["blank quantity"] = chosen.blank_quantity
    if made.is_too_bad(settings):
        return Checked({**result, "why": made.why()}, NOTHING_IMPORTED)
    return Checked(result, SOME_REFUSED if made.problems else ALL_GOOD)


def _described(path: Path, made: Survey, *, knows: bool) -> dict[str, Any]:
    dialect = made.dialect
    preview = made.preview.select(_PREVIEW).to_dicts() if made.preview is not None else []
    read_as = {
        "encoding": dialect.encoding, "delimiter": dialect.delimiter, "decimal sign": dialect.decimal,
        "sheet": dialect.sheet, "rows above": max(0, dialect.row - 1) or "",
        "columns": {name: dialect.column_name(name) for name in dialect.columns}, "location": dialect.location,
    }  # fmt: skip
    problems = [
        {
            "row": problem["row"], "line": problem["line"], "sku": problem["sku"] or "", "field": problem["field"],
            "column": dialect.column_name(problem["field"]), "value": problem["value"] or "",
            "problem": problem["problem"], "cure": cure_of(problem["problem"]),
        }
        for problem in made.problems
    ]  # fmt: skip
    return {
        "file": path.name, "read_as": read_as, "preview": preview, "rows": made.rows, "good": made.rows - made.refused,
        "refused": made.refused, "new": made.new if knows else None, "elsewhere": made.elsewhere, "problems": problems,
    }  # fmt: skip
