"""Transactions with a SQL database: effects that happen once (`SqlInbox`), events that are published if and only if
what they report was committed (`Outbox`, and the relay that `python -m streams.sql.relay` runs).

On top of the engine: may import every package but `cli` and `testing`. `streams.sql.relay` is not imported
here, because it is a program as well.
"""

from streams.errors import extra

with extra("sql", for_="streams.sql"):
    from streams.sql.engine import make_engine
    from streams.sql.error_classes import is_away, is_transient
    from streams.sql.inbox import CurrentTransaction, SqlInbox
    from streams.sql.outbox import Outbox
    from streams.sql.settings import SqlSettings
    from streams.sql.tables import create_tables, metadata

__all__ = [
    "CurrentTransaction",
    "Outbox",
    "SqlInbox",
    "SqlSettings",
    "create_tables",
    "is_away",
    "is_transient",
    "make_engine",
    "metadata",
]
