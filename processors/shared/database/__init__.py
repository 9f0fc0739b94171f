"""The business database, which the processors share: businesses, their products and stock, what was sold, imported,
exported and reported. It is not a processor and knows none.

`python -m processors.shared.database upgrade` makes the tables, `... seed` fills them with a made-up history.
"""

from streams.errors import APPLICATION, extra

with extra("database", of=APPLICATION, for_="processors.shared.database"):
    from processors.shared.database.database import Database, open_database
    from processors.shared.database.inbox import BusinessInbox

__all__ = ["BusinessInbox", "Database", "open_database"]
