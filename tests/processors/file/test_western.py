"""Western: which bytes over 127 are letters of a Western language, and which are another encoding's."""

from __future__ import annotations

import pytest

from processors.file.western import is_western


@pytest.mark.parametrize("letters", [4, 199, 200, 201, 100_000])
def test_what_is_longer_than_any_word_is_none(letters: int) -> None:
    """Such a run of bytes is no text: it says nothing about the encoding of a file, and costs no time."""
    word = "Ä".encode("cp1252") + b"a" * (letters - 1)
    assert is_western(word) == (letters <= 200)
