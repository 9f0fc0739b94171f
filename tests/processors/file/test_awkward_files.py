"""Files that people really send, and that could be read in a wrong way: what has two readings is refused in words."""

from __future__ import annotations

import io
import zipfile
from datetime import date, timedelta
from typing import Any

import pytest
import xlsxwriter

from processors.file.refused import FileRefused
from tests.processors.file.test_reading import prices, stock, wrong
from tests.processors.file.test_sheets import HEAD, book


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["A;x;01.02", "B;y;1.000"], {"B": 1000}),  # a day says nothing of decimal signs
        (["A;x;10.05", "B;y;1.000"], {}),  # it may be a day, and contradicts the language
        (["A;x;0,125", "B;y;1.000"], {"B": 1000}),
        (["A;x;10.05;1,50", "B;y;1.000;2"], {"B": 1000}),  # a price is one
        (["A;x;1.000;0.5", "B;y;2;1.25"], {"B": 2}),  # a weight with a point, in a language with a comma
    ],
)
async def test_what_is_no_stock_turns_no_other_cell(read: Any, rows: list[str], expected: dict[str, int]) -> None:
    """A quantity that is refused for its decimals is weaker evidence than the language of the file."""
    header = "SKU;Bezeichnung;Bestand" + (";Preis" if "1,50" in rows[0] else ";Gewicht" if "0.5" in rows[0] else "")
    made = await read("\n".join([header, *rows]) + "\n")
    assert stock(made) == expected
    assert made.refused == len(rows) - len(expected)


@pytest.mark.parametrize("order", [("1,000", "1.000"), ("1.000", "1,000")])
async def test_two_kinds_of_thousands_in_one_column(read: Any, order: tuple[str, str]) -> None:
    """However clear the prices are: the quantities were not written by the same hand."""
    data = f'sku,name,quantity,price\nA,x,"{order[0]}",1.50\nB,y,"{order[1]}",2\n'
    with pytest.raises(FileRefused, match=r"line . has '1.000' and line . has '1,000': one of them is a thousand"):
        await read(data)
    made = await read(data, decimal=".")
    assert sorted(stock(made).values()) == [1, 1000]


@pytest.mark.parametrize("plain", ["3", "12", "999"])
@pytest.mark.parametrize(
    ("cell", "price", "decimal"), [("1.000", "12.50", "."), ("5,000", "8,25", ","), ("12.500", "0.75", ".")]
)
async def test_a_thousand_beside_plain_numbers(read: Any, plain: str, cell: str, price: str, decimal: str) -> None:
    """Who writes quantities with three decimals writes all of them so: among plain ones it may be a thousand, whatever
    the prices are.
    """
    rows = [f"A;x;{cell};{price}", f"B;y;{plain};{price}"]
    for order in (rows, rows[::-1]):
        with pytest.raises(FileRefused, match=rf"line . has '{cell}' and line . has '{plain}' in the same column: is "):
            await read("\n".join(["SKU;Name;Quantity;Price", *order]) + "\n")
    chosen = await read("\n".join(["SKU;Name;Quantity;Price", *rows]) + "\n", decimal=decimal)
    assert stock(chosen)["B"] == int(plain)
    assert (await read(f"SKU;Name;Quantity;Price\nA;x;{cell};{price}\nB;y;0;1\nC;z;2500;1\n")).rows == 3
    weak = await read(f"SKU;Name;Quantity;Cost\nA;x;{cell};{price}\nB;y;{plain};{price}\n")
    assert (stock(weak), weak.refused) == ({"B": int(plain)}, 1)


@pytest.mark.parametrize(
    ("header", "row", "field"),
    [
        ("sku,quantity,name,note", "A,1,000,x", "quantity"),
        ("sku,quantity,name,note", "A,2,500,x", "quantity"),
        ("sku,name,quantity,price,note", "A,x,1,000,5", "quantity"),
        ("sku,quantity,category,note", "A,1,050,x", "quantity"),
        ("sku,quantity,price,name,note", "A,5,1,50,x", "quantity"),
        ("sku,name,quantity,", "A,x,1,000", "quantity"),
    ],
)
async def test_numbers_that_were_cut_at_their_comma(read: Any, header: str, row: str, field: str) -> None:
    """A thousand without quotes is one, and what stands behind the number is no name. With quotes it is a thousand."""
    made = await read(f"{header}\n{row}\nB,7,7,7\n".replace("\nB,7,7,7", ""))
    assert [(line, name) for line, name, _ in wrong(made)] == [(2, field)]
    assert wrong(made)[0][2].startswith("may be cut off at a comma: ")
    assert stock(made) == {}
    for delimiter in (";", "\t"):  # there is nothing to be cut at
        assert (await read(f"{header}\n{row}\n".replace(",", delimiter))).refused == 0


