"""Failure groups: dead letters that failed in the same way, counted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.messages.letter import Letter


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """All dead letters of one fingerprint: how many, when the first and the last were given up, and one of them, the
    newest, by its id and error.
    """

    fingerprint: str
    type: str
    reason: str
    count: int
    first: str
    last: str
    example: str
    error: str

    @classmethod
    def of(cls, letter: Letter) -> FailureGroup:
        """The kind of one letter."""
        at = letter.last_failed_at
        return cls(letter.fingerprint, letter.type, letter.reason, 1, at, at, letter.id, letter.error)

    def with_one_more(self, letter: Letter) -> FailureGroup:
        """The same with a newer letter in it."""
        return replace(
            self, count=self.count + 1, last=letter.last_failed_at, example=letter.id, error=letter.error
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)
