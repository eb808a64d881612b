"""Bring a database's tables to the newest revision, with Alembic."""

from pathlib import Path
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

_MIGRATIONS = Path(__file__).parent / "migrations"
# Arbitrary but fixed: serialise the migrations of a schema over all processes.
_LOCKS = {"control": 727001, "requests": 727002}


def upgrade(connection: Connection, schema: Literal["control", "requests"]) -> None:
    """Run the migrations that are missing, in the transaction that is open."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS / schema))
    config.set_main_option("path_separator", "os")
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCKS[schema]})
    config.attributes["connection"] = connection
    config.attributes["schema"] = schema
    head = ScriptDirectory.from_config(config).get_current_head()
    context = MigrationContext.configure(connection, opts={"version_table": f"alembic_{schema}"})
    if context.get_current_revision() != head:
        command.upgrade(config, "head")
