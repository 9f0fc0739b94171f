"""Which encoding a file is in, decided over all of it: UTF-8 and UTF-16 prove themselves, Windows' Latin (cp1252) must
read as words of Western languages, and everything else is chosen by its sender.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from processors.file.refused import FileRefused
from processors.file.western import is_western

AUTO: Final = ""
LATIN: Final = "cp1252"

ENCODINGS: Final = (
    "utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "iso8859-1", "iso8859-15", "mac-roman", "cp850", "cp437",
    "cp1250", "iso8859-2", "mac-latin2", "cp852", "cp1251", "koi8-r", "cp866", "iso8859-5", "mac-cyrillic", "cp1253",
    "iso8859-7", "cp1254", "iso8859-9", "cp1255", "cp1256", "cp1257", "cp1258", "gb18030", "gbk", "big5", "cp932",
    "shift-jis", "euc-jp", "euc-kr", "cp949",
)  # fmt: skip
"""What a sender may choose."""

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What a file may be that is no Western text in cp1252: how its words would read is shown to its sender.
_LIKELY: Final = (
    "mac-roman", "cp850", "cp1250", "cp1251", "iso8859-2", "cp1253", "cp1254", "gb18030", "cp932", "euc-kr",
)  # fmt: skip
_WORD: Final = re.compile(rb"[A-Za-z0-9\x80-\xff'-]*[\x80-\xff][A-Za-z0-9\x80-\xff'-]*")
_MARKED: Final = re.compile(rb"[\x80-\xff]")
_MOST_WORDS: Final = 200_000  # different ones that are remembered; later ones are looked at each time
_LONGEST_LINE: Final = 1024 * 1024


def chosen(name: str) -> str:
    """The encoding of a name from outside; raises `FileRefused` for one that is not known."""
    if not name.strip():
        return AUTO
    wanted = re.sub(r"[\s_]+", "-", name.strip().lower())
    try:
        codec = codecs.lookup(wanted).name
    except (LookupError, ValueError):
        codec = ""
    for known in ENCODINGS:
        if codec and codecs.lookup(known).name == codec:
            return known
    raise FileRefused(f"the encoding {name[:40]!r} is not known; choose one of {', '.join(ENCODINGS)}")


def marked(head: bytes) -> tuple[str, int]:
    """The encoding that a byte order mark names, and its length; nothing and 0 without one."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    return AUTO, 0


class EncodingScan:
    """Takes a whole file in blocks and says what it is written in. `wanted` is the sender's choice, if there is one."""

    def __init__(self, wanted: str = AUTO) -> None:
        self._wanted = wanted
        self._begin = b""
        self._utf8: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder("utf-8")()
        self._rest = b""
        self._line = 1
        self._unicode = self._latin = 0  # the first line that is UTF-8, and the first that is not
        self._words: set[bytes] = set()
        self._odd: tuple[int, bytes] | None = None  # the first word that is no Western one

    def feed(self, block: bytes) -> None:
        """The next bytes of the file."""
        if len(self._begin) < 4:
            self._begin += block[:4]
        if self._wanted or marked(self._begin)[1]:
            return
        if self._utf8 is not None:
            try:
                self._utf8.decode(block)
            except UnicodeDecodeError:
                self._utf8 = None
            else:
                self._pass(block)
                return
        self._look(block)

    def _pass(self, block: bytes) -> None:
        """Remembers of what is UTF-8 only what is needed should the rest be something else."""
        if not self._unicode and (found := _MARKED.search(block)):
            self._unicode = self._line + _lines(self._rest + block[: found.start()])
        data = self._rest + block
        cut = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if cut == 0 and len(data) > _LONGEST_LINE:
            cut = len(data)
        self._line += _lines(data[:cut])
        self._rest = data[cut:]

    def end(self) -> str:
        """The encoding; raises `FileRefused` when it is none, or cannot be known."""
        encoding, _ = marked(self._begin)
        if self._wanted:
            return {"utf-16": encoding or "utf-16-le"}.get(self._wanted, self._wanted)
        if encoding:
            return encoding
        if self._utf8 is not None:
            try:
                self._utf8.decode(b"", final=True)
            except UnicodeDecodeError:
                self._utf8 = None
        if self._utf8 is not None:
            return "utf-8"
        self._look(b"", is_end=True)
        if self._unicode and self._latin:
            raise FileRefused(
                f"the file mixes encodings: line {self._unicode} is UTF-8 and line {self._latin} is something else: "
                "save it anew, as CSV UTF-8"
            )
        if self._odd is not None:
            raise FileRefused(_unclear(*self._odd))
        return LATIN

    def _look(self, block: bytes, *, is_end: bool = False) -> None:
        """Judges every line by itself; one of more than a megabyte in pieces."""
        data = self._rest + block
        cut = len(data) if is_end or len(data) > _LONGEST_LINE else max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        text, self._rest = data[:cut], data[cut:]
        if text.isascii():
            self._line += _lines(text)
            return
        for line in re.split(rb"\r\n|\n|\r", text):
            if not line.isascii():
                self._judge(line)
            self._line += 1
        self._line -= 1

    def _judge(self, line: bytes) -> None:
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            self._latin = self._latin or self._line
        else:
            self._unicode = self._unicode or self._line
            return
        if self._odd is not None:
            return
        for word in _WORD.findall(line):
            if word in self._words:
                continue
            if not is_western(word):
                self._odd = (self._line, word)
                return
            if len(self._words) < _MOST_WORDS:
                self._words.add(word)


def _lines(text: bytes) -> int:
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")


def _unclear(line: int, word: bytes) -> str:
    """The words for the sender of a file whose encoding is not to be guessed, with how a word would read in some."""
    readings = []
    for encoding in _LIKELY:
        try:
            text = word.decode(encoding)
        except UnicodeDecodeError:
            continue
        if text.isprintable() and any(c.isalpha() for c in text):
            readings.append(f"{text[:20]!r} in {encoding}")
    shown = word.decode(LATIN, "replace")[:20]
    return (
        f"line {line} is not UTF-8, and {shown!r} is no word of Windows' Latin (cp1252): save the file as CSV UTF-8, "
        "or choose its encoding" + (f"; the word is {', '.join(readings[:5])}" if readings else "")
    )[:480]