async def test_a_second_table_is_not_read_as_the_first(read: Any) -> None:
    """What stands under its price is no stock. The same first line once more, as on each page, is a row that is not
    written.
    """
    with pytest.raises(FileRefused, match="line 4 names columns once more, and 'price' where the first line"):
        await read("sku,quantity,name\nA,5,x\n\nsku,price,name\nB,6,y\n")
    made = await read("sku,quantity,name\nA,5,x\nSKU,Quantity,Name\nB,6,y\n")
    assert (stock(made), wrong(made)) == ({"A": 5, "B": 6}, [(3, "quantity", "is not a whole number")])


@pytest.mark.parametrize("name", ["In stock", "in_stock", "Available", "En stock", "Verfügbar", "Disponible"])
async def test_a_column_of_yes_and_no_is_no_stock(read: Any, name: str) -> None:
    """`1` may mean that there is some. Once it is mapped, or a row has more than one, it is the quantity."""
    with pytest.raises(FileRefused, match="holds nothing but 0 and 1, and may say whether there is any"):
        await read(f"sku;name;{name}\nA;x;1\nB;y;0\n")
    assert stock(await read(f"sku;name;{name}\nA;x;1\nB;y;0\n", map={"quantity": name})) == {"A": 1, "B": 0}
    assert stock(await read(f"sku;name;{name}\nA;x;1\nB;y;2\n")) == {"A": 1, "B": 2}
    assert stock(await read("sku;name;quantity\nA;x;1\nB;y;0\n")) == {"A": 1, "B": 0}


NO_SKUS = {
    "looks like a total": [
        "Total (3 items)", "Total: 5", "Gesamt: 5 Stück", "Gesamtbestand", "Razem", "Итого", "合计", "End of report",
        "Printed on 5 January", "Page 1 of 3", "Seite 2",
    ],
    "looks like a date": ["2026-01-05", "05.01.2026", "1/5/2026", "1.5.", "2026-01-05 00:00:00"],
    "looks like yes or no": ["TRUE", "false", "WAHR"],
    "is no SKU": ["-", "n/a", "N/A", "null", "None", "nan", "undefined", "0", "?"],
    "was shortened": ["123.457E+15", "12E+10"],
    "begins with an apostrophe": ["'00123", "'A-1"],
    "is a formula's error": ["#SPILL!", "#CALC!", "#ÜBERLAUF!", "#NOMBRE?", "#¿NOMBRE?", "Err:502", "#N/D", "#NOM?"],
}  # fmt: skip


@pytest.mark.parametrize(("problem", "sku"), [(problem, sku) for problem, skus in NO_SKUS.items() for sku in skus])
async def test_what_no_sku_is(read: Any, problem: str, sku: str) -> None:
    """Footers, dates, errors and placeholders make no product, although the row has a name and a quantity."""
    made = await read(f'sku,quantity,name\n"{sku}",5,x\nB,1,y\n')
    assert stock(made) == {"B": 1}
    assert wrong(made)[0][:2] == (2, "sku")
    assert wrong(made)[0][2].startswith(problem)


@pytest.mark.parametrize("sku", ["TOTAL-100", "TOTAL QUARTZ 9000", "SUMMIT-1", "05/01", "1.5", "NA-1", "NULL-7", "0-1"])
async def test_what_only_resembles_one_of_those(read: Any, sku: str) -> None:
    assert stock(await read(f"sku,quantity,name\n{sku},5,x\n")) == {sku: 5}


@pytest.mark.parametrize(("one", "other"), [("ab-1", "AB-1"), ("00123", "123"), ("A 1", "A1"), ("\uff211", "a1")])
async def test_two_skus_that_a_spreadsheet_makes_one(read: Any, one: str, other: str) -> None:
    """In one file: which of them is meant is not known."""
    made = await read(f"sku,quantity,name\n{one},5,x\n{other},6,y\nC,1,z\n")
    assert stock(made) == {"C": 1}
    assert [problem for _, _, problem in wrong(made)] == [
        f"differs from {other!r}, which is in the file as well, by no more than a spreadsheet may change",
        f"differs from {one!r}, which is in the file as well, by no more than a spreadsheet may change",
    ]


@pytest.mark.parametrize("name", ["#REF!", "#NOM?", "#VALEUR!", "#SPILL!", "#¿NOMBRE?"])
async def test_an_error_becomes_no_name(read: Any, name: str) -> None:
    assert wrong(await read(f"sku,quantity,name\nA,5,{name}\nB,1,#1 hammer\n")) == [(2, "name", "is a formula's error")]


@pytest.mark.parametrize("cell", ["99¢", "50%", "1e3", "5€50", "12.50 / kg", "2 x 5.00", "(5.00)", "5.00-"])
async def test_what_is_no_price(read: Any, cell: str) -> None:
    """Cents are no euros, and a share is no amount."""
    made = await read(f"sku;quantity;name;price\nA;1;x;{cell}\nB;1;y;2.50\n")
    assert prices(made) == {"B": "2.50"}
    assert [field for _, field, _ in wrong(made)] == ["price"]


