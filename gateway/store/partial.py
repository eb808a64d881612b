"""Partial indexes, declared without loading the dialects of databases that nobody uses.

`Index(..., postgresql_where=...)` imports PostgreSQL's dialect when it is declared: 2 MB in every worker.
"""

from typing import Any

from sqlalchemy import Connection, Index, Table, event, text


def limit(table: Table, index: str, **conditions: str) -> None:
    """Limit an index of a table to the rows of a condition, given in SQL by the dialect's name."""

    def work(target: Table, connection: Connection, **_: Any) -> None:
        found: Index = next(each for each in target.indexes if each.name == index)
        found.dialect_options[connection.dialect.name]["where"] = text(conditions[connection.dialect.name])

    event.listen(table, "before_create", work)
