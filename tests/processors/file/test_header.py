"""Header lines: which column is which by its name, when the sender is asked, and what a sender can say."""

from __future__ import annotations

import pytest

from processors.file.header import Header, is_name_of, may_be_flag, missing, read_header
from processors.file.refused import FileRefused


def read(line: str, location: str = "", **mapping: str) -> Header:
    """The header of a line with commas."""
    return read_header(line.split(","), mapping, location)


def columns(line: str, **mapping: str) -> dict[str, str]:
    """Where the fields of a line are: field -> the name of its column."""
    header = read(line, **mapping)
    return {name: header.cells[number] for name, number in header.columns.items()}


def quantity(line: str, location: str = "", **mapping: str) -> tuple[list[str], dict[str, str]]:
    """The columns that make the quantity, and those that count instead of one of them, by their names."""
    header = read(line, location, **mapping)
    cells = header.cells
    return [cells[number] for number in header.quantities], {cells[a]: cells[b] for a, b in header.instead.items()}


def test_a_name_is_known_however_it_is_written() -> None:
    """Case, spaces, accents, punctuation, and what is in brackets."""
    assert columns(" SKU ,QTY-on_hand,Désignation,Price (EUR),Reorder Level [min],Catégorie") == {
        "sku": "SKU", "quantity": "QTY-on_hand", "name": "Désignation", "price": "Price (EUR)",
        "threshold": "Reorder Level [min]", "category": "Catégorie",
    }  # fmt: skip
    assert is_name_of("sku", " Item  SKU")
    assert not is_name_of("quantity", "Item SKU")
    assert not is_name_of("sku", "")
    assert may_be_flag("In Stock")
    assert not may_be_flag("Stock")


def test_the_better_name_wins() -> None:
    """A name of an earlier rank; what merely holds "sku" comes after those that are one, and before all others."""
    assert columns("Reference,Artikelnummer,Bestand")["sku"] == "Artikelnummer"
    assert columns("Artikelnummer,My SKU code,Bestand")["sku"] == "My SKU code"
    assert columns("My SKU code,Variant SKU,Bestand")["sku"] == "Variant SKU"
    assert columns("Vendor SKU,Artikelnummer,qty")["sku"] == "Artikelnummer", "of somebody else's SKU none is made"
    assert columns("sku,qty,description,product name")["name"] == "product name"
    assert columns("sku,qty,title,name")["name"] == "name", "of one rank the earlier one in the list"


def test_a_column_is_one_field() -> None:
    """The item is the SKU where nothing else is, and the name where something is."""
    assert columns("Item,qty") == {"sku": "Item", "quantity": "qty"}
    assert columns("Item,qty,sku") == {"sku": "sku", "quantity": "qty", "name": "Item"}


def test_two_that_could_be_it_are_a_question() -> None:
    """For the SKU and the quantity; the question has the answer to copy. Nothing is read before it is answered."""
    header = read("sku,qty,stock,name")
    assert header.question == ("two columns could be the quantity: 'qty' and 'stock'; choose one: map quantity='qty'")
    assert (header.is_complete, header.quantities, missing(header)) == (False, [], header.question)
    assert header.columns["name"] == 3
    assert read("sku,stock,on hand,qty").question.startswith("3 columns could be the quantity: 'stock' and 'on hand'")
    assert read("qty,item no,part no").question.startswith("two columns could be the sku: 'item no' and 'part no'")
    assert read("item no,part no,qty,stock").question.count("; choose one: map ") == 2
    assert read("sku,qty,stock", quantity="stock").question == ""


def test_of_two_prices_with_and_without_tax_none_is_chosen() -> None:
    """But of two that are just the price the first."""
    assert "price" not in columns("sku,qty,Price tax incl,Price tax excl")
    assert read("sku,qty,price,price").columns["price"] == 2
    assert columns("sku,qty,Price tax incl,price")["price"] == "price"


def test_the_language_says_the_decimal_sign() -> None:
    """A comma if one of the columns that are read is not English."""
    assert not read("sku,qty,price").is_comma
    assert read("sku,qty,Preis").is_comma
    assert read("sku,Menge,price").is_comma
    assert not read("sku,qty,price,Farbe").is_comma


def test_a_yes_or_no_is_no_quantity() -> None:
    assert quantity("sku,In stock?,qty") == (["qty"], {})
    assert not read("sku,In stock?").is_complete


def test_a_new_quantity_counts_where_something_was_counted() -> None:
    """The current one holds where it is blank: the one of the same name, or the only other one."""
    assert quantity("sku,New Quantity,Current Quantity") == (["Current Quantity"], {"Current Quantity": "New Quantity"})
    assert quantity("sku,counted quantity,on hand") == (["on hand"], {"on hand": "counted quantity"})
    assert quantity("sku,on hand (new),on hand (current),available") == (
        ["on hand (current)"], {"on hand (current)": "on hand (new)"},
    )  # fmt: skip
    assert quantity("sku,counted quantity,stock,available") == (["counted quantity"], {})
    assert quantity("sku,counted quantity") == (["counted quantity"], {})
    # Who maps it means that column, whatever its name is.
    assert quantity("sku,New Quantity,Current Quantity", quantity="New Quantity") == (["New Quantity"], {})


