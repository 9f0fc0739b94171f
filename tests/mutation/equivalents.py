"""Equivalents: changes that no test can notice, and why. They are left out of the sample.

An entry goes by the file and by the lines before and after the change, and not by a line number: it stays true while
the code around it moves, and ends when the code itself changes.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Equivalent(NamedTuple):
    """One change; `old` and `new` are the changed lines without their indentation, joined by a space."""

    file: str
    old: str
    new: str
    reason: str


EQUIVALENTS: Final[tuple[Equivalent, ...]] = ()
