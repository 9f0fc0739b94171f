"""How files are read: numbers, quotes, line ends and encodings. What has two readings is refused in words."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest

from processors.file.decimals import clean_numbers, kinds
from processors.file.dialect import HEAD, read_dialect
from processors.file.refused import FileRefused
from processors.file.survey import Survey

Rows = list[tuple[Any, ...]]


def stock(made: Survey) -> dict[str, int]:
    """What would be written."""
    assert made.preview is not None
    return dict(made.preview.select("sku", "quantity").iter_rows())


def prices(made: Survey) -> dict[str, str]:
    assert made.preview is not None
    return dict(made.preview.select("sku", "price").iter_rows())


def wrong(made: Survey) -> list[tuple[int, str, str]]:
    return [(problem["line"], problem["field"], problem["problem"]) for problem in made.problems]


GERMAN = "SKU;Bezeichnung;Bestand;Preis\n"


@pytest.mark.parametrize(
    ("data", "meant"),
    [
        ("SKU;Bezeichnung;Bestand\nA;Schraube;1.000\n", 1000),
        (f"{GERMAN}A;Schraube;1.000;5\nB;x;1;25\n", 1000),
        ("Artikelnummer;Bezeichnung;Bestand\nA;Schraube;5,000\n", 5),
        ('SKU,Name,On hand,Price\nA,Screw,"1,000",12.50\n', 1000),
        ('SKU,Name,On hand,Price\nA,Screw,1.000,"12,50"\n', 1000),
        ("SKU,Name,On hand,Price\nA,Screw,5.000,12.50\n", 5),
        ("SKU,Name,On hand\nA,Screw,1.000\nB,Nail,0.000\n", 1),  # nobody writes 0.000 for a thousand
        ('SKU,Name,On hand\nA,Screw,"1,000"\nB,Nail,"1,234,567"\n', 1000),
        ("SKU,Name,On hand,Unit cost\nA,Screw,5.000,7.25\n", 5),  # a column that is not imported, but has numbers
        ("sku,name,quantity\nA,Screw,1'000\n", 1000),
        ("sku,name,quantity\nA,Screw,1’000\n", 1000),
        ("sku,name,quantity\nA,Screw,1\u202f000\n", 1000),
        ("sku,name,quantity\nA,Screw,+3\n", 3),
        ("sku,name,quantity\nA,Screw,5.\n", 5),
        ("sku,name,quantity\nA,Screw,\u200e12\u200f\n", 12),
        ('sku,name,quantity\nA,Screw,"12,34,567"\n', 1_234_567),
    ],
)
async def test_what_the_file_itself_decides(read: Any, data: str, meant: int) -> None:
    """Each cell of the file, and its delimiter with its language, say which sign is the decimal one."""
    made = await read(data)
    assert stock(made)["A"] == meant
    assert made.refused == 0


@pytest.mark.parametrize("rows", [2, 25_000])
@pytest.mark.parametrize("is_first", [True, False])
async def test_the_order_of_rows_decides_nothing(read: Any, rows: int, is_first: bool) -> None:
    """The only row that says how numbers are written may be the last one of many."""
    many = [f"A-{n};Ding;1.000;5" for n in range(rows)]
    lines = ["B-1;Thing;3;5,50", *many] if is_first else [*many, "B-1;Thing;3;5,50"]
    made = await read("sku;name;stock;price\n" + "\n".join(lines) + "\n")
    assert (made.rows, made.refused) == (rows + 1, 0)
    assert stock(made)["A-0"] == 1000


async def test_a_cell_with_two_readings_is_a_problem_of_its_row(read: Any) -> None:
    """With both of them; a choice of the sender answers it."""
    data = "sku,name,quantity,price\nA,Screw,1.000,5\nB,Nail,7,\nC,Saw,12,1.250\n"
    made = await read(data)
    assert wrong(made) == [(2, "quantity", "could be 1000 or 1"), (4, "price", "could be 1250 or 1.25")]
    assert stock(made) == {"B": 7}
    assert (stock(await read(data, decimal=","))["A"], stock(await read(data, decimal="."))["A"]) == (1000, 1)


async def test_contradictions_are_refused_with_both_lines(read: Any) -> None:
    """One mistyped cell turns no file; what is chosen makes it a problem of its row."""
    data = 'SKU,Name,On hand,Price\nA,Screw,"1,000",12.50\nB,Nail,3,4\nC,Saw,1,"8,5"\n'
    with pytest.raises(FileRefused, match=r"line 2 has a decimal point \('12.50'\) and line 4 a decimal comma"):
        await read(data)
    made = await read(data, decimal=".")
    assert wrong(made) == [(4, "price", "has a decimal comma, and the chosen one is the point")]
    assert stock(made) == {"A": 1000, "B": 3}


@pytest.mark.parametrize(
    ("cell", "price"),
    [
        ("USD 12.50", "12.50"), ("12.50 USD", "12.50"), ("CHF 12.50", "12.50"), ("R$ 12.50", "12.50"),
        ("¥1200", "1200"),
        ("12.50 kr", "12.50"), (".50", "0.50"), ("12.500", "12.50"), ("$1,019.50", "1019.50"), ("12.-", "12"),
    ],
)  # fmt: skip
async def test_prices_in_any_currency(read: Any, cell: str, price: str) -> None:
    """Signs and codes of currencies are no part of the number."""
    made = await read(f'sku,name,quantity,price\nA,Screw,1,"{cell}"\nB,Nail,1,0.25\n')
    assert (prices(made)["A"], made.refused) == (price, 0)


@pytest.mark.parametrize("cell", ["１２", "١٢", "१२", "1２"])
async def test_digits_of_every_script(read: Any, cell: str) -> None:
    """They are the numbers that they are, as quantities and as prices."""
    made = await read(f"sku,name,quantity,price,min stock\nA,Screw,{cell},{cell}.50,{cell}\n")
    assert (stock(made), prices(made), made.refused) == ({"A": 12}, {"A": "12.50"}, 0)


@pytest.mark.parametrize(
    "cell", ["12 34", "1.2.3", "²", "1e3", "①", "1/2", "12 pcs", "１２,３4５.６7,8", "0x10", "NaN", "٣٫٥"]
)
async def test_what_is_no_number_is_refused(read: Any, cell: str) -> None:
    """Nothing of it is guessed."""
    made = await read(f'sku,name,quantity\nA,Screw,"{cell}"\n')
    assert wrong(made) == [(2, "quantity", "is not a whole number")]


@pytest.mark.parametrize("cell", ["-3", "−3", "(3)", "3-"])
async def test_negative_stock_is_named_as_such(read: Any, cell: str) -> None:
    """In all the ways in which it is written: never as 3."""
    assert wrong(await read(f"sku,name,quantity\nA,Screw,{cell}\n")) == [(2, "quantity", "is negative")]


QUOTES = {
    "lost at the end": (
        'SKU;Menge;Name;Note\nA;10;Hammer;"Regal oben\nB;20;Saw;\nC;30;Nail;"unten"\n',
        "line 2",
    ),
    "an inch mark alone": ('SKU,Menge,Name,Note\nA,1,x,\nB,2,Pipe,"\nC,3,Saw,\nD,4,Pipe,"\nE,5,y,\n', "line 3: a"),
    "within a field": ('sku,quantity,name\nA,1,"Pipe 1/2" brass"\n', "line 2: .*written twice"),
    "with a backslash": ('sku,quantity,name\nA,1,"Pipe 1/2\\" brass"\n', r'written twice, and not as \\"'),
    "never closed": ('sku,quantity,name\nA,1,"x\n' + "B,2,x\n" * 100, "line 2: .* and never closed"),
    "rows within a name": ('sku,name,quantity\nA,"Hammer,1\nB,Saw",2\nC,Nail,3\n', "line 2: a quote is opened here"),
}  # fmt: skip


@pytest.mark.parametrize("case", QUOTES)
async def test_lost_quotes_swallow_no_rows(read: Any, case: str) -> None:
    """The file is refused with the line: nobody can say where the field should end."""
    data, message = QUOTES[case]
    with pytest.raises(FileRefused, match=message):
        await read(data)


async def test_quotes_as_spreadsheets_write_them(read: Any) -> None:
    """Doubled ones, line breaks in cells, delimiters in cells; rows are counted as a spreadsheet does."""
    made = await read(
        'sku,quantity,name,note\nA,1,"ok ""quoted""","one, two\nthree, four"\n\nB,many,Pipe 1/2",\n"C",3,"x, y","z"\n'
    )
    assert made.preview is not None
    assert made.preview["name"].to_list() == ['ok "quoted"', "x, y"]
    assert [(problem["line"], problem["row"]) for problem in made.problems] == [(5, 4)]


