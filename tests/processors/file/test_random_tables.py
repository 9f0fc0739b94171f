"""Random tables, written in random ways and read back: a number is right, or its row or file is refused."""

from __future__ import annotations

import csv
import io
import os
import random
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from processors.file.import_options import ImportOptions
from processors.file.refused import FileRefused
from processors.shared.storage import Storages
from tests.processors.file.conservation import surveyed

HEADERS: Final = {
    "en": ("SKU", "Name", "On hand", "Price", "Min. stock"),
    "de": ("Artikelnummer", "Bezeichnung", "Bestand", "Preis", "Mindestbestand"),
    "fr": ("Référence", "Désignation", "Quantité", "Prix", "Seuil"),
    "es": ("Código", "Nombre", "Existencias", "Precio", "Stock mínimo"),
}
WORDS: Final = (
    "Säge", "Hammer", "crème brûlée", "niño", "Größe M8×40", 'Rohr 1/2"', "a, b", "c; d", "Ø12", "été", "pièce",
    "façade", "5 mm", "two | three", "Käse, weiß", "O’Neill", "20 °C",
)  # fmt: skip
OTHERS: Final = ("Łożysko", "Привет", "锤子", "ネジ", "שלום", "emoji 🔥", "kůň")
DIGITS: Final = ("٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９", "०१२३४५६७८९")


@dataclass(frozen=True)
class Written:
    """A file, and what its rows mean: the quantity, price and threshold of each SKU."""

    data: bytes
    meant: dict[str, tuple[int, Decimal | None, int | None]]
    how: dict[str, Any]


def write(dice: random.Random) -> Written:
    """A random table in a random dialect. A list with semicolons has a decimal comma if its language writes one."""
    language = dice.choice(list(HEADERS))
    delimiter = dice.choice(";,\t|")
    decimal = "," if language != "en" and delimiter == ";" else dice.choice(".,")
    thousands = dice.choice(
        ["", "." if decimal == "," else ",", "." if decimal == "," else ",", " ", "'", "\u00a0", "’"]
    )
    encoding = dice.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252"])
    places = dice.choice([0, 0, 0, 2, 3])  # that quantities are written with
    cents = dice.choice([True, True, False])  # whether prices have any
    newline = dice.choice(["\n", "\r\n", "\r"])
    quoting = dice.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    digits = dice.choice(["", "", "", "", *DIGITS]) if encoding != "cp1252" else ""
    currency = dice.choice(["", "", "€ ", " €", "$", "EUR "])
    words = WORDS if encoding == "cp1252" else WORDS + OTHERS
    meant: dict[str, tuple[int, Decimal | None, int | None]] = {}
    rows = []

    def shown(number: Decimal | int, count: int) -> str:
        text = f"{number:,.{count}f}".replace(",", "T").replace(".", decimal).replace("T", thousands)
        return text.translate(str.maketrans("0123456789", digits)) if digits else text

    for number in range(dice.randint(1, 40)):
        sku = f"X{number:03d}-{dice.randint(0, 99)}"
        quantity = dice.choice(
            [dice.randint(0, 9), dice.randint(0, 999), dice.randint(1, 9) * 1000, dice.randint(0, 10**7)]
        )
        price = None if dice.random() < 0.2 else Decimal(dice.randint(0, 2_000_000)) / 100
        if price is not None and not cents:
            price = Decimal(int(price))
        threshold = None if dice.random() < 0.5 else dice.randint(0, 5000)
        meant[sku] = (quantity, price, threshold)
        price_text = ""
        if price is not None:
            exact = price * 10 % 1 == 0
            price_text = shown(price, (dice.choice([2, 2, 1]) if exact else 2) if cents else 0)
            if not digits:
                is_behind = currency.startswith(" ")
                price_text = price_text + currency if is_behind else currency + price_text
        rows.append([
            sku, dice.choice(words), shown(quantity, places), price_text,
            "" if threshold is None else shown(threshold, 0),
        ])  # fmt: skip
    dice.shuffle(rows)
    columns = [0, *dice.sample(range(1, 5), 4)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=quoting)
    writer.writerow([HEADERS[language][column] for column in columns])
    for row in rows:
        writer.writerow([row[column] for column in columns])
        if dice.random() < 0.05:
            text.write(newline)
    how = {
        "language": language, "delimiter": delimiter, "decimal": decimal, "thousands": thousands, "encoding": encoding,
        "places": places, "newline": newline, "digits": digits,
    }  # fmt: skip
    return Written(text.getvalue().encode(encoding), meant, how)


@pytest.mark.parametrize(
    "examples",
    [100, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
async def test_a_number_is_never_wrong(examples: int, storages: Storages, tmp_path: Path) -> None:
    """Each row that is written means what it meant; the others are named. Most rows are written."""
    seed = int(os.environ.get("TABLES_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"TABLES_SEED={seed}")
    dice = random.Random(seed)
    path, total, good, refused = tmp_path / "table.csv", 0, 0, 0
    words: list[str] = []
    for number in range(examples):
        table = write(dice)
        path.write_bytes(table.data)
        total += len(table.meant)
        try:
            made, rows = await surveyed(path, ImportOptions(), storages)
        except FileRefused as refusal:
            refused += 1
            words.append(str(refusal))
            continue
        told = (seed, number, table.how)
        assert made.rows == len(table.meant) == rows.height + made.refused, told
        for sku, quantity, price, threshold in rows.select("sku", "quantity", "price", "threshold").iter_rows():
            meant = table.meant[sku]
            assert (quantity, threshold) == (meant[0], meant[2]), (sku, *told)
            assert (None if price is None else Decimal(price)) == meant[1], (sku, *told)
        for problem in made.problems:
            assert problem["problem"].startswith("could be"), (problem, *told)
        good += rows.height
    print(f"{examples} tables, {total} rows: {good} read, {refused} files refused")
    assert [word for word in words if "decimal" not in word and "UTF-8" not in word] == []
    assert good > total * 0.75
