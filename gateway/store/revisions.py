"""Which revision the tables should have, and which they have, without Alembic.

Alembic is large and slow to import, and most processes find their tables up to date.
"""

from functools import cache
from pathlib import Path

from sqlalchemy import Connection, inspect, text

MIGRATIONS = Path(__file__).parent / "migrations"


@cache
def newest_written(schema: str) -> str:
    """Return the newest revision of a schema: the files of migrations begin with theirs."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / schema / "versions").glob("[0-9]*.py"))


def is_newest(connection: Connection, schema: str) -> bool:
    """Whether a database's tables have the newest revision of this Turnout."""
    table = f"alembic_{schema}"
    if not inspect(connection).has_table(table):
        return False
    found = connection.execute(text(f"SELECT version_num FROM {table}")).scalars().all()  # noqa: S608 - ours
    return found == [newest_written(schema)]