@pytest.mark.parametrize("quoted", ["B,2,y", '"B",2,"y"'])
@pytest.mark.parametrize("size", [2, 4_999, 5_001, 20_001])
async def test_what_a_line_becomes_does_not_depend_on_the_others(read: Any, quoted: str, size: int) -> None:
    """A lone carriage return, delimiters at the end of rows, blank lines: the same with a quote in the file or none."""
    lines = [f"S{n},1,x," for n in range(size)]
    lines[size // 2] = "A,1,Ha\rmmer"
    made = await read("sku,quantity,name\r\n" + "\r\n".join([*lines, "", quoted, "C,3,z,,"]) + "\r\n")
    assert wrong(made) == [(size // 2 + 2, "name", "has control characters")]
    assert made.rows == size + 2


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"sku,quantity,name,note\nA,1,Hammer,x\x0by\n", {"A": 1}),
        (b"sku,quantity,name\nA,1,Hammer\n\x1a", {"A": 1}),
        (b'sku,quantity,name,note\rA,1,Hammer,"a\nb"\rB,2,Saw,x\r', {"A": 1, "B": 2}),
        (b'"sku\nno",quantity,name\rA,1,Hammer\r', {"A": 1}),
        (b'sku,quantity,name\n="00123",="5",Hammer\n', {"00123": 5}),
        (b"sep=;;\nsku;quantity;name\nA;1;x\n", {"A": 1}),
        (b'"sep=;"\nsku;quantity;name\nA;1;x\n', {"A": 1}),
        (b"My shop,,\n\nInventory as of today,,\nSKU,On hand,Name\nA,1,x\n", {"A": 1}),
        ("sku,quantity,name\nA,1,@home lamp\nB,2,-20°C gloves (pair)\n".encode(), {"A": 1, "B": 2}),
    ],
)
async def test_files_of_other_programs(read: Any, data: bytes, expected: dict[str, int]) -> None:
    """FileMaker, DOS, Excel for the Mac and its tricks, titles above the first line."""
    made = await read(data)
    assert (stock(made), made.refused) == (expected, 0)