async def test_line_ends_that_were_written_twice(read: Any) -> None:
    """A program that makes CRLF of the LF of a CRLF: the rows are all there."""
    made = await read(b"sku,quantity,name\r\r\nA,5,x\r\r\nB,6,y\r\r\n")
    assert (stock(made), made.rows, made.refused) == ({"A": 5, "B": 6}, 2, 0)


async def test_blank_columns_at_the_end_are_none(read: Any) -> None:
    """A spreadsheet writes as many delimiters as it has formatted columns."""
    more = "," * 9_997
    assert stock(await read(f"sku,quantity,name{more}\nA,5,x{more}\n")) == {"A": 5}


async def test_formulas_without_a_value(read: Any) -> None:
    """A program that cannot calculate leaves none, or a 0, and the workbook says that it must be calculated: neither is
    a blank cell, and neither is the stock. A formula whose text is empty is blank.
    """
    rows = [HEAD, ("A", "x", "=1+1", 1), ("B", "y", 2, "=C3*2"), ('="C"', "z", 1, 1), ("D", "w", 4, 1)]
    for blank in ("refuse", "keep", "zero"):
        made = await read(book(("Stock", rows)), blank_quantity=blank)
        assert stock(made) == {"D": 4}
        assert wrong(made) == [
            (2, "quantity", "is a formula"),
            (3, "price", "is a formula"),
            (4, "sku", "is a formula"),
        ]


@pytest.mark.parametrize("is_calculated", [True, False])
async def test_formulas_that_nobody_has_calculated(read: Any, is_calculated: bool) -> None:
    """XlsxWriter writes a value beside each formula, 0 unless it is given one, and has the workbook calculated when it
    is opened. One that Excel has saved does not say so: its values count.
    """
    packed = io.BytesIO()
    made = xlsxwriter.Workbook(packed)
    sheet = made.add_worksheet()
    sheet.write_row(0, 0, HEAD)
    sheet.write_row(1, 0, ["A", "x"])
    sheet.write_formula(1, 2, "=3+4", None, 7 if is_calculated else 0)
    sheet.write_row(2, 0, ["B", "y", 2])
    made.close()
    data = packed.getvalue()
    if is_calculated:
        source, again = zipfile.ZipFile(packed), io.BytesIO()
        with source, zipfile.ZipFile(again, "w") as archive:
            for part in source.namelist():
                archive.writestr(part, source.read(part).replace(b' fullCalcOnLoad="1"', b""))
        data = again.getvalue()
    found = await read(data)
    assert stock(found) == ({"A": 7, "B": 2} if is_calculated else {"B": 2})
    assert wrong(found) == ([] if is_calculated else [(2, "quantity", "is a formula")])


async def test_cells_that_are_shown_as_something_else(read: Any) -> None:
    """Per cents count nothing; a SKU is what is seen, and not the number behind its format."""

    def change(made: Any) -> None:
        sheet = made["Stock"]
        sheet["C2"].number_format = "0%"
        sheet["A3"].number_format, sheet["A4"].number_format = "00-00", '"ART-"0000'
        sheet["A5"].number_format, sheet["C5"].number_format = "#,##0", "#,##0.00"

    rows = [
        HEAD, ("A", "x", 1, 1), (45, "y", 2, 1), (123, "z", 3, 1), (777, "w", 4, 1), (timedelta(hours=30), "v", 5, 1),
        (date(2026, 1, 5), "u", 6, 1), (True, "t", 7, 1),
    ]  # fmt: skip
    made = await read(book(("Stock", rows), change=change))
    assert stock(made) == {"777": 4}
    assert [(line, field) for line, field, _ in wrong(made)] == [
        (2, "quantity"), (3, "sku"), (4, "sku"), (6, "sku"), (7, "sku"), (8, "sku"),
    ]  # fmt: skip
    assert wrong(made)[1][2] == "is shown as another text in the spreadsheet"


async def test_several_sheets_of_stock_are_a_question(read: Any) -> None:
    """Which of January and February is meant is not to be guessed; hidden sheets and other tables do not count."""
    january, february = (("SKU", "Name", "Quantity"), ("A", "x", 1)), (("SKU", "Name", "Quantity"), ("A", "x", 2))
    data = book(("January", january), ("February", february), ("Notes", [("Read me",)]))
    with pytest.raises(FileRefused, match="several sheets hold stock: 'January', 'February'; choose one with"):
        await read(data)
    assert stock(await read(data, sheet="February")) == {"A": 2}

    def hide(made: Any) -> None:
        made["January"].sheet_state = "hidden"

    assert stock(await read(book(("January", january), ("February", february), change=hide))) == {"A": 2}
