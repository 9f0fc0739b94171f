"""The text of SKUs and names: what a file may write differently and mean the same, and what only looks like a SKU."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from processors.file.decimals import TYPED

_NOT_ASCII: Final = r"[^\x00-\x7f]"
_WRAPPED: Final = r'^="([^"]*)"$'  # the trick that saves leading zeros from a spreadsheet
# An export writes '=1+1 for the text =1+1: it comes back as it was.
_GUARDED: Final = r"^'([\s\"']*[=+\-@＝＋－＠])"

_MONTHS: Final = (
    "jan|feb|mar|mär|mrz|apr|may|mai|jun|jul|aug|sep|sept|oct|okt|nov|dec|dez|janv|févr|fév|avr|juin|juil|août|déc|"
    "ene|abr|ago|dic|january|february|march|april|june|july|august|september|october|november|december|januar|februar|"
    "märz|oktober|dezember|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre|"
    "janvier|février|mars|avril|juillet|septembre|octobre|novembre|décembre|juni|juli"
)
_SUSPICIONS: Final = (
    (r"^[0-9](?:[.,][0-9]+)?[eE][+-]?[0-9]+$", "was shortened by a spreadsheet"),
    (r"^[0-9]{2,}(?:[.,][0-9]+)?[eE]\+[0-9]+$", "was shortened by a spreadsheet"),
    (r"^[1-9][0-9]{14}0+$", "was shortened by a spreadsheet, which keeps 15 digits"),
    (r"^[0-9]+[.,]0+$", "was shortened to a number by a spreadsheet or a program"),
    (
        rf"(?i)^(?:[0-9]{{1,2}}[-. /]{{1,2}}(?:{_MONTHS})\.?(?:[-. /]{{1,2}}(?:[0-9]{{2}}|[12][0-9]{{3}}))?"
        rf"|(?:{_MONTHS})\.?[-. /]{{1,2}}(?:[0-9]{{1,2}}|[12][0-9]{{3}}))$",
        "looks like a date that a spreadsheet has made of it",
    ),
    (
        r"^(?:(?:19|20)[0-9]{2}[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12][0-9]|3[01])"
        r"|(?:0?[1-9]|[12][0-9]|3[01])[-/.](?:0?[1-9]|[12][0-9]|3[01])[-/.](?:19|20)[0-9]{2}"
        r"|(?:0?[1-9]|[12][0-9]|3[01])\.(?:0?[1-9]|1[0-2])\.)(?:[ T][0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?)?$",
        "looks like a date that a spreadsheet has made of it",
    ),
    (
        r"(?i)^(?:true|false|wahr|falsch|vrai|faux|verdadero|falso)$",
        "looks like yes or no, which a spreadsheet has made of it",
    ),
    (
        r"(?i)^(?:[-\x{2013}\x{2014}.?*_/\\]+|0+|n/?a|n\.a\.|k\.? ?a\.?|none|null|nil|nan|undefined|tbd|"
        r"tba|unknown|unbekannt|missing|no sku|keine?|sin sku|ninguno)$",
        "is no SKU",
    ),
    (r"^'", "begins with an apostrophe, by which spreadsheets mark text"),
    (r" \[shown as .*\]$", "is shown as another text in the spreadsheet"),
    (
        r"(?i)^(?:summe|gesamt|total|totals|grand total|sum|somme|suma|insgesamt)[ ]?[:(=].*$"
        r"|(?i)^(?:gesamtbestand|gesamtmenge|gesamtanzahl|totaal|razem|suma|totalt|i alt|yhteensä|összesen|celkem|"
        r"toplam|итого|всего|合计|总计|合計|Σ|summary|zusammenfassung|résumé|resumen)[ :]*$"
        r"|(?i)^(?:end of (?:report|list|file)|ende der liste|ende des berichts|fin (?:de la liste|del informe)|"
        r"(?:printed|generated|exported|created) (?:on|at|by) .*|(?:page|seite) [0-9]+(?: (?:of|von) [0-9]+)?)[ .:]*$",
        "looks like a total, and is no product",
    ),
    (
        r"(?i)^(?:summe|zwischensumme|gesamtsumme|gesamt|insgesamt|total|totals|grand total|sub-?total|sum|totale?s?|"
        r"total g[eé]n[eé]ral|somme|sous-total|suma|total general|subtotale?s?)(?: [^0-9]{0,30})?[ :]*$",
        "looks like a total, and is no product",
    ),
    (r"^(?:#\s|#[A-Za-z]+ |//|--|\*\*)", "looks like a comment, and is no product"),
    (
        r"(?i)^(?:(?:example|sample|beispiel|muster|ejemplo|exemple|your|dummy)(?:[ _-]?(?:sku|product|produkt|artikel|"
        r"item|row|zeile|[0-9]{1,3}))?|required|mandatory|optional|pflichtfeld|obligatoire|obligatorio|text|string|"
        r"sku|artikelnummer|item_sku|<.*>|\[.*\]|\{.*\})[ :]*$",
        "looks like a line of a template, and is no product",
    ),
)  # fmt: skip

_SUSPICIOUS: Final = "|".join(f"(?:{pattern})" for pattern, _ in _SUSPICIONS)


def clean_text(cells: pl.Series) -> pl.Series:
    """Trimmed, in the composed normal form, null where it is blank."""
    cell = _unwrapped(cells)
    if cells.str.contains(_NOT_ASCII).any():
        cell = cell.str.normalize("NFC").str.replace_all("\ufeff", "").str.strip_chars()
    return _blank_as_null(cells, cell)


def clean_skus(cells: pl.Series) -> pl.Series:
    """The same, and without what is not seen: spaces of all kinds are one, characters without a shape are none."""
    cell = _unwrapped(cells)
    if cells.str.contains(_NOT_ASCII).any():
        cell = (
            cell.str.normalize("NFC").str.replace_all(r"\p{Cf}", "").str.replace_all(r"\p{Zs}", " ").str.strip_chars()
        )
    return _blank_as_null(cells, cell)


def unguarded(cells: pl.Series) -> pl.Series:
    """Without the apostrophe with which an export has made sure that a text is no formula."""
    return cells.str.replace(_GUARDED, "$1") if cells.str.starts_with("'").any() else cells


def suspicion(skus: pl.Series, raw: pl.Series) -> pl.Series:
    """What is wrong with a SKU unless the business has it: a spreadsheet has changed it, or the row is no product."""
    sku = pl.col("sku")
    found: Any = pl.when(sku.is_null()).then(pl.lit(None, pl.String))
    # Most files have none: one look at each SKU says so.
    for pattern, problem in _SUSPICIONS if skus.str.contains(_SUSPICIOUS).any() else ():
        found = found.when(sku.str.contains(pattern)).then(pl.lit(problem))
    frame = pl.DataFrame({"sku": skus, "raw": raw})
    if raw.str.starts_with(TYPED).any():
        typed = pl.col("raw").str.starts_with(TYPED)
        found = found.when(typed & sku.str.contains(r"^-?[0-9]{16,}$|[eE]")).then(
            pl.lit("was shortened by a spreadsheet, which keeps 15 digits")
        )
        found = found.when(typed & sku.str.contains(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}|:")).then(
            pl.lit("looks like a date that a spreadsheet has made of it")
        )
    return frame.select(found.alias("suspicion")).to_series()


def folded(sku: pl.Expr) -> pl.Expr:
    """What is left of a SKU without what gets lost on its way through spreadsheets: case, spaces, leading zeros, `.0`,
    invisible characters, the width of letters, the kind of a dash.
    """
    text = sku.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"[\p{Z}\p{Cf}\s]", "")
    text = text.str.replace_all("[‐‑‒–—−]", "-").str.strip_chars_start("'").str.replace(r"^([0-9]+)[.,]0+$", "$1")
    return text.str.replace(r"^0+([0-9]+)$", "$1")


def _unwrapped(cells: pl.Series) -> pl.Expr:
    cell = pl.col("cell")
    if cells.str.starts_with(TYPED).any():
        cell = cell.str.strip_prefix(TYPED)
    cell = cell.str.strip_chars()
    if cells.str.contains('="', literal=True).any():
        cell = cell.str.replace(_WRAPPED, "$1").str.strip_chars()
    return cell


def _blank_as_null(cells: pl.Series, cell: pl.Expr) -> pl.Series:
    return pl.DataFrame({"cell": cells}).select(pl.when(cell != "").then(cell).alias("cell")).to_series()