LATIN = [
    "Säge für Fußböden",
    "crème brûlée",
    "niño",
    "Größe M8×40",
    "Smørrebrød",
    "20°C",
    "„groß“",
    "O’Neill",
    "Citroën",
]


@pytest.mark.parametrize("name", LATIN)
@pytest.mark.parametrize("before", [0, 6_000])
async def test_latin_of_windows_is_read(read: Any, name: str, before: int) -> None:
    """Wherever its first word with a mark stands: ASCII before it is both."""
    rows = "".join(f"S{n};1;x\n" for n in range(before))
    made = await read(f"sku;quantity;name\n{rows}U;5;{name}\n".encode("cp1252"))
    assert (made.dialect.encoding, made.rows, made.refused) == ("cp1252", before + 1, 0)


OTHER = {
    "mac-roman": ["Säge für Fußböden", "niño", "Blåbær"], "cp1250": ["Łożysko", "kůň", "Wkręt"], "cp1251": ["А-1 Винт"],
    "gb18030": ["锤子"], "cp850": ["Säge"], "cp1253": ["Σφυρί"], "cp1254": ["Işık"], "koi8-r": ["Винт"],
    "cp932": ["ハンマー"],     "euc-kr": ["나사"], "iso8859-2": ["łóżko"], "cp1257": ["žvakė"],
}  # fmt: skip


