"""Check: something the demo says, with what was found when it was checked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """`text` is what should be true, `held` whether it is, `found` what was measured."""

    text: str
    held: bool
    found: str = ""


class NotInTime(Exception):
    """Something that the demo waited for did not happen."""
