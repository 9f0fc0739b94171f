"""OpenBook: an Excel workbook (XLSX) that is read as a stream, once it is known that it can be."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any, Final, Self
from xml.etree.ElementTree import ParseError

from processors.file.dialect import what_it_is
from processors.file.refused import FileRefused

MARK: Final = b"PK\x03\x04"
"""What a workbook begins with, as any ZIP archive does."""

MOST_UNPACKED: Final = 400 * 1024 * 1024  # bytes of a workbook's parts; 200,000 rows of ten columns have about 90 MB
_MOST_STRINGS: Final = 100 * 1024 * 1024  # bytes: they are held in memory
_MOST_PARTS: Final = 2_000
BROKEN: Final = (
    KeyError, ValueError, TypeError, IndexError, AttributeError, OSError, EOFError, ParseError, SyntaxError,
)  # fmt: skip
"""What openpyxl raises for a workbook that is damaged."""

_DOCUMENT_TYPE: Final = (b"<!DOCTYPE", b"<!ENTITY", "<!DOCTYPE".encode("utf-16-le"), "<!DOCTYPE".encode("utf-16-be"))


class OpenBook:
    """A workbook that is read as a stream. Raises `FileRefused` for what is none, or unpacks to too much."""

    def __init__(self, path: Path) -> None:
        import openpyxl

        self.is_stale = _check_archive(path)
        self._file = path.open("rb")  # by what it holds: the name says nothing
        try:
            self.book: Any = openpyxl.load_workbook(self._file, read_only=True, data_only=True, keep_links=False)
        except (zipfile.BadZipFile, *BROKEN) as error:
            self._file.close()
            raise FileRefused(damaged(error)) from None

    def close(self) -> None:
        """Closes the file."""
        self.book.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def damaged(error: Exception) -> str:
    """The words for the sender of a workbook that cannot be read."""
    return f"the workbook is damaged ({type(error).__name__}): save it anew, or as CSV UTF-8"


def _check_archive(path: Path) -> bool:
    """Whether its formulas are to be calculated by the program that opens it: their values are not to be trusted then.

    Raises `FileRefused` for what is no workbook, or unpacks to too much.
    """
    is_stale = False
    with path.open("rb") as file:
        head = file.read(4096)
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            names = {part.filename for part in parts}
            if "xl/workbook.bin" in names:
                raise FileRefused("the file is an Excel workbook in binary (.xlsb): save it as .xlsx or CSV UTF-8")
            if "content.xml" in names and "mimetype" in names:
                raise FileRefused("the file is an OpenDocument spreadsheet (.ods): save it as .xlsx or CSV UTF-8")
            if "xl/workbook.xml" not in names:
                raise FileRefused(what_it_is(head))
            strings = sum(part.file_size for part in parts if part.filename.lower().endswith("sharedstrings.xml"))
            # What a part says of its size is what is read of it, not more.
            if (
                len(parts) > _MOST_PARTS
                or sum(part.file_size for part in parts) > MOST_UNPACKED
                or strings > _MOST_STRINGS
            ):
                raise FileRefused("the workbook holds too much to be unpacked: save the sheet as CSV UTF-8")
            if len(names) != len(parts):
                raise FileRefused("the workbook is damaged: it has two parts of one name")
            for part in parts:
                if part.filename.lower().endswith((".xml", ".rels")):
                    with archive.open(part) as opened:
                        begins = opened.read(16_384)
                    if part.filename == "xl/workbook.xml":
                        is_stale = re.search(rb'fullCalcOnLoad="(?:1|true)"', begins) is not None
                    if any(mark in begins for mark in _DOCUMENT_TYPE):
                        raise FileRefused("the workbook has a document type, which no workbook needs: save it anew")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError):
        raise FileRefused(what_it_is(head)) from None
    return is_stale