@pytest.mark.parametrize(("encoding", "name"), [(encoding, name) for encoding in OTHER for name in OTHER[encoding]])
async def test_other_encodings_are_chosen_and_never_guessed(read: Any, encoding: str, name: str) -> None:
    """No gibberish is written: without the choice the file is refused, and the refusal says how to choose."""
    data = f"sku;quantity;name\nA;5;{name}\n".encode(encoding)
    with pytest.raises(FileRefused, match="save the file as CSV UTF-8, or choose its encoding"):
        await read(data)
    made = await read(data, encoding=encoding)
    assert made.preview is not None
    assert made.preview["name"].to_list() == [name]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("order", [0, 1, 2])
async def test_mixed_encodings_are_refused(read: Any, newline: str, order: int) -> None:
    """Each line counts, the first and the last as well, whatever ends it."""
    lines = [b"A;5;" + "Säge".encode(), b"B;1;x", b"C;7;" + "Öl".encode("cp1252")]
    lines = lines[order:] + lines[:order]
    data = newline.encode().join([b"sku;quantity;name", *lines, b""])
    with pytest.raises(FileRefused, match=r"mixes encodings: line . is UTF-8 and line . is something else"):
        await read(data)


async def test_each_word_of_a_line_counts(read: Any) -> None:
    """Also behind one that was seen before, which says nothing about it."""
    known, other = "Säge".encode("cp1252"), "Привет".encode("cp1251")
    data = b"sku;quantity;name\nA;5;" + known + b"\nB;1;" + known
    assert (await read(data + b"\n")).refused == 0
    with pytest.raises(FileRefused, match=r"line 3 is not UTF-8, and .* is no word of Windows' Latin"):
        await read(data + b" " + other + b"\n")


async def test_a_latin_space_in_utf8(read: Any) -> None:
    """One byte of Latin turns no umlauts of the same line."""
    with pytest.raises(FileRefused):
        await read("sku;quantity;name\nA;5;Säge".encode() + b"\xa0x\nB;1;y\n")


async def test_utf16_and_unknown_choices(read: Any) -> None:
    """UTF-16 with its mark is read; without it the refusal says what to choose."""
    text = "sku;quantity;name\nA;5;Säge\n"
    for encoding in ("utf-16", "utf-8-sig"):
        assert stock(await read(text.encode(encoding))) == {"A": 5}
    bare = text.encode("utf-16-le")
    with pytest.raises(FileRefused, match="choose the encoding utf-16-le"):
        await read(bare)
    assert stock(await read(bare, encoding="UTF-16LE")) == {"A": 5}
    with pytest.raises(FileRefused, match="the encoding 'klingon' is not known; choose one of utf-8, "):
        await read(text, encoding="klingon")
    with pytest.raises(FileRefused, match=r"the file is utf-8 up to about line|is not written in utf-8"):
        await read(text.encode("cp1252"), encoding="utf-8")


WORST = [
    " ",
    "0",
    "1,",
    "1.",
    "€",
    "'",
    '"',
    ";",
    ",",
    "=",
    "-",
    "(",
    "\t",
    "\u00a0",
    "٣",
    "1 ",
    "Ä",
    "[",
    "A",
    "\\",
    "é’",
    "1'",
]


@pytest.mark.parametrize("character", WORST)
async def test_a_megabyte_of_one_character_takes_no_time(read: Any, character: str) -> None:
    """In the head of a file, in a cell of each column: no pattern takes longer than its text is long."""
    flood = (character * 1_000_000)[:1_000_000]
    head = f"sku;quantity;name;price\nA;1;x;{flood}".encode()[:HEAD]
    began = time.process_time()
    with suppress(FileRefused):
        read_dialect(head, is_all=False)
    assert time.process_time() - began < 2
    for data in (f"sku;quantity;name;price\n{flood};{flood};x;1\n", f"sku;quantity;name;price\nA;1;{flood};{flood}\n"):
        for encoding in ("utf-8", "cp1252"):
            began = time.process_time()
            with suppress(FileRefused):
                await read(data.encode(encoding, "replace"))
            assert time.process_time() - began < 4, encoding


@pytest.mark.parametrize("character", WORST)
def test_a_number_of_a_megabyte_takes_no_time(character: str) -> None:
    """Behind the limits of lines as well."""
    import polars as pl

    began = time.process_time()
    cells = clean_numbers(pl.Series([character * 1_000_000, "1" + character * 1_000_000 + "x"]), is_price=True)
    kinds(cells)
    assert time.process_time() - began < 4