WIDE = "sku,Current Quantity Berlin,Current Quantity Ulm (Mitte),New Quantity Berlin"


def test_a_column_for_each_location() -> None:
    """One is taken; of several the sender chooses one, or all of them together."""
    assert quantity("sku,Current Quantity Berlin,New Quantity Berlin") == (
        ["Current Quantity Berlin"], {"Current Quantity Berlin": "New Quantity Berlin"},
    )  # fmt: skip
    assert quantity("sku,New Quantity Berlin") == (["New Quantity Berlin"], {})
    header = read(WIDE)
    assert header.question == (
        "the file has several locations: 'Berlin', 'Ulm (Mitte)'; choose one of them (location='Berlin'), or all of "
        "them together (location='sum')"
    )
    assert not header.is_complete
    one = (["Current Quantity Berlin"], {"Current Quantity Berlin": "New Quantity Berlin"})
    assert quantity(WIDE, "BERLIN") == one
    assert quantity(WIDE, "Sum") == (["Current Quantity Berlin", "Current Quantity Ulm (Mitte)"], one[1])
    with pytest.raises(FileRefused, match="there is no location 'Bonn' in the file; it has 'Berlin', 'Ulm"):
        read(WIDE, "Bonn")
    assert "'Bonn', 'Ulm'" in read("sku,on hand at (Bonn),on hand at [Ulm]").question
    # What stands behind the name is no location; and a plain quantity comes first.
    assert quantity("sku,inventory value,inventory status,inventory Ulm") == (["inventory Ulm"], {})
    assert quantity("sku,inventory Ulm,inventory Berlin,qty") == (["qty"], {})
    assert quantity(WIDE, quantity="New Quantity Berlin") == (["New Quantity Berlin"], {})
    assert not read(WIDE, quantity="").is_complete, "left out is left out"


def test_numbers_beside_those_that_are_imported() -> None:
    """They show how the file writes decimals; a code or a date shows nothing."""
    header = read("sku,qty,cost,weight (kg),cost code,colour")
    assert [header.cells[number] for number in header.numbers] == ["cost", "weight (kg)"]
    assert read("sku,qty,price").numbers == []


def test_a_sender_says_which_column_is_which() -> None:
    """By its name, as it is written or nearly so, or by its place; an empty name leaves the field out."""
    line = "Code,Zahl,zahl,name"
    assert read(line, quantity="zahl").columns["quantity"] == 2
    assert read(line, quantity=" Zahl ").columns["quantity"] == 1
    assert read(line, quantity="#3").columns["quantity"] == 2
    assert read(line, quantity="#4", name="").columns == {"sku": 0, "quantity": 3}
    assert columns("Meine Nummer,qty", sku="meine-nummer") == {"sku": "Meine Nummer", "quantity": "qty"}
    for wanted, said in {
        "Menge": "no column is called 'Menge', which quantity is mapped to; the file has 'Code', 'Zahl', 'zahl'",
        "ZAHL": "2 columns are called 'ZAHL'", "#0": "no column is", "#5": "no column is", "--": "no column is",
    }.items():  # fmt: skip
        with pytest.raises(FileRefused) as refused:
            read(line, quantity=wanted)
        assert str(refused.value).startswith(said)
        assert str(refused.value).endswith("; #1 is the first column, #2 the second") == said.startswith("2")
    with pytest.raises(FileRefused, match=r"'colour' cannot be mapped; the fields are sku, quantity, .* and location"):
        read(line, colour="name")


def test_what_is_missing_is_said_with_what_is_there() -> None:
    """At most eight columns of it."""
    assert missing(read("name,price")) == (
        "the first line names no column for sku and quantity; it has 'name', 'price'; say which it is: map sku=NAME"
    )
    assert missing(read("sku,price")).endswith("map quantity=NAME")
    assert "for quantity; it has 'sku'," in missing(read("sku,price"))
    assert "for sku; it has 'qty';" in missing(read("qty"))
    eight = ",".join("abcdefgh")
    assert "'h'; say" in missing(read(eight))
    assert "'h', ...; say" in missing(read(f"{eight},i"))


def test_a_line_may_be_long() -> None:
    """200 columns, of which those at the end that are blank do not count; more are no header."""
    filler = [f"c{number}" for number in range(198)]
    assert read_header(["sku", "qty", *filler]).is_complete
    assert read_header(["sku", "qty", *filler, " ", ""]).is_complete
    with pytest.raises(FileRefused, match="the file has 201 columns; 200 is the most"):
        read_header(["sku", "qty", *filler, "x"])
