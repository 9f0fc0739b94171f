"""Phrases: the parts that texts for people share: a number with its thing, and the name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def counted(number: int, thing: str, plural: str = "") -> str:
    """`1 entry`, `1,234 entries`; the plural ends in `s` unless it is given."""
    return f"{number:,} {thing if number == 1 else plural or f'{thing}s'}"


def meant(name: str, known: Iterable[str], otherwise: str, *, most: int = 1, cutoff: float = 0.6) -> str:
    """`did you mean NAME?` with at most `most` that are alike in any case, or what to say `otherwise`."""
    spelled = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), spelled, most, cutoff)
    return f"did you mean {' or '.join(spelled[each] for each in close)}?" if close else otherwise


def listed(names: Iterable[str]) -> str:
    """`there are: a, b`."""
    return f"there are: {', '.join(sorted(names)) or 'none yet'}"
