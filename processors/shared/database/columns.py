"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import BigInteger, DateTime, Dialect, Float, Integer, Numeric
from sqlalchemy.types import TypeDecorator, TypeEngine

BigKey: Final = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit number that the database gives. Only an INTEGER key counts by itself on SQLite."""


class Instant(TypeDecorator[datetime]):
    """A moment with its time zone, always UTC when it is read.

    SQLite keeps text without a zone: written as UTC in one format, it sorts and compares as the moments do.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuses a moment without a zone, which would be read as a different one elsewhere."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs a time zone: datetime.now(UTC)")
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Gives it its zone."""
        return value if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Money(TypeDecorator[Decimal]):
    """An amount with two decimals, a `Decimal` in Python.

    PostgreSQL keeps NUMERIC(12, 2). SQLite has no decimals: there it is a REAL, which keeps 12 digits exactly, so that
    sums in SQL work the same, and is rounded to the cent when it is read.
    """

    impl = Numeric(12, 2)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """What the dialect stores."""
        kind: TypeEngine[Any] = Float() if dialect.name == "sqlite" else Numeric(12, 2)
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Decimal | float | None:
        """Writes a Decimal as what the dialect stores."""
        return float(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ARG002
        """Reads it to the cent."""
        return None if value is None else Decimal(value).quantize(Decimal("0.01"))
